"""The app server alone, without a proxy before it: hostile HTTP, slow clients, limits (SECURITY.md S20, S25, S50-S54)."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from gateway.front import _IN_A_HEADER, FrontProtocol, _Call, is_clean
from tests.gateway.world import GatewayProcess, Shop, World

BODY = b'{"model":"sim-small","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def shop(world: World) -> Shop:
    """One for all of these: none looks at what its workspace spent."""
    return world.shop()


def exchange(gateway: GatewayProcess, raw: bytes, timeout_s: float = 8) -> bytes:
    """Sends bytes as they are and reads what comes back until the server closes or is silent for a moment."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout_s) as connection:
        connection.sendall(raw)
        answer = b""
        connection.settimeout(timeout_s)
        try:
            while chunk := connection.recv(65536):
                answer += chunk
                if is_whole(answer):
                    connection.settimeout(0.2)
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(separator) and (len(body) >= int(length[1]) if length else body.endswith((b"}", b"0\r\n\r\n")))


def post(shop: Shop, *headers: bytes, body: bytes = BODY, length: bool = True) -> bytes:
    lines = [
        b"POST /v1/chat/completions HTTP/1.1",
        b"host: 127.0.0.1",
        b"authorization: Bearer " + shop.key.encode(),
        b"content-type: application/json",
        *([b"content-length: %d" % len(body)] if length else []),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> dict[str, object]:
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


CHUNKED = b"transfer-encoding: chunked"


@pytest.mark.parametrize(
    "headers,body,length",
    [
        ([CHUNKED], b"0\r\n\r\n", True),
        ([b"content-length: 5"], BODY, True),
        ([b"Transfer-Encoding: xchunked"], b"0\r\n\r\n", False),
        ([b"transfer-encoding : chunked"], b"0\r\n\r\n", False),
        ([b"x: y", b" folded: z"], BODY, True),
        ([b"no-colon"], BODY, True),
        ([CHUNKED], b"-1\r\n\r\n", False),
        ([CHUNKED], b"+5\r\nhello\r\n0\r\n\r\n", False),
        ([CHUNKED], b"0x5\r\nhello\r\n0\r\n\r\n", False),
        ([CHUNKED], b"FFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", False),
        ([b"content-length: -5"], b"", False),
        ([b"content-length: +5"], b"hello", False),
        ([b"content-length: 0x5"], b"hello", False),
        ([b"content-length: 5, 5"], b"hello", False),
        ([b"x: a\x00b"], BODY, True),
        ([b"x: a\nsluice-user: b"], BODY, True),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_ambiguous_http_is_refused_before_it_means_anything(
    gateway: GatewayProcess, shop: Shop, headers: list[bytes], body: bytes, length: bool
) -> None:
    answer = exchange(gateway, post(shop, *headers, body=body, length=length))
    if b"\nsluice-user" in b"".join(headers) and status_of(answer) == 200:
        pytest.fail("a bare line feed smuggled a header in")
    assert status_of(answer) in (400, 431), answer[:200]
    assert error_of(answer)["type"] == "invalid_request_error"
    assert b"x-request-id: " in answer


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/%63hat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions;x",
        "/v1/chat%2fcompletions",
        "/V1/chat/completions",
        "/v1/chat/completions%00",
        "/v1/fine_tuning/jobs",
        "/v1/realtime",
        "/v1/assistants",
        "/v1/vector_stores",
        "/v1/uploads",
        "/v1/organization/costs",
        "/v1/threads/runs",
        "/v1/",
    ],
)
def test_a_path_without_a_bound_on_its_cost_is_refused_and_never_forwarded(
    gateway: GatewayProcess, shop: Shop, path: str
) -> None:
    before = shop.world.simulator.totals()
    raw = post(shop).replace(b"/v1/chat/completions", path.encode(), 1)
    answer = exchange(gateway, raw)
    assert status_of(answer) in (404, 405, 301, 426), answer[:200]
    assert shop.world.simulator.totals() == before


def test_what_the_request_says_about_its_host_changes_nothing(gateway: GatewayProcess, shop: Shop) -> None:
    for host in (b"evil.example", b"169.254.169.254", b"", b"a" * 300):
        assert status_of(exchange(gateway, post(shop).replace(b"host: 127.0.0.1", b"host: " + host))) == 200
    absolute = post(shop).replace(b"POST /v1", b"POST http://evil.example/v1", 1)
    assert status_of(exchange(gateway, absolute)) == 200
    spoofed = post(
        shop,
        b"x-forwarded-for: 1.2.3.4",
        b"x-forwarded-host: evil.example",
        b"x-forwarded-proto: gopher",
        b"x-original-url: /admin",
    )
    assert status_of(exchange(gateway, spoofed)) == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_post_makes_a_call(gateway: GatewayProcess, shop: Shop, method: str) -> None:
    answer = httpx.request(
        method, f"{gateway.url}/v1/chat/completions", headers={"authorization": f"Bearer {shop.key}"}
    )
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_long_headers_and_many_headers_are_refused(gateway: GatewayProcess, shop: Shop) -> None:
    for headers in (
        [b"x: " + b"y" * 17_000],
        [b"x%d: y" % n for n in range(101)],
        [b"x: " + b"y" * 500_000],
        [b"x%d: y" % n for n in range(5000)],
    ):
        answer = exchange(gateway, post(shop, *headers))
        assert status_of(answer) == 431, answer[:100]
        assert error_of(answer)["code"] == "headers_too_large"


def slow_body() -> Iterator[bytes]:
    for byte in BODY:
        yield bytes([byte])
        time.sleep(0.01)


def test_a_body_that_comes_byte_by_byte_is_still_a_call(gateway: GatewayProcess, shop: Shop) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        content=slow_body(),
        headers={"authorization": f"Bearer {shop.key}", "content-type": "application/json"},
        timeout=30,
    )
    assert answer.status_code == 200


def test_clients_that_never_finish_their_headers_are_closed_and_disturb_nobody(
    gateway: GatewayProcess, shop: Shop
) -> None:
    crowd = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(300)]
    try:
        for number, connection in enumerate(crowd):
            connection.sendall(b"" if number % 2 else b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-")
        started = time.monotonic()
        assert status_of(exchange(gateway, post(shop))) == 200
        assert time.monotonic() - started < 3
        deadline = time.monotonic() + 14
        for connection in crowd:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            got = connection.recv(4096)
            assert got == b"" or status_of(got) == 408
    finally:
        for connection in crowd:
            connection.close()


async def test_trailers_are_dropped_so_that_an_endless_trail_of_them_holds_no_memory() -> None:
    config = uvicorn.Config(hangs, lifespan="off")
    config.load()
    protocol = FrontProtocol(config=config, server_state=ServerState(), app_state={}, _loop=asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
        protocol.data_received(b"POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        for number in range(2_000):
            protocol.data_received(b"trailer-%d: %b\r\n" % (number, b"x" * 100))
        assert [name for name, _ in protocol.headers] == [b"host", b"transfer-encoding"]
        transport.abort()


async def hangs(scope: object, receive: object, send: object) -> None:
    await asyncio.sleep(60)


async def test_the_cycle_of_a_call_begins_as_uvicorns_does() -> None:
    """It is made without uvicorn's constructor: a newer uvicorn that wants more of a cycle fails here."""
    front = FrontProtocol(uvicorn.Config(lambda scope: None, log_config=None), ServerState(), {})
    front.transport, front.flow = None, None  # type: ignore[assignment]
    front.on_message_begin()
    theirs = RequestResponseCycle(
        scope=front.scope, transport=front.transport, flow=front.flow, logger=front.logger, access_logger=front.access_logger, access_log=False,
        default_headers=front.server_state.default_headers, message_event=asyncio.Event(), expect_100_continue=False, keep_alive=True,
        on_response=front.on_response_complete,
    )  # fmt: skip
    bells = {"message_event": None}
    assert vars(_Call(front, True)) | bells == vars(theirs) | bells


def test_an_old_version_is_seen_wherever_its_request_begins(gateway: GatewayProcess, shop: Shop) -> None:
    """Asked for only where a piece does not begin with a request of HTTP/1.1: a second request in the piece is not the first."""
    new = post(shop)
    old = post(shop, b"connection: keep-alive").replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    assert b"\r\nconnection: close\r\n" not in exchange(gateway, new)
    assert exchange(gateway, old).count(b"\r\nconnection: close\r\n") == 1
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=8) as connection:
        connection.sendall(new + old)
        both = b"".join(iter(partial(connection.recv, 65536), b""))
    assert both.count(b"HTTP/1.1 200 ") == 2
    assert both.rindex(b"\r\nconnection: close\r\n") > both.rindex(b"HTTP/1.1 200 ")


@given(
    st.lists(
        st.lists(st.one_of(st.sampled_from([b"a: b", b'"', b"\\", b"\t", b"\r\n"]), st.binary(max_size=3))).map(
            b"".join
        ),
        min_size=1,
    )
)
def test_a_head_is_clean_by_the_short_look_as_by_the_long(lines: list[bytes]) -> None:
    head = b"\r\n".join(lines)
    assert is_clean(head, len(lines)) == (head.translate(None, _IN_A_HEADER) == b"\r\n" * (len(lines) - 1))
