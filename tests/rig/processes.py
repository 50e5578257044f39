"""The real processes of a small installation: gateways, a worker, their stores, each of which a test may kill, pause and start again."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from config.env import ROOT, inherited
from config.stack.part import answers_http
from config.stack.postgres import PostgresServer
from config.stack.process import end, free_port, spawn, wait_until
from config.stack.redis import RedisServer
from tests.rig.prepared import prepare
from tests.rig.simulator import Simulator
from tests.rig.skewed import new_clock
from tests.rig.tcp_proxy import TcpProxy

START_S = 60.0


@dataclass
class Process:
    """One process of ours. `start` may follow `kill` or `stop` any number of times."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool] = lambda: True
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    kills: int = 0

    def launch(self) -> None:
        """From the main thread: the kernel ties the child's life to the thread that forked it."""
        with self.log.open("ab") as log:
            self.process = spawn([sys.executable, *self.command], env=self.environment, log=log, cwd=ROOT)

    def wait(self, timeout_s: float = START_S) -> None:
        wait_until(self.ready, timeout_s=timeout_s, process=self._running(), what=f"{self.name} (see {self.log})")

    def start(self) -> None:
        self.launch()
        self.wait()

    def kill(self) -> None:
        """kill -9 of the whole process group, as the end of a machine would."""
        if self.process is not None:
            self.kills += 1
            end(self.process, steps=[(signal.SIGKILL, 10)])
            self.process = None

    def stop(self, patience_s: float = 15) -> int:
        """SIGTERM, as a deploy would. Returns the exit code."""
        if self.process is None:
            return 0
        code = end(self.process, steps=[(signal.SIGTERM, patience_s)])
        self.process = None
        return code

    def pause(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        return self._running().pid

    def exit_code(self, timeout_s: float) -> int:
        """Wait for the process to end by itself."""
        code = self._running().wait(timeout_s)
        self.process = None
        return code

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process


@dataclass
class Gateway(Process):
    port: int = 0
    clock: Path | None = None
    """Its clock, where a test may shift it (skewed.py)"""


def gateway(home: Path, environment: Mapping[str, str], name: str = "gateway", **more: str) -> Gateway:
    """A gateway process that is not started yet. `more` are variables for it alone."""
    port = free_port()
    clock = new_clock(home / f"{name}-{port}.clock")
    command = (
        "-m", "tests.rig.skewed", "uvicorn",
        "config.asgi:application", "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools",
        "--no-access-log", "--log-level", "warning", "--backlog", "4096", "--timeout-graceful-shutdown", "30",
    )  # fmt: skip
    return Gateway(
        name,
        command,
        {**environment, "SLUICE_PORT": str(port), "RIG_CLOCK": str(clock), **more},
        home / f"{name}.log",
        ready=lambda: answers_http(port, "/readyz", timeout_s=3.0),
        port=port,
        clock=clock,
    )


def worker(home: Path, environment: Mapping[str, str], name: str = "worker", **more: str) -> Process:
    """Celery with beat, as `make up` starts it."""
    command = (
        "-m", "celery", "--app=config.celery:app", "worker", "--beat", f"--schedule={home / name}-beat", "--concurrency=1",
        "--loglevel=WARNING", "--without-gossip", "--without-mingle", f"--hostname={name}-{free_port()}@%h",
    )  # fmt: skip
    return Process(name, command, {**environment, **more}, home / f"{name}.log")


def ask(environment: Mapping[str, str], *words: str, given: Any = None, timeout_s: float = 120) -> Any:
    """Run `python -m tests.rig.world <words>` in the installation's environment; JSON in, JSON out."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.rig.world", *words],
        input=json.dumps(given),
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"tests.rig.world {' '.join(words)} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return json.loads(done.stdout) if done.stdout.strip() else None


class Inside:
    """A long-lived `tests.rig.world serve`: questions are answered one at a time."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._turn = threading.Lock()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.rig.world", "serve"],
                env=dict(environment), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def ask(self, verb: str, given: Any) -> Any:
        with self._turn:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps([verb, given]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        answer = json.loads(line or '{"error": "it has ended"}')
        if "error" in answer:
            raise RuntimeError(f"tests.rig.world {verb} failed:\n{answer['error'][-4000:]}")
        return answer["answer"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


@dataclass
class Installation:
    """Gateways and workers on stores that may be somebody else's."""

    home: Path
    environment: dict[str, str]
    simulator: Simulator
    gateways: list[Gateway] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)

    @property
    def provider_url(self) -> str:
        return self.simulator.base_url

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    def money(self) -> redis.Redis:
        """A direct connection to the money Redis, past every wire."""
        return redis.Redis.from_url(self.environment["SLUICE_MONEY_REDIS_URL"], socket_timeout=5)

    def gateway_environment(self) -> dict[str, str]:
        return self.environment

    def worker_environment(self) -> dict[str, str]:
        return self.environment

    def ask(self, *words: str, given: Any = None) -> Any:
        return ask(self.environment, *words, given=given)

    def start_gateways(self, count: int, **more: str) -> list[Gateway]:
        """Start so many more and wait for all of them."""
        first = len(self.gateways) + 1
        made = [
            gateway(self.home, self.gateway_environment(), f"gateway-{number}", **more)
            for number in range(first, first + count)
        ]
        self.gateways += made
        for process in made:
            process.launch()
        for process in made:
            process.wait()
        return made

    def launch_worker(self, **more: str) -> Process:
        made = worker(self.home, self.worker_environment(), f"worker-{len(self.workers) + 1}", **more)
        self.workers.append(made)
        made.launch()
        return made

    def stop_apps(self) -> None:
        """Gateways and workers; the stores stay."""
        for process in (*self.gateways, *self.workers):
            with contextlib.suppress(ProcessLookupError):
                if process.process is not None:
                    process.resume()  # a paused process cannot end
            process.kill()


@dataclass
class Stack(Installation):
    """A whole installation of its own, with a breakable wire between its parts."""

    redis: RedisServer = field(kw_only=True)
    postgres: PostgresServer = field(kw_only=True)
    redis_wire: TcpProxy = field(kw_only=True)
    """Between gateways and the money Redis."""
    postgres_wire: TcpProxy = field(kw_only=True)
    """Between the worker and PostgreSQL."""
    provider_wire: TcpProxy = field(kw_only=True)
    _inside: Inside | None = field(default=None, repr=False)

    def ask(self, *words: str, given: Any = None) -> Any:
        if self._inside is None:
            self._inside = Inside(self.environment, self.home / "inside.log")
        return self._inside.ask(words[0], given)

    @property
    def provider_url(self) -> str:
        return f"http://127.0.0.1:{self.provider_wire.port}/simulator/v1"

    def gateway_environment(self) -> dict[str, str]:
        password = self.redis.password
        return {**self.environment, "SLUICE_MONEY_REDIS_URL": f"redis://:{password}@127.0.0.1:{self.redis_wire.port}/0"}

    def worker_environment(self) -> dict[str, str]:
        direct = str(self.postgres.port)
        return {
            **self.environment,
            "DATABASE_URL": self.environment["DATABASE_URL"].replace(f":{direct}/", f":{self.postgres_wire.port}/"),
        }

    def stop(self) -> None:
        self.stop_apps()
        if self._inside is not None:
            self._inside.close()
        for wire in (self.redis_wire, self.postgres_wire, self.provider_wire):
            wire.stop()
        self.simulator.stop()
        self.redis.stop()
        self.postgres.stop()


def environment_of(home: Path, postgres: PostgresServer, store: RedisServer, simulator: Simulator) -> dict[str, str]:
    """The variables of a test installation on these servers; nothing of the developer's own settings."""
    clean = {name: value for name, value in inherited().items() if not name.startswith(("SLUICE_", "EMAIL_"))}
    return {
        **clean,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SLUICE_MODE": "test",
        "SLUICE_HOME": str(home / "sluice"),
        "SLUICE_PUBLIC_URL": "http://127.0.0.1:8000",
        "SLUICE_SECRET_KEY": secrets.token_urlsafe(50),
        "SLUICE_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "SLUICE_PEPPER": base64.b64encode(secrets.token_bytes(32)).decode(),
        "DATABASE_URL": postgres.url(),
        "REDIS_URL": store.url(0),
        "SLUICE_MONEY_REDIS_URL": store.url(0),
        "SLUICE_BROKER_URL": store.url(1),
        "SLUICE_CACHE_URL": store.url(2),
        "SLUICE_ALLOW_PRIVATE_UPSTREAMS": "1",
        "SLUICE_SIMULATOR_URL": simulator.base_url,
        "SLUICE_LOG_LEVEL": "WARNING",
        "SLUICE_DATABASE_POOL": "10",
    }


@contextlib.contextmanager
def installation(home: Path, *simulator_options: str) -> Iterator[Stack]:
    """Private stores, migrated; the simulator; wires that can be broken. Gateways and worker are started by `start_apps`."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    (home / "sluice").mkdir(exist_ok=True)
    postgres = PostgresServer(home=home / "postgres", fast_and_unsafe=True)
    store = RedisServer(home=home / "redis")
    simulator = Simulator(home / "simulator", simulator_options)
    wires = [TcpProxy(port).start() for port in (store.port, postgres.port, simulator.port)]
    stack = Stack(
        home,
        environment_of(home, postgres, store, simulator),
        simulator,
        redis=store,
        postgres=postgres,
        redis_wire=wires[0],
        postgres_wire=wires[1],
        provider_wire=wires[2],
    )
    try:
        store.launch()
        simulator.start()
        store.wait()
        prepare(postgres)
        yield stack
    finally:
        stack.stop()
