"""One simulator for the worker's tests: a test finds its own invoice line by the attempt id it sent."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway.simulator.invoice import InvoiceLine
from tests.rig import simulator as rig


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Simulator]:
    with rig.running(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def attempt() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def http(simulator: rig.Simulator, attempt: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulator.address, headers={"X-Sluice-Attempt": attempt}, timeout=15) as client:
        yield client


@pytest.fixture
def billed(simulator: rig.Simulator, attempt: str) -> Callable[[], InvoiceLine]:
    """The final invoice line of this test's attempt. Waits up to five seconds for it."""

    def look() -> InvoiceLine:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            line = simulator.line_of(attempt)
            if line is not None and line.final:
                return line
            time.sleep(0.02)
        raise AssertionError(f"no final line for {attempt}: {simulator.line_of(attempt)}")

    return look


def chat(text: str = "Say hello", model: str = "sim-small", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def raw_call(simulator: rig.Simulator, body: dict[str, Any], attempt: str = "") -> socket.socket:
    """A chat call on a bare socket: for what HTTP clients would hide."""
    payload = json.dumps(body).encode()
    head = (
        "POST /simulator/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"X-Sluice-Attempt: {attempt}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", simulator.port), timeout=15)
    connection.sendall(head.encode() + payload)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Everything up to the end of the answer or of the connection."""
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return received
