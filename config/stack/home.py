"""SLUICE_HOME: what one installation of `make up` remembers. A lock, secrets, ports, and the addresses of what runs now."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from config.stack.process import StackError, free_port, is_free


def _key() -> str:
    """32 random bytes, base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


_MAKERS: Final[Mapping[str, Callable[[], str]]] = {
    "SLUICE_MASTER_KEY": _key,
    "SLUICE_PEPPER": _key,
    "SLUICE_SECRET_KEY": partial(secrets.token_urlsafe, 50),
    "POSTGRES_SUPERUSER_PASSWORD": partial(secrets.token_urlsafe, 24),
    "POSTGRES_PASSWORD": partial(secrets.token_urlsafe, 24),
    "REDIS_PASSWORD": partial(secrets.token_urlsafe, 24),
}


@dataclass
class Home:
    """The folder. `open` takes it for this process alone; the kernel gives the lock back when the process ends, however it ends."""

    path: Path
    _lock: int = field(default=-1, repr=False)

    @classmethod
    def open(cls, path: Path, *, enterable_by_others: bool = False) -> Home:
        home = cls(path.resolve())
        try:
            home.path.mkdir(parents=True, exist_ok=True)
            home.path.chmod(0o711 if enterable_by_others else 0o700)
            home._lock = os.open(home.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise StackError(
                f"{error.filename} is not ours to write: set SLUICE_HOME to a folder of your own."
            ) from None
        try:
            fcntl.flock(home._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"Another `make up` uses {home.path}. Stop it, or start this one with its own SLUICE_HOME and SLUICE_PORT."
            ) from None
        return home

    @property
    def logs(self) -> Path:
        folder = self.path / "logs"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def run_file(self) -> Path:
        return self.path / "run.env"

    def secrets(self) -> dict[str, str]:
        """Made at the first start, kept ever after. A file that lost a line gets only that line anew."""
        path = self.path / "secrets.env"
        known = _read(path)
        missing = {name: make() for name, make in _MAKERS.items() if name not in known}
        if missing:
            head = "Secrets of this installation, made at its first start. Without the master key the vault cannot be opened: back it up."
            _write(path, known | missing, head=head)
        return known | missing

    def ports(self, *names: str) -> dict[str, int]:
        """A free port for each part; the one of last time wherever nobody else has taken it meanwhile."""
        path = self.path / "ports.json"
        try:
            remembered = {name: int(port) for name, port in json.loads(path.read_text()).items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            remembered = {}
        ports: dict[str, int] = {}
        for name in names:
            port = remembered.get(name, 0)
            while not port or port in ports.values() or not is_free(port):
                port = free_port()
            ports[name] = port
        path.write_text(json.dumps(remembered | ports, indent=2) + "\n")
        return ports

    def write_run_file(self, values: Mapping[str, str]) -> None:
        """What `config.env` reads, so that `manage.py` in a second terminal talks to what runs here."""
        _write(self.run_file, values, head="Written by `make up` while it runs, removed when it stops.")

    def remove_run_file(self) -> None:
        self.run_file.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs if value}


def _write(path: Path, values: Mapping[str, str], *, head: str) -> None:
    """Whole or not at all, readable by us alone."""
    text = f"# {head}\n" + "".join(f"{name}={value}\n" for name, value in values.items())
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
