"""The one door's WebSockets: where they may go, what they carry, how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gateway.upstream import AddressRefused, Broken, Declined, Door, NotSent, Origin

MOST = 64 * 1024


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    yield made
    await made.close()


async def _talk(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "bye":
            await connection.close(4321, "so long")
            return
        elif message == "big":
            await connection.send("x" * (MOST + 1))
        elif message == "pieces":
            await connection.send(["a", "b", "c"])
        elif message == "gone":
            connection.transport.abort()
        else:
            await connection.send(message)


def _guard(connection: ServerConnection, request: Any) -> Any:
    if request.headers.get("Authorization") != "Bearer k":
        return connection.respond(HTTPStatus.UNAUTHORIZED, '{"error":{"message":"no"}}')
    return None


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serve(_talk, "127.0.0.1", 0, process_request=_guard) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield Origin("http", "127.0.0.1", port, allow_private=True)


async def opened(door: Door, origin: Origin, key: str = "k") -> Any:
    return await door.open_socket(origin, "/v1/realtime?model=m", [("Authorization", f"Bearer {key}")], 5, MOST)


async def test_a_private_address_is_not_contacted_where_that_is_not_allowed(door: Door, origin: Origin) -> None:
    with pytest.raises(AddressRefused):
        await opened(door, Origin(origin.scheme, origin.host, origin.port))


async def test_where_nobody_listens_nothing_was_sent(door: Door) -> None:
    with pytest.raises(NotSent):
        await opened(door, Origin("http", "127.0.0.1", 1, allow_private=True))


async def test_a_no_is_told_with_its_status_and_words(door: Door, origin: Origin) -> None:
    with pytest.raises(Declined) as declined:
        await opened(door, origin, key="wrong")
    assert (declined.value.status, declined.value.body) == (401, b'{"error":{"message":"no"}}')


async def test_messages_pass_whole_in_order_and_a_close_says_its_code(door: Door, origin: Origin) -> None:
    socket = await opened(door, origin)
    for text in (b"one", b"pieces", b"two"):
        await socket.send(text)
    assert [await socket.receive() for _ in range(3)] == [b"one", b"abc", b"two"]
    await socket.send(b"bye")
    assert await socket.receive() is None
    assert (socket.close_code, socket.close_reason) == (4321, "so long")
    with pytest.raises(Broken):
        await socket.send(b"late")
    await socket.close()


async def test_a_reader_that_does_not_read_holds_the_peer_back_and_loses_nothing(door: Door, origin: Origin) -> None:
    socket = await opened(door, origin)
    text, count = b"y" * 60_000, 40

    async def speak() -> None:
        for _ in range(count):
            await socket.send(text)

    speaking = asyncio.ensure_future(speak())
    assert [await socket.receive() for _ in range(count)] == [text] * count
    await speaking
    await socket.close()


@pytest.mark.parametrize("word", [b"big", b"gone"])
async def test_a_message_that_is_too_long_and_a_peer_that_vanishes_end_it(
    door: Door, origin: Origin, word: bytes
) -> None:
    socket = await opened(door, origin)
    await socket.send(word)
    assert await socket.receive() is None
    assert socket.close_code == 1006
    socket.abort()
