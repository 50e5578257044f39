"""The proxy does to a connection what its fault says, and stops doing it when told to."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.rig.tcp_proxy import PASS, TcpProxy, black_hole, cut, delay, half_open, resets, trickle


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with TcpProxy(server.server_address[1]) as running:
            yield running
        server.shutdown()


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        yield connection


def echoed(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    received = b""
    while len(received) < len(text) and (part := client.recv(65536)):
        received += part
    return received


def test_it_passes_bytes_both_ways(client: socket.socket) -> None:
    assert echoed(client, b"x" * 200_000) == b"x" * 200_000


def test_a_delay_counts_in_both_directions(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.fault = delay(0.1)
    began = time.monotonic()
    assert echoed(client, b"late") == b"late"
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("fault", [black_hole(), half_open()])
def test_what_fell_into_a_black_hole_arrives_after_it(proxy: TcpProxy, client: socket.socket, fault: object) -> None:
    proxy.fault = fault  # type: ignore[assignment]
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        echoed(client, b"hello")
    client.settimeout(10)
    proxy.fault = PASS
    assert client.recv(5) == b"hello"


def test_resets_hit_running_and_new_connections(proxy: TcpProxy, client: socket.socket) -> None:
    assert echoed(client, b"hello") == b"hello"
    proxy.fault = resets()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with (
        pytest.raises(ConnectionResetError),  # while connecting, or just after
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1) as another,
    ):
        another.recv(1)


def test_a_cut_ends_the_connection_after_so_many_bytes(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.fault = cut(3)
    assert echoed(client, b"hello") == b"hel"


def test_a_trickle_is_one_byte_a_second(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.fault = trickle()
    client.sendall(b"hello")
    time.sleep(0.7)
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        echoed(client, b"!" * 10)
    proxy.fault = PASS
    client.settimeout(5)
    received = b""
    while not received.endswith(b"!"):
        received += client.recv(10)
