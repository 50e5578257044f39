"""Access tokens: one fetch for many calls, renewed beside them, and a call that has none is not sent. Signatures: of the very bytes that go out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gateway.errors import ProviderUnreachable
from gateway.signing import Signer
from gateway.upstream import Door, Origin
from tests.gateway.dialects.service_accounts import service_account
from workspaces.domain import google_keys, sigv4
from workspaces.domain.providers import PROVIDERS

VERTEX, BEDROCK = PROVIDERS["vertex"], PROVIDERS["bedrock"]
ORIGIN = Origin("https", "bedrock-runtime.eu-west-1.amazonaws.com", 443)


class Tokens:
    """A token endpoint: numbers its tokens, waits while `gate` is closed."""

    def __init__(self) -> None:
        self.status, self.lives_s, self.fetched = 200, 3599, 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                self.fetched += 1
                number = self.fetched
                await self.gate.wait()
                body = json.dumps({"access_token": f"token-{number}", "expires_in": self.lives_s}).encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (self.status, len(body)) + body)
        writer.close()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def town() -> AsyncIterator[tuple[Signer, Tokens, Clock, str]]:
    tokens, clock, door = Tokens(), Clock(), Door()
    listener = await asyncio.start_server(tokens.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    signer = Signer(door, clock)
    secret = google_keys.compact(service_account(f"http://127.0.0.1:{port}/token"), own_token_url=True)
    try:
        yield signer, tokens, clock, secret
    finally:
        await signer.close()
        await door.close()
        listener.close()
        for writer in tokens.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def sign(signer: Signer, secret: str) -> bytes:
    return await signer.headers(VERTEX, {}, secret, ORIGIN, "/v1/x", b"{}")


@pytest.mark.asyncio
async def test_many_calls_at_once_share_one_fetch_and_later_ones_the_token() -> None:
    async with town() as (signer, tokens, _, secret):
        tokens.gate.clear()
        calls = [asyncio.ensure_future(sign(signer, secret)) for _ in range(20)]
        await asyncio.sleep(0)
        calls[0].cancel()  # its client hung up: the others' fetch goes on
        tokens.gate.set()
        results = await asyncio.gather(*calls[1:])
        assert set(results) == {b"authorization: Bearer token-1\r\n"}
        assert await sign(signer, secret) == b"authorization: Bearer token-1\r\n"
        assert tokens.fetched == 1


@pytest.mark.asyncio
async def test_a_token_is_renewed_beside_the_calls_before_it_ends() -> None:
    async with town() as (signer, tokens, clock, secret):
        await sign(signer, secret)
        clock.now += 3_100
        tokens.gate.clear()  # the endpoint takes its time: nobody waits for it
        assert await asyncio.wait_for(sign(signer, secret), 5) == b"authorization: Bearer token-1\r\n"
        tokens.gate.set()
        for _ in range(200):
            if await sign(signer, secret) == b"authorization: Bearer token-2\r\n":
                break
            await asyncio.sleep(0.01)
        assert await sign(signer, secret) == b"authorization: Bearer token-2\r\n"
        assert tokens.fetched == 2


@pytest.mark.asyncio
async def test_an_endpoint_that_fails_leaves_the_old_token_in_use_and_is_not_hammered() -> None:
    async with town() as (signer, tokens, clock, secret):
        await sign(signer, secret)
        clock.now += 3_100
        tokens.status = 500
        for _ in range(30):
            assert await sign(signer, secret) == b"authorization: Bearer token-1\r\n"
            await asyncio.sleep(0.005)
        assert tokens.fetched == 2
        clock.now += 600  # now it has ended
        with pytest.raises(ProviderUnreachable) as caught:
            await sign(signer, secret)
        assert caught.value.code == "provider_token_unavailable"


@pytest.mark.asyncio
async def test_a_service_account_that_google_refuses_is_said_to_be_one() -> None:
    async with town() as (signer, tokens, _, secret):
        tokens.status = 400
        with pytest.raises(ProviderUnreachable) as caught:
            await sign(signer, secret)
        assert caught.value.code == "bad_credential"
        assert "token-1" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_request_to_bedrock_is_signed_as_it_goes_out() -> None:
    async with town() as (signer, _, clock, _secret):
        target, body = "/model/eu.anthropic.claude-v1%3A0/invoke", b'{"messages":[]}'
        lines = await signer.headers(BEDROCK, {"region": "eu-west-1"}, "AKID:secret:session", ORIGIN, target, body)
    sent = dict(line.split(": ", 1) for line in lines.decode().splitlines())
    assert sent == sigv4.headers(
        sigv4.Keys("AKID", "secret", "session"), method="POST", path=target, body=body, region="eu-west-1",
        sent={"host": "bedrock-runtime.eu-west-1.amazonaws.com", "content-type": "application/json"},
        service="bedrock", now=datetime.fromtimestamp(clock.now, UTC),
    )  # fmt: skip


@pytest.mark.asyncio
async def test_a_bedrock_api_key_is_sent_as_it_is() -> None:
    async with town() as (signer, _, _clock, _secret):
        lines = await signer.headers(BEDROCK, {"region": "eu-west-1"}, "ABSKkey", ORIGIN, "/model/x/invoke", b"{}")
    assert lines == b"authorization: Bearer ABSKkey\r\n"
