"""The gateway's installation, shared by all tests of one worker; every test gets a workspace of its own in it.

A plugin (tests/conftest.py names it) and no conftest: a session's fixture that another folder imports is a second installation there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.world import GatewayProcess, Shop, World


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    sluice_environment: dict[str, str],
    django_db_setup: None,
    django_db_blocker: Any,
) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"), sluice_environment, django_db_blocker.unblock)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture
def fragile_world(
    tmp_path: Path, sluice_environment: dict[str, str], django_db_setup: None, django_db_blocker: Any
) -> Iterator[World]:
    """An installation for one test that breaks it."""
    world = World(tmp_path, sluice_environment, django_db_blocker.unblock, name="_fragile", durable=True)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="session")
def gateway(world: World) -> GatewayProcess:
    return world.gateway()


@pytest.fixture
def shop(world: World) -> Shop:
    return world.shop()


@dataclass
class EchoUpstream:
    """A provider of the OpenAI kind that remembers exactly what it was sent."""

    base_url: str = ""
    answered: bytes = (
        b'{ "id":"chatcmpl-1",\n "object":"chat.completion", "model":"any-model","choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"caf\\u00e9"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6},"x_extra":0.10}'
    )
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    received: tuple[dict[str, str], bytes] = field(default_factory=lambda: ({}, b""))


@pytest.fixture
def echo_upstream() -> Iterator[EchoUpstream]:
    upstream = EchoUpstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            upstream.received = ({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(upstream.status)
            for name, value in upstream.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(upstream.answered)))
            self.end_headers()
            self.wfile.write(upstream.answered)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    upstream.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield upstream
    server.shutdown()
    server.server_close()
    thread.join(5)
