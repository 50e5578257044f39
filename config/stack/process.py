"""A child process that cannot outlive us, and free ports for it to listen on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StackError(Exception):
    """A part could not be started. The message says which, why, and what to do."""


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Ask the kernel to signal this process when its parent ends (Linux). Runs in the child between fork and exec."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)


def is_interrupted(pid: int) -> bool:
    """Whether a GNU make has been interrupted and waits for its children (Linux).

    At a terminal a Ctrl-C reaches us as well, but a SIGINT sent to make alone is not passed on: it would wait for us for ever. While
    it waits, the signal is blocked in it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    blocked = next((line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")), "0")
    return bool(int(blocked, 16) & 1 << (signal.SIGINT - 1))


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    log: IO[bytes] | int | None = None,
    cwd: Path | None = None,
    uid: int | None = None,
    if_we_die: int = signal.SIGKILL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that a Ctrl-C on the terminal reaches only us and we decide the order of ending.

    Must be called from the main thread: the kernel ties the death signal to the thread that forked.
    """
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=log if log is not None else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if log is not None else subprocess.DEVNULL,
        env=None if env is None else dict(env),
        cwd=cwd,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        start_new_session=True,
        pass_fds=pass_fds,
        preexec_fn=partial(die_with_parent, if_we_die),  # one prctl: safe between fork and exec
    )


def signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    """Signal a child and whatever it started in its session; one that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)


Steps = Sequence[tuple[int, float]]  # a signal, and the seconds to wait for it to work


def end(process: subprocess.Popen[bytes], *, steps: Steps) -> int:
    """Try each signal in turn, waiting its seconds; SIGKILL to the whole group at last. Returns the exit code."""
    for signum, patience_s in steps:
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    signal_group(process, signal.SIGKILL)
    return process.wait(10)


def end_together(processes: Sequence[tuple[subprocess.Popen[bytes], Steps]]) -> None:
    """End several at the same time: all get their first signal before anyone is waited for, and nobody gets it twice."""
    running = [(process, steps) for process, steps in processes if process.poll() is None]
    for process, steps in running:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(steps[0][0])
    started = time.monotonic()
    for process, steps in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, steps[0][1] - (time.monotonic() - started)))
        end(process, steps=steps[1:])
    for process, _ in processes:  # of one that ended by itself, the group may still live
        signal_group(process, signal.SIGKILL)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def wait_until(ready: Callable[[], bool], *, timeout_s: float, process: subprocess.Popen[bytes], what: str) -> None:
    """Poll until `ready()`; raise `StackError` when the process ends first or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None:
            raise StackError(f"{what} ended with code {process.returncode} before it was ready")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready within {timeout_s:.0f} s")
        time.sleep(0.02)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
