"""The simulator provider as a process that a test owns: start, kill, its address and its invoice."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from config.stack.process import end, free_port, spawn, wait_until
from gateway.simulator.invoice import InvoiceLine, Totals, read_invoice

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Simulator:
    home: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def invoice_path(self) -> Path:
        return self.home / "invoice.jsonl"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/simulator"

    @property
    def base_url(self) -> str:
        """For OpenAI clients and for provider credentials."""
        return f"{self.address}/v1"

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "gateway.simulator",
            "--port",
            str(self.port),
            "--invoice",
            str(self.invoice_path),
        ]
        with (self.home / "simulator.log").open("ab") as log:
            self.process = spawn([*command, *self.options], log=log, cwd=ROOT)
        wait_until(self.answers, timeout_s=20, process=self.process, what="the simulator")

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/invoice.json", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            end(self.process, steps=[(signal.SIGTERM, 10)])
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def invoice(self) -> list[InvoiceLine]:
        """The state of every response, as the file says."""
        return read_invoice(self.invoice_path)

    def line_of(self, attempt: str) -> InvoiceLine | None:
        return next((line for line in self.invoice() if line.attempt == attempt), None)

    def totals(self) -> Totals:
        return Totals(**httpx.get(f"{self.address}/invoice.json", timeout=5).json())


@contextlib.contextmanager
def running(home: Path, *options: str) -> Iterator[Simulator]:
    """A simulator of one's own. Ends whatever happens."""
    simulator = Simulator(home, options)
    try:
        simulator.start()
        yield simulator
    finally:
        simulator.stop()
