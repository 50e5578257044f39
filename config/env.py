"""The environment: the only reader of `os.environ`. Everything else imports the typed, frozen `env`.

Order: the process environment, then `.env` beside `manage.py`, then `$SLUICE_HOME/run.env`, which `make up` writes so that
`manage.py` in a second terminal talks to the servers that are running. `python -m config.env` prints `.env.example`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BadEnvironment(Exception):
    """A variable is missing or malformed. The message names it and says what to write."""


class Mode(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Entry:
    """One variable: its name, the value that `.env.example` shows, and what it is for."""

    name: str
    default: str
    help: str
    secret: bool = False


ENTRIES: tuple[Entry, ...] = (
    Entry("SLUICE_MODE", "production", "production, development (what `make up` sets) or test"),
    Entry("SLUICE_PORT", "8000", "port of the web pages and the gateway under `make up`"),
    Entry("SLUICE_HOME", "./var", "state of `make up`: databases, mails, logs, secrets"),
    Entry("SLUICE_WORKERS", "1", "gateway and web processes under `make up`"),
    Entry("SLUICE_PUBLIC_URL", "http://127.0.0.1:8000", "address people and applications reach this installation at"),
    Entry("SLUICE_ALLOWED_HOSTS", "", "host names served besides the one of SLUICE_PUBLIC_URL, separated by commas"),
    Entry("SLUICE_TRUSTED_PROXIES", "", "addresses (CIDR, commas) whose X-Forwarded-* headers are believed"),
    Entry("SLUICE_MASTER_KEY", "", "32 random bytes, base64; wraps every data key of the vault", secret=True),
    Entry(
        "SLUICE_MASTER_KEY_PREVIOUS",
        "",
        "the key before a rotation, until `manage.py rotate_master_key` is done",
        secret=True,
    ),
    Entry("SLUICE_PEPPER", "", "32 random bytes, base64; keys the digests of virtual keys and tokens", secret=True),
    Entry("SLUICE_PEPPER_PREVIOUS", "", "the pepper before a rotation, still accepted", secret=True),
    Entry("SLUICE_SECRET_KEY", "", "at least 50 random characters; signs sessions and links", secret=True),
    Entry(
        "DATABASE_URL",
        "",
        "PostgreSQL, e.g. postgresql://sluice:...@127.0.0.1:5432/sluice; empty under `make up`: embedded",
    ),
    Entry("SLUICE_DATABASE_POOL", "20", "most connections a process keeps to PostgreSQL"),
    Entry("REDIS_URL", "", "Redis or Valkey for everything below that is not set; empty under `make up`: embedded"),
    Entry(
        "SLUICE_MONEY_REDIS_URL",
        "",
        "the budget Redis: noeviction, AOF on, a database of its own (default: REDIS_URL database 0)",
    ),
    Entry("SLUICE_MONEY_REDIS_CLUSTER", "0", "1 when the budget Redis is a Redis Cluster"),
    Entry("SLUICE_BROKER_URL", "", "Celery's broker (default: REDIS_URL database 1)"),
    Entry("SLUICE_CACHE_URL", "", "cache and throttles of the web pages (default: REDIS_URL database 2)"),
    Entry(
        "EMAIL_URL",
        "",
        "smtp://user:password@host:587?tls=1, or postmark://TOKEN@, resend://KEY@, mailgun://KEY@domain ... (config/mail_url.py)",
    ),
    Entry("SLUICE_MAIL_FROM", "Sluice <sluice@localhost>", "sender of mails"),
    Entry(
        "SLUICE_ALLOW_PRIVATE_UPSTREAMS",
        "0",
        "1 lets credentials point at loopback and private addresses (1 under `make up`)",
    ),
    Entry("SLUICE_SIMULATOR_URL", "", "base URL of the simulator provider; empty: the provider is not offered"),
    Entry("SLUICE_INBOX_URL", "", "page of the development inbox; empty: none"),
    Entry("SLUICE_API_REQUESTS_A_MINUTE", "600", "how often one API token may ask the REST API; 0: any number"),
    Entry("SLUICE_MAX_BODY_BYTES", "10485760", "largest request body the gateway reads"),
    Entry(
        "SLUICE_MAX_UPLOAD_BYTES", "27262976", "largest form with files (audio, images, batch input) the gateway reads"
    ),
    Entry(
        "SLUICE_UPLOAD_MEMORY_BYTES", "268435456", "what the forms of one gateway process may hold in memory together"
    ),
    Entry("SLUICE_MAX_CONCURRENT_CALLS", "2000", "calls one gateway process carries before it answers 503"),
    Entry("SLUICE_FIRST_BYTE_SECONDS", "600", "how long a provider may take until its answer begins"),
    Entry("SLUICE_IDLE_SECONDS", "60", "how long a provider may be silent in the middle of an answer"),
    Entry("SLUICE_TOTAL_SECONDS", "900", "how long an answer may take in all"),
    Entry("SLUICE_REALTIME_IDLE_SECONDS", "900", "how long a realtime session may be silent on both sides"),
    Entry("SLUICE_REALTIME_TOTAL_SECONDS", "3600", "how long a realtime session may take in all"),
    Entry("SLUICE_DRAIN_SECONDS", "30", "how long a stopping gateway lets running streams finish"),
    Entry("SLUICE_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR"),
    Entry("SLUICE_CRASH_AT", "", "test builds only (mode test): exit at a named point of a call, for the fault tests"),
)
_NAMES = {entry.name: entry for entry in ENTRIES}


@dataclass(frozen=True, slots=True)
class Environment:
    values: Mapping[str, str]
    given: frozenset[str] = frozenset()  # the names that somebody set: the others hold their default

    @classmethod
    def read(cls, process: Mapping[str, str] = os.environ) -> Environment:
        home = Path(process.get("SLUICE_HOME") or _NAMES["SLUICE_HOME"].default)
        home = home if home.is_absolute() else ROOT / home
        layers = (_file(home / "run.env"), _file(ROOT / ".env"), process)
        given = {name: layer[name] for layer in layers for name in _NAMES if layer.get(name, "") != ""}
        values = {entry.name: entry.default for entry in ENTRIES} | given | {"SLUICE_HOME": str(home)}
        return cls(values, frozenset(given))

    def text(self, name: str) -> str:
        return self.values[name]

    def flag(self, name: str) -> bool:
        value = self.values[name].strip().lower()
        if value in ("1", "true", "yes", "on"):
            return True
        if value in ("0", "false", "no", "off", ""):
            return False
        raise BadEnvironment(f"{name} is {value!r}: write 1 or 0")

    def number(self, name: str, *, low: int = 0, high: int = 2**40) -> int:
        value = self.values[name].strip()
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise BadEnvironment(f"{name} is {value!r}: write a whole number from {low} to {high}")
        return int(value)

    def words(self, name: str) -> list[str]:
        return [word.strip() for word in self.values[name].split(",") if word.strip()]

    @property
    def mode(self) -> Mode:
        try:
            return Mode(self.values["SLUICE_MODE"])
        except ValueError:
            raise BadEnvironment("SLUICE_MODE: write production, development or test") from None

    @property
    def home(self) -> Path:
        return Path(self.values["SLUICE_HOME"])

    def redis(self, name: str, database: int) -> str:
        """A Redis URL of its own, or REDIS_URL with another database number."""
        if self.values[name]:
            return self.values[name]
        base = self.values["REDIS_URL"]
        if not base:
            return ""
        scheme, _, rest = base.partition("://")
        host, _, _ = rest.partition("/")
        return f"{scheme}://{host}/{database}"


def _file(path: Path) -> dict[str, str]:
    """`NAME=value` lines of a file, or nothing when it is not there or not ours to read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def inherited(**ours: str) -> dict[str, str]:
    """The environment for a process that we start: what we were given, with our own values over it."""
    return {**os.environ, **ours}


def example() -> str:
    """The text of `.env.example`, made from `ENTRIES`."""
    head = "# Every variable Sluice reads. Made by `python -m config.env`; a test keeps it true.\n"
    blocks = []
    for entry in ENTRIES:
        shown = "" if entry.secret else entry.default
        blocks.append(f"# {entry.help}\n{entry.name}={shown}\n")
    return head + "\n" + "\n".join(blocks)


env = Environment.read()

if __name__ == "__main__":
    print(example(), end="")
