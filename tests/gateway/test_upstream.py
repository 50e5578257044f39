"""The one door of outgoing calls, against servers that misbehave on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.upstream import Answer, Broken, Door, Limits, NotSent, Origin, Silent, UpstreamFailure

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LIMITS = Limits(connect_s=1, first_byte_s=0.4, idle_s=0.4, total_s=2)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Counts connections and requests; answers each request with `handler`."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                await self.handler(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.closed.set()
            writer.close()


@contextlib.asynccontextmanager
async def serving(answer: bytes | Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Server, Origin]]:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, bytes)
        writer.write(answer)

    server = Server(write if isinstance(answer, bytes) else answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield server, Origin("https" if tls else "http", "127.0.0.1", port, allow_private=True)
    finally:
        listener.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.close()


async def ask(door: Door, origin: Origin, limits: Limits = LIMITS, body: bytes = b"") -> Answer:
    head = b"POST /v1 HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n\r\n" % (origin.host_header.encode(), len(body))
    return await door.exchange(origin, head, body, limits)


async def whole(door: Door, origin: Origin, limits: Limits = LIMITS) -> bytes:
    async with await ask(door, origin, limits) as answer:
        return await answer.read(1_000_000)


async def test_connections_are_used_again(door: Door) -> None:
    async with serving(OK) as (server, origin):
        for _ in range(5):
            assert await whole(door, origin) == b"ok"
        assert (server.connections, server.requests) == (1, 5)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1;ext=1\r\nk\r\n0\r\ntrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_it_reads_every_legal_framing(door: Door, answer: bytes) -> None:
    async with serving(answer) as (server, origin):
        assert await whole(door, origin) == b"ok"
        assert await whole(door, origin) == b"ok"
        assert server.connections == 1


async def test_a_body_that_ends_with_the_connection_is_whole_and_the_connection_spent(door: Door) -> None:
    async def until_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with serving(until_close) as (server, origin):
        assert await whole(door, origin) == b"ok"
        assert await whole(door, origin) == b"ok"
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
        OK + b"garbage",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_with_bytes_nobody_asked_for_is_never_used_again(door: Door, answer: bytes) -> None:
    async with serving(answer) as (server, origin):
        for served in (1, 2, 3):
            with contextlib.suppress(Broken):
                assert await whole(door, origin) == b"ok"
            await asyncio.sleep(0.02)
            assert server.connections == served


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot hex\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"<html>busy</html>",
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_http_we_accept_is_broken_and_counts_as_sent(door: Door, answer: bytes) -> None:
    async with serving(answer) as (_, origin):
        with pytest.raises(UpstreamFailure) as failed:
            await whole(door, origin)
        assert failed.value.sent


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"])
async def test_an_answer_that_is_cut_off_is_broken(door: Door, cut: bytes) -> None:
    async def cutting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(cut)
        await writer.drain()
        writer.transport.abort()

    async with serving(cutting) as (_, origin):
        with pytest.raises(Broken):
            await whole(door, origin)


async def test_what_arrived_before_the_cut_is_given_before_the_failure(door: Door) -> None:
    async def cutting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        await writer.drain()
        writer.close()

    async with serving(cutting) as (_, origin), await ask(door, origin) as answer:
        assert await answer.chunk() == b"ok"
        with pytest.raises(Broken, match="middle"):
            await answer.chunk()


async def test_silence_before_the_headers_is_told_from_silence_after_them(door: Door) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async with serving(silent) as (server, origin):
        with pytest.raises(Silent, match="did not answer"):
            await whole(door, origin)
        await asyncio.wait_for(server.closed.wait(), 1)
    async with serving(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok") as (server, origin):
        with pytest.raises(Silent, match="middle"):
            await whole(door, origin)
        await asyncio.wait_for(server.closed.wait(), 1)


async def test_a_drip_that_never_pauses_meets_the_total_limit(door: Door) -> None:
    async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(dripping) as (server, origin):
        started = asyncio.get_running_loop().time()
        with pytest.raises(Silent, match="total"):
            await whole(door, origin, Limits(first_byte_s=1, idle_s=0.4, total_s=0.6))
        assert 0.5 < asyncio.get_running_loop().time() - started < 1.5
        await asyncio.wait_for(server.closed.wait(), 1)


async def test_a_drain_ends_in_time_even_while_it_waits(door: Door) -> None:
    async with serving(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok") as (_, origin):
        async with await ask(door, origin, Limits(idle_s=30)) as answer:
            await answer.chunk()
            asyncio.get_running_loop().call_later(0.05, answer.end_within, 0.1)
            started = asyncio.get_running_loop().time()
            with pytest.raises(Silent):
                await answer.chunk()
            assert asyncio.get_running_loop().time() - started < 1


async def test_a_port_where_nobody_listens_and_a_name_that_nobody_has_were_never_sent(door: Door) -> None:
    async with serving(OK) as (_, origin):
        pass
    for refused in (origin, Origin("http", "nobody.invalid", 80, allow_private=True)):
        with pytest.raises(NotSent):
            await whole(door, refused)


async def test_a_connection_that_died_while_idle_is_replaced_without_the_caller_noticing(door: Door) -> None:
    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        asyncio.get_running_loop().call_later(0.02, writer.transport.abort)

    async with serving(once) as (server, origin):
        for _ in range(4):
            assert await whole(door, origin) == b"ok"
            await asyncio.sleep(0.05)
        assert server.connections == 4


async def test_an_aborted_or_cancelled_exchange_closes_its_connection_at_once(door: Door) -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")

    async with serving(half) as (server, origin):
        async with await ask(door, origin) as answer:
            await answer.chunk()
        await asyncio.wait_for(server.closed.wait(), 0.5)
        server.closed.clear()
        task = asyncio.ensure_future(whole(door, origin))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.closed.wait(), 0.5)


async def test_a_reader_that_does_not_read_stops_the_provider_instead_of_filling_memory(door: Door) -> None:
    written = 0

    async def pouring(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with serving(pouring) as (_, origin), await ask(door, origin) as answer:
        stopped_at = -1
        while written != stopped_at:  # until it stands still, or the test's time is over
            stopped_at = written
            await asyncio.sleep(0.2)
        assert stopped_at < 32 * 1024 * 1024  # the kernel's buffers, not ours
        assert len(await answer.chunk()) < 2 * 1024 * 1024
        with pytest.raises(Broken, match="longer"):
            await answer.read(5_000_000)


async def test_many_exchanges_at_once_never_mix_their_answers(door: Door) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = await reader.readexactly(4)
        await asyncio.sleep(0.001 * (int(number) % 7))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + number)

    async with serving(echo) as (server, origin):

        async def one(number: int) -> None:
            text = b"%04d" % number
            async with await ask(door, origin, Limits(), body=text) as answer:
                assert await answer.read(100) == text

        async def cancelled(number: int) -> None:
            task = asyncio.ensure_future(one(number))
            await asyncio.sleep(0.0005 * (number % 9))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(cancelled(n) if n % 3 else one(n) for n in range(600)))
        assert server.requests >= 200


# --- TLS --------------------------------------------------------------------------------------------------------------
def certificate(folder: Path, *, host: str, expired: bool = False) -> ssl.SSLContext:
    """A self-signed server certificate, also written as `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=-1 if expired else 1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_subject(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def _subject(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


async def test_tls_is_verified_against_the_pinned_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = certificate(tmp_path, host="127.0.0.1")
    async with serving(OK, tls=context) as (_, origin):
        trusting, public = Door(str(tmp_path / "ca.pem")), Door()
        assert await whole(trusting, origin) == b"ok"
        with pytest.raises(NotSent, match="certificate"):
            await whole(public, origin)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        strict = Door()
        with pytest.raises(NotSent, match="certificate"):
            await whole(strict, origin)
        for used in (trusting, public, strict):
            await used.close()


@pytest.mark.parametrize("host,expired", [("localhost", False), ("127.0.0.1", True)], ids=["wrong host", "expired"])
async def test_a_certificate_for_another_host_or_another_time_is_refused_before_anything_is_sent(
    tmp_path: Path, host: str, expired: bool
) -> None:
    context = certificate(tmp_path, host=host, expired=expired)
    door = Door(str(tmp_path / "ca.pem"))
    async with serving(OK, tls=context) as (server, origin):
        with pytest.raises(NotSent, match="certificate"):
            await whole(door, origin)
        assert server.requests == 0
    await door.close()


async def test_old_tls_is_refused(tmp_path: Path) -> None:
    context = certificate(tmp_path, host="127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    door = Door(str(tmp_path / "ca.pem"))
    async with serving(OK, tls=context) as (_, origin):
        with pytest.raises(NotSent):
            await whole(door, origin)
    await door.close()
