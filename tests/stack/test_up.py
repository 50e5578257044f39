"""`make up`, as a newcomer and an operator meet it: two side by side, killed parts, a clean end, a second start that remembers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from config.env import ROOT
from config.stack.part import answers_http
from config.stack.postgres import PostgresServer
from config.stack.process import free_port
from config.stack.redis import RedisServer
from tests.rig.prepared import prepare_home

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("up")]


class Stack:
    """One `python -m config.stack up` and what it prints."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home, self.port, self.words = home, free_port(), words
        self.process: subprocess.Popen[str] | None = None

    def start(self, **given: str) -> None:
        """Ends with the test run, however that ends, as `make up` ends with its make."""
        foreign = ("SLUICE_", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "PYTEST_", "DJANGO_")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.output = self.home.with_suffix(".out")
        environment = {**plain, "SLUICE_HOME": str(self.home), "SLUICE_PORT": str(self.port), **given}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*(self.words or (sys.executable, "-m", "config.stack", "up", "--end-with-parent"))],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str, *, timeout_s: float = 90) -> None:
        self.until(lambda: re.search(pattern, self.said()) is not None, timeout_s=timeout_s, what=pattern)

    def until(self, happened: Callable[[], bool], *, what: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < deadline, f"no {what!r} within {timeout_s} s:\n{self.said()}"
            time.sleep(0.1)

    def database(self) -> psycopg.Connection:
        lines = (self.home / "run.env").read_text().splitlines()
        return psycopg.connect(next(line.partition("=")[2] for line in lines if line.startswith("DATABASE_URL=")))

    def stop(self, signum: int = signal.SIGTERM, *, timeout_s: float = 45) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(timeout_s)

    def processes(self) -> dict[int, str]:
        """Everything that works for this home: names it in its arguments or environment, or lives in its data folder."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                here = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(self.home).encode() in words or here.startswith(str(self.home)):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return found

    def pid_of(self, words: str) -> int:
        return next(pid for pid, line in self.processes().items() if words in line)


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    made: list[Stack] = []

    def make(name: str, *words: str) -> Stack:
        made.append(Stack(tmp_path / name, *words))
        return made[-1]

    yield make
    for stack in made:
        if stack.process is not None and stack.process.poll() is None:
            stack.stop()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for left-over processes in /proc")
def test_two_copies_run_side_by_side_and_one_remembers_after_a_stop(stacks: Callable[..., Stack]) -> None:
    one, other = stacks("one"), stacks("other")
    prepare_home(other.home)  # only one begins with nothing
    one.start()
    other.start()
    for stack in (one, other):
        stack.wait_for("Sluice is up")
        assert answers_http(stack.port)
        stack.wait_for(r"worker +ready")
    with one.database() as database:
        database.execute("CREATE TABLE remembered AS SELECT 42 AS n")

    os.kill(one.pid_of("config.stack.web"), signal.SIGKILL)
    one.wait_for(r"web +was killed by SIGKILL; starting it again")
    one.until(lambda: answers_http(one.port), what="web page after the restart")

    intruder = Stack(one.home)
    intruder.output = one.home.with_suffix(".intruder")
    intruder.start()
    assert intruder.process is not None
    assert intruder.process.wait(60) == 1

    ports = (one.home / "ports.json").read_text()
    untouched = other.pid_of("config.stack.web")
    assert one.stop() == 0
    assert one.processes() == {}
    assert not (one.home / "run.env").exists()
    other.until(lambda: answers_http(other.port), what="web page beside a copy that stopped")
    assert other.pid_of("config.stack.web") == untouched, "stopping one copy must not touch the other"

    began = time.monotonic()
    one.start()
    one.wait_for("Sluice is up", timeout_s=60)
    print(f"second start: {time.monotonic() - began:.1f} s")
    with one.database() as database:
        assert database.execute("SELECT n FROM remembered").fetchone() == (42,)
    assert (one.home / "ports.json").read_text() == ports
    assert (one.home / "secrets.env").stat().st_mode & 0o777 == 0o600

    assert one.stop(signal.SIGINT) == 0
    one.until(lambda: one.processes() == {}, what="end of every process")

    assert other.process is not None
    other.stop(signal.SIGKILL)  # not even the supervisor may say goodbye: the kernel ends its parts
    other.until(lambda: other.processes() == {}, what="end of every process after kill -9")


PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'config.stack', 'up', '--end-with-parent'])"


def test_servers_that_are_given_are_used_and_none_of_our_own_starts_or_outlives_a_killed_make(
    stacks: Callable[..., Stack], postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    stack = stacks("guest", sys.executable, "-c", PARENT)
    stack.start(
        DATABASE_URL=postgres_server.url(), REDIS_URL=redis_server.url(), SLUICE_WORKERS="2",
        EMAIL_URL="smtp://127.0.0.1:9", SLUICE_SIMULATOR_URL=f"http://127.0.0.1:{free_port()}/simulator/v1",
    )  # fmt: skip
    stack.wait_for("Sluice is up")
    assert answers_http(stack.port)
    assert not (stack.home / "postgres").exists()
    assert not (stack.home / "redis").exists()
    assert not re.search("inbox|simulator", stack.said())
    with psycopg.connect(postgres_server.url()) as database:
        assert database.execute("SELECT count(*) > 20 FROM django_migrations").fetchone() == (True,)
    stack.stop(signal.SIGKILL)
    stack.until(lambda: stack.processes() == {}, what="end of every process")
    assert "stopping" in stack.said(), "in good order: what is under way is finished"
    assert postgres_server.is_ready()


def test_a_database_that_cannot_be_reached_is_said_without_its_password(stacks: Callable[..., Stack]) -> None:
    stack = stacks("lost")
    stack.start(DATABASE_URL=f"postgresql://sluice:hunter2@127.0.0.1:{free_port()}/sluice")
    assert stack.process is not None
    assert stack.process.wait(60) == 1
    assert "cannot be reached" in stack.said()
    assert "hunter2" not in stack.said()
    assert stack.processes() == {}


def test_a_taken_port_is_said_at_once(stacks: Callable[..., Stack], tmp_path: Path) -> None:
    import socket

    stack = stacks("taken")
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", stack.port))
        squatter.listen()
        stack.start()
        assert stack.process is not None
        assert stack.process.wait(60) == 1
    assert f"Port {stack.port} cannot be used" in stack.said()
    assert stack.processes() == {}
