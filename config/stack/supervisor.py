"""`make up`: starts every part in order, watches them, restarts what dies, and ends all of it in the opposite order.

The parts are its children in sessions of their own, so that a Ctrl-C reaches only the supervisor; the kernel ends them should the
supervisor itself be killed. Runs as long as nobody stops it; a single-threaded loop that looks around five times a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit

import psycopg

from config.env import ROOT, BadEnvironment, Environment, inherited
from config.stack.home import Home
from config.stack.part import Part, answers_http, describe_exit, takes_connections
from config.stack.postgres import PostgresServer, rootless
from config.stack.process import StackError, end, end_together, is_interrupted, signal_group, spawn, tail
from config.stack.redis import RedisServer, deaf_to, heartbeat_ages_s
from config.stack.web import listen

HOST: Final = "127.0.0.1"
LOOK_EVERY_S: Final = 0.2
INTERRUPTED_LOOKS: Final = 5
CHECK_EVERY_S: Final = 5.0
WORKER_HAS_S: Final = 45.0  # to say its first word after a start
WEB_HAS_S: Final = 120.0
OPEN_FILES: Final = 65_536  # two sockets a call; not more, since forking code walks over all of them


class Stopped(Exception):
    """Somebody asked us to stop."""


class Supervisor:
    """The parts of one SLUICE_HOME."""

    def __init__(
        self, environment: Environment, *, home: Home, parent: int | None = None, with_demo: bool = False
    ) -> None:
        self.environment = environment
        self.parent = parent  # the make that started us, if one did
        self.with_demo = with_demo
        self.home = home
        self.port = environment.number("SLUICE_PORT", low=1, high=65535)
        self.drain_s = environment.number("SLUICE_DRAIN_SECONDS", high=3600)
        self.secrets = home.secrets()
        self.ports = home.ports("postgres", "redis", "simulator", "smtp", "inbox")
        self.postgres = self._own_postgres()
        self.redis = self._own_redis()
        self.values = self._values()
        self.child_environment = inherited(**self.values, PYTHONUNBUFFERED="1")
        self.listener: socket.socket | None = None
        self.migration: subprocess.Popen[bytes] | None = None
        self.demo: subprocess.Popen[bytes] | None = None
        self.demo_told = 0
        self.stores: list[Part] = []
        self.sides: list[Part] = []  # what the application talks to besides its stores
        self.apps: list[Part] = []
        self.stopping = False

    # --- What runs ----------------------------------------------------------------------------------------------------
    def _own_postgres(self) -> PostgresServer | None:
        if self.environment.text("DATABASE_URL"):
            return None
        return PostgresServer(
            home=self.home.path / "postgres",
            port=self.ports["postgres"],
            superuser_password=self.secrets["POSTGRES_SUPERUSER_PASSWORD"],
            app_password=self.secrets["POSTGRES_PASSWORD"],
        )

    def _own_redis(self) -> RedisServer | None:
        stores = ("SLUICE_MONEY_REDIS_URL", "SLUICE_BROKER_URL", "SLUICE_CACHE_URL")
        if self.environment.text("REDIS_URL") or all(self.environment.text(name) for name in stores):
            return None
        return RedisServer(
            home=self.home.path / "redis", port=self.ports["redis"], password=self.secrets["REDIS_PASSWORD"]
        )

    def _values(self) -> dict[str, str]:
        """What the parts find in their environment, on top of what was set for us."""
        given, text = self.environment.given, self.environment.text
        ours = {
            "SLUICE_PUBLIC_URL": f"http://{HOST}:{self.port}",
            "SLUICE_ALLOW_PRIVATE_UPSTREAMS": "1",
            "SLUICE_MASTER_KEY": self.secrets["SLUICE_MASTER_KEY"],
            "SLUICE_PEPPER": self.secrets["SLUICE_PEPPER"],
            "SLUICE_SECRET_KEY": self.secrets["SLUICE_SECRET_KEY"],
            "EMAIL_URL": f"smtp://{HOST}:{self.ports['smtp']}",
            "SLUICE_INBOX_URL": f"http://{HOST}:{self.ports['inbox']}",
            "SLUICE_SIMULATOR_URL": f"http://{HOST}:{self.ports['simulator']}/simulator/v1",
        }
        if self.postgres:
            ours["DATABASE_URL"] = self.postgres.url()
        if self.redis:
            ours["REDIS_URL"] = self.redis.url(0)
        chosen = {name: text(name) if name in given else value for name, value in ours.items()}
        mode = "test" if text("SLUICE_MODE") == "test" else "development"  # `make up` is never a production
        fixed = {"SLUICE_MODE": mode, "SLUICE_HOME": str(self.home.path), "SLUICE_PORT": str(self.port)}
        return chosen | fixed

    def _redis_url(self, name: str, database: int) -> str:
        return Environment(dict(self.environment.values) | self.values).redis(name, database)

    def _python(self, *words: str, log: Path, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return spawn([sys.executable, *words], env=self.child_environment, log=file, cwd=ROOT, pass_fds=fds)

    def _store_parts(self) -> Iterator[Part]:
        if (postgres := self.postgres) is not None:
            yield Part(
                "postgres",
                postgres.launch,
                postgres.is_ready,
                postgres.log,
                address=f"{HOST}:{postgres.port}",
                stop=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)),
            )
        if (redis := self.redis) is not None:
            yield Part(
                "redis",
                redis.launch,
                redis.is_ready,
                redis.log,
                address=f"{HOST}:{redis.port}",
                stop=((signal.SIGTERM, 15.0),),
            )

    def _side_parts(self) -> Iterator[Part]:
        smtp, inbox, simulator = self.ports["smtp"], self.ports["inbox"], self.ports["simulator"]
        if "EMAIL_URL" not in self.environment.given:
            log, mails = self.home.logs / "inbox.log", self.home.path / "inbox"
            ports = (f"--smtp-port={smtp}", f"--http-port={inbox}")
            yield Part(
                "inbox",
                lambda: self._python("-m", "config.stack.inbox", *ports, f"--folder={mails}", log=log),
                lambda: answers_http(inbox),
                log,
                address=self.values["SLUICE_INBOX_URL"],
            )
        if "SLUICE_SIMULATOR_URL" not in self.environment.given:
            invoice, simulator_log = self.home.path / "simulator" / "invoice.jsonl", self.home.logs / "simulator.log"
            invoice.parent.mkdir(exist_ok=True)
            where = (f"--host={HOST}", f"--port={simulator}", f"--invoice={invoice}")
            yield Part(
                "simulator",
                lambda: self._python("-m", "gateway.simulator", *where, log=simulator_log),
                lambda: takes_connections(simulator),
                simulator_log,
                address=f"http://{HOST}:{simulator}/simulator/",
            )

    def _app_parts(self) -> Iterator[Part]:
        count = self.environment.number("SLUICE_WORKERS", low=1, high=64)
        for number in range(1, count + 1):
            name = "web" if count == 1 else f"web-{number}"
            yield self._web_part(name)
        worker_log, schedule = self.home.logs / "worker.log", self.home.path / "beat-schedule"
        worker = ("-m", "config.stack.workers", "--beat", f"--schedule={schedule}", f"--name=sluice-{self.port}")
        yield Part(
            "worker",
            lambda: self._python(*worker, log=worker_log),
            self._worker_spoke,
            worker_log,
            stop=((signal.SIGTERM, 15.0), (signal.SIGQUIT, 5.0)),
        )

    def _web_part(self, name: str) -> Part:
        log = self.home.logs / f"{name}.log"
        if self.listener is None:
            raise StackError("no listening socket")
        fd = self.listener.fileno()
        words = ("-m", "config.stack.web", f"--fd={fd}", f"--drain={self.drain_s}")
        return Part(
            name,
            lambda: self._python(*words, log=log, fds=(fd,)),
            lambda: answers_http(self.port),
            log,
            address=f"http://{HOST}:{self.port}",
            stop=((signal.SIGTERM, self.drain_s + 5.0),),
        )

    # --- Up -----------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Until somebody stops us. Raises `StackError` when the first start fails."""
        previous = {
            number: signal.signal(number, self._asked_to_stop)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            self._bring_up()
            self._watch()
        except Stopped:
            say("stopping")
        finally:
            self.stopping = True
            self._bring_down()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _bring_up(self) -> None:
        began = time.monotonic()
        try:
            self.listener = listen(HOST, self.port)
        except OSError as error:
            raise StackError(
                f"Port {self.port} cannot be used ({error.strerror}): try SLUICE_PORT={self.port + 1} make up"
            ) from None
        self.stores = list(self._store_parts())
        self.sides = list(self._side_parts())
        for part in (*self.stores, *self.sides):
            if part.name == "postgres" and self.postgres and not self.postgres.is_initialised():
                say("postgres", "making its data folder")
            part.start()
        for part in self.stores:
            part.wait(60)
            announce(part)
        self._prepare_stores()
        self.home.write_run_file(self.values)
        self._migrate()
        self.apps = list(self._app_parts())
        for part in self.apps:
            if part.name != "worker":
                part.start()
        for part in (*self.sides, *self.apps):
            if part.name == "worker":
                part.start()  # the page need not wait for it, nor share the processor with it; the watch says when it is there
            else:
                part.wait(WEB_HAS_S)
                announce(part)
        say(
            "",
            f"Sluice is up after {time.monotonic() - began:.1f} s: open {self.values['SLUICE_PUBLIC_URL']}   (Ctrl-C stops everything)",
        )
        if self.with_demo:
            say(
                "demo", "writing three months of calls; this takes about four minutes of a quiet machine the first time"
            )
            log = self.home.logs / "demo.log"
            self.demo_told = log.stat().st_size if log.exists() else 0
            self.demo = self._python("manage.py", "demo", log=log)

    def _prepare_stores(self) -> None:
        if self.postgres:
            self.postgres.ensure_application_database()
        else:
            self._reach_database(self.environment.text("DATABASE_URL"))

    def _reach_database(self, url: str) -> None:
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.OperationalError as error:
            raise StackError(f"DATABASE_URL {_without_password(url)} cannot be reached: {error}") from None
        say("postgres", f"using {_without_password(url)}")

    def _migrate(self) -> None:
        """Every schema brought up to date; skipped when this very code already did it to this very data folder."""
        done = self.postgres.home / "migrated" if self.postgres else None
        code_state = state_of_migrations()
        if done and done.exists() and done.read_text() == code_state:
            say("migrate", "nothing to do")
            return
        log, began = self.home.logs / "migrate.log", time.monotonic()
        say("migrate", "bringing the database up to date")
        self.migration = self._python("manage.py", "migrate_workspaces", "--shared", log=log)
        code = self.migration.wait()
        if code != 0:
            raise StackError(f"The migration {describe_exit(code)}. The end of {log}:\n{tail(log, 25)}")
        if done:
            done.write_text(code_state)
        say("migrate", f"done in {time.monotonic() - began:.1f} s")

    # --- While it runs ------------------------------------------------------------------------------------------------
    def _watch(self) -> NoReturn:
        check_at, interrupted = 0.0, 0
        while True:
            time.sleep(LOOK_EVERY_S)
            for part in (*self.stores, *self.sides, *self.apps):
                self._look_after(part)
            self._tell_of_the_demo()
            # Whoever starts a process blocks its signals for that moment (vfork), too: only who keeps them blocked waits for us.
            interrupted = interrupted + 1 if self.parent is not None and is_interrupted(self.parent) else 0
            if interrupted >= INTERRUPTED_LOOKS:
                raise Stopped("make was interrupted")
            if time.monotonic() >= check_at:
                check_at = time.monotonic() + CHECK_EVERY_S
                self._check()

    def _tell_of_the_demo(self) -> None:
        """What it says as it goes: which month is written; at last the address and the login, or why not."""
        if self.demo is None:
            return
        code, log = self.demo.poll(), self.home.logs / "demo.log"
        written = log.read_bytes()
        whole = written[: written.rfind(b"\n") + 1] if code is None else written
        print(whole[self.demo_told :].decode(errors="replace"), end="", flush=True)
        self.demo_told = len(whole)
        if code is not None:
            self.demo = None
            if code:
                say("demo", f"{describe_exit(code)} (log: {log})")

    def _look_after(self, part: Part) -> None:
        if part.has_died():
            code, pause_s = part.bury()
            say(part.name, f"{describe_exit(code)}; starting it again in {pause_s:.1f} s (log: {part.log})")
        elif part.is_due():
            try:
                part.start()
            except (StackError, OSError) as error:
                say(part.name, f"did not start: {error}")
                part.try_again_at = time.monotonic() + CHECK_EVERY_S
        elif part.became_ready():
            announce(part)

    def _check(self) -> None:
        """What need not be looked at five times a second: a worker that stopped listening, logs that grew."""
        for part in (*self.stores, *self.sides, *self.apps):
            part.keep_log_small()
            if part.name == "worker" and part.process is not None and part.seconds_since_launch > WORKER_HAS_S:
                for queue, age_s in deaf_to(self._broker()).items():
                    say("worker", f"takes no messages of {queue} (last one {age_s:.0f} s ago): restarting it")
                    signal_group(part.process, signal.SIGKILL)

    def _worker_spoke(self) -> bool:
        """Whether the present worker, not the one before it, has said that it takes messages of every queue."""
        ages = heartbeat_ages_s(self._broker())
        return ages is not None and any(
            part.name == "worker" and max(ages.values()) < part.seconds_since_launch for part in self.apps
        )

    def _broker(self) -> str:
        return self._redis_url("SLUICE_BROKER_URL", 1)

    # --- Down ---------------------------------------------------------------------------------------------------------
    def _asked_to_stop(self, signum: int, _: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise Stopped(signal.Signals(signum).name)
        for part in self.apps:  # asked again while stopping: nobody wants to wait for running calls
            if part.process is not None:
                signal_group(part.process, signal.SIGKILL)

    def _bring_down(self) -> None:
        """First who takes work, then who does it, then what they talk to, the stores last."""
        if self.listener is not None:
            self.listener.close()
        for helper in (self.migration, self.demo):
            if helper is not None:
                end(helper, steps=[(signal.SIGTERM, 5)])
        webs = [part for part in self.apps if part.name != "worker"]
        workers = [part for part in self.apps if part.name == "worker"]
        for stage in (webs, [*workers, *self.sides], self.stores):
            end_together([(part.process, part.stop) for part in stage if part.process is not None])
        self.home.remove_run_file()
        say("stopped")


def up(*, parent: int | None = None, demo: bool = False) -> int:
    """The command. Returns the exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys (SECURITY S14)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
    try:
        home = Home.open(Environment.read().home, enterable_by_others=rootless() == "nobody")
        home.remove_run_file()  # left by one that was killed: it must not be taken for somebody's settings
        Supervisor(Environment.read(), home=home, parent=parent, with_demo=demo).run()
    except (StackError, BadEnvironment) as error:
        print(f"\nmake up: {error}", file=sys.stderr)
        return 1
    return 0


def state_of_migrations() -> str:
    """A digest of everything that decides what a migration would do: our migrations, our settings, the versions of the libraries'."""
    digest = hashlib.sha256()
    packages = [marker.parent for marker in ROOT.glob("*/__init__.py")]
    migrations = [path for package in packages for path in package.glob("**/migrations/*.py")]
    for path in sorted([ROOT / "config" / "settings.py", ROOT / "requirements" / "base.lock", *migrations]):
        digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def say(part: str, text: str = "") -> None:
    with contextlib.suppress(BrokenPipeError, OSError):  # the terminal may be gone while we stop
        print(f"{time.strftime('%H:%M:%S')}  {part:<10} {text}".rstrip(), flush=True)


def announce(part: Part) -> None:
    say(part.name, f"{part.address or 'ready'}   ({part.seconds_since_launch:.1f} s)")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
