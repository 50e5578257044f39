"""One supervised process: how to start it, when it is ready, how it ends, and how long to wait before trying again."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.stack.process import StackError, Steps, signal_group, tail

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 15.0
STEADY_AFTER_S: Final = 60.0  # a part that ran this long is forgiven its earlier failures
LARGEST_LOG_BYTES: Final = 20 * 1024 * 1024


@dataclass
class Part:
    """A part of the stack and its present process. Times are of the monotonic clock."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    ready: Callable[[], bool]
    log: Path
    address: str = ""
    stop: Steps = ((signal.SIGTERM, 5.0),)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    launched_at: float = 0.0
    is_ready: bool = False
    failures: int = 0
    try_again_at: float = 0.0

    def start(self) -> None:
        self.launched_at = time.monotonic()
        self.is_ready = False
        self.process = self.launch()

    @property
    def seconds_since_launch(self) -> float:
        return time.monotonic() - self.launched_at

    def has_died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def bury(self) -> tuple[int, float]:
        """Clear away a dead process and what it may have left in its group. Returns its exit code and the pause before the next try."""
        if self.process is None:
            raise StackError(f"{self.name} does not run")
        code = self.process.wait()
        signal_group(self.process, signal.SIGKILL)
        self.process = None
        if self.seconds_since_launch > STEADY_AFTER_S:
            self.failures = 0
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.failures)
        self.failures += 1
        self.try_again_at = time.monotonic() + pause_s
        return code, pause_s

    def is_due(self) -> bool:
        return self.process is None and time.monotonic() >= self.try_again_at

    def became_ready(self) -> bool:
        """True once, when a started process is ready for the first time."""
        if self.process is None or self.is_ready or not self.ready():
            return False
        self.is_ready = True
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait for the first readiness. Raises `StackError` with the end of the log."""
        while not self.became_ready():
            if self.has_died() or self.seconds_since_launch > timeout_s:
                state = "ended" if self.has_died() else f"was not ready within {timeout_s:.0f} s"
                raise StackError(f"{self.name} {state}. The end of {self.log}:\n{tail(self.log)}")
            time.sleep(0.03)

    def keep_log_small(self) -> None:
        """Copy and empty a large log. The process goes on writing: it appends."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LARGEST_LOG_BYTES:
                self.log.with_suffix(".log.1").write_bytes(self.log.read_bytes())
                with self.log.open("r+b") as log:
                    log.truncate(0)


def describe_exit(code: int) -> str:
    """`ended with code 1`, `was killed by SIGKILL`"""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def answers_http(port: int, path: str = "/healthz", *, timeout_s: float = 1.0) -> bool:
    """Whether a server on this machine answers 200 to a GET."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(request)
            return connection.recv(64).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
    except OSError:
        return False


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
