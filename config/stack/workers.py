"""`python -m config.stack.workers`: the worker's processes, one group a queue, so that nothing slow stands before what somebody waits for.

Django and all tasks are loaded once, then a process a queue is forked off it: they share the loaded code's memory and start at once. One that
dies is forked anew; none outlives this process. Single-threaded, without a connection of its own: a safe place to fork from.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

from config.celery import app
from config.queues import LEDGER, PROMPT, SLOW
from config.stack.process import die_with_parent

PAUSE_S: Final = 0.5
"""Before a process that died is forked anew."""
QUIET: Final = ("--loglevel=INFO", "--without-gossip", "--without-mingle")


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    queue: str
    words: tuple[str, ...]


ROLES: Final = (
    # The ledger's writer keeps one process busy, and two while there is a backlog; the sweeper and the rest share the others.
    Role("ledger", LEDGER, ("--concurrency=3",)),
    # Threads: these wait for mail servers and receivers. More of them than there are kinds of such tasks, each of which runs once at a time.
    Role("prompt", PROMPT, ("--pool=threads", "--concurrency=8")),
    Role("slow", SLOW, ("--concurrency=1",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m config.stack.workers", description=__doc__)
    parser.add_argument(
        "--beat", action="store_true", help="with the clock in it; there is exactly one in an installation"
    )
    parser.add_argument("--schedule", default="beat-schedule", help="the clock's file")
    parser.add_argument("--name", default="sluice", help="tells installations on one machine apart")
    options = parser.parse_args()
    beat = ("--beat", f"--schedule={options.schedule}") if options.beat else ()
    commands = {
        role: (
            "worker", f"--queues={role.queue}", f"--hostname={options.name}-{role.name}@%h", *role.words, *QUIET,
            *(beat if role.queue == LEDGER else ()),
        )
        for role in ROLES
    }  # fmt: skip
    app.loader.import_default_modules()
    app.finalize()
    gc.freeze()  # what is loaded now stays: collecting it would only copy shared memory
    return Group(commands).run()


class Group:
    """The forked processes."""

    def __init__(self, commands: dict[Role, tuple[str, ...]]) -> None:
        self.commands = commands
        self.running: dict[int, Role] = {}
        self.is_stopping = False

    def run(self) -> int:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(signum, self._pass_on)
        for role in ROLES:
            self._fork(role)
        while self.running:
            pid, status = os.wait()  # after a signal's handler it goes on waiting
            if pid in self.running:
                role = self.running.pop(pid)
                if not self._stopping():
                    _say(f"{role.name} ended with {os.waitstatus_to_exitcode(status)}: starting it again")
                    time.sleep(PAUSE_S)
                    self._fork(role)
        return 0

    def _stopping(self) -> bool:
        """A method: a signal's handler changes it between two lines."""
        return self.is_stopping

    def _fork(self, role: Role) -> None:
        # A signal that comes in the middle waits: the child must not pass it on to its siblings, nor this process miss the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)
        if self._stopping():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
            return
        parent, pid = os.getpid(), os.fork()
        if pid:
            self.running[pid] = role
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
            return
        die_with_parent()
        for signum in _ASKED:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
        if os.getppid() == parent:
            _work(self.commands[role])
        os._exit(0)

    def _pass_on(self, signum: int, _: FrameType | None) -> None:
        self.is_stopping = True
        for pid in self.running:
            os.kill(pid, signum)


_ASKED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def _work(words: tuple[str, ...]) -> NoReturn:
    """As a worker until it is asked to stop."""
    code = 1
    try:
        app.worker_main(list(words))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is to be tidied up here


def _say(text: str) -> None:
    print(f"workers: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
