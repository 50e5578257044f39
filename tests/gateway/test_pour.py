"""An answer that is poured into a sink: what `chunk` would have given, with the same limits, without a task that wakes for each piece."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.upstream import Broken, Door, Limits, Silent, UpstreamFailure
from tests.gateway.test_upstream import ask, door, serving

__all__ = ["door"]
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_pieces_and_however_often_the_sink_declines_the_body_is_whole_and_in_order(
    door: Door, seed: int
) -> None:
    chance = random.Random(seed)
    pieces = [bytes([65 + number % 26]) * chance.choice((1, 7, 300, 20_000)) for number in range(40)]
    wire = CHUNKED + b"".join(map(framed, pieces)) + b"0\r\n\r\n"

    async def in_bits(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(wire):
            size = chance.choice((1, 3, 50, 5_000, 60_000))
            writer.write(wire[at : at + size])
            at += size
            await asyncio.sleep(0)

    got: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return chance.random() < 0.7

    async with serving(in_bits) as (server, origin):
        for _ in range(2):
            got.clear()
            async with await ask(door, origin) as answer:
                while not await answer.pour(sink):
                    await asyncio.sleep(chance.choice((0, 0, 0.001)))
            assert b"".join(got) == b"".join(pieces)
        assert server.connections == 1, "it ended where its framing said, so it serves again"


async def test_a_piece_is_handed_on_in_the_turn_of_the_loop_that_brings_it(door: Door) -> None:
    """And the next one is not read before: nothing is gathered while a sink takes."""

    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for word in (b"one", b"two", b"end"):
            writer.write(framed(word))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")

    got: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return True

    async with serving(talking) as (_, origin), await ask(door, origin) as answer:
        assert await answer.pour(sink)
        assert await answer.pour(sink), "the end stays the end"
    assert got == [b"one", b"two", b"end"]


async def test_what_came_before_a_cut_is_handed_on_before_the_failure(door: Door) -> None:
    async def cutting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + framed(b"o"))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(framed(b"k"))
        await writer.drain()
        writer.close()

    got: list[bytes] = []
    async with serving(cutting) as (_, origin), await ask(door, origin) as answer:
        with pytest.raises(Broken, match="middle"):
            await answer.pour(lambda piece: got.append(piece) is None)
    assert b"".join(got) == b"ok"


@pytest.mark.parametrize(
    ("limits", "named", "drips"),
    [
        (Limits(first_byte_s=1, idle_s=0.1, total_s=9), "silent", False),
        (Limits(first_byte_s=1, idle_s=5, total_s=0.3), "total", True),
    ],
)
async def test_silence_and_an_endless_answer_end_a_pour(door: Door, limits: Limits, named: str, drips: bool) -> None:
    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + framed(b"x"))
        while drips:
            await asyncio.sleep(0.02)
            writer.write(framed(b"x"))
            await writer.drain()

    async with serving(talking) as (server, origin):
        async with await ask(door, origin, limits) as answer:
            await answer.chunk()
            with pytest.raises(Silent, match=named):
                await answer.pour(lambda piece: True)
        await asyncio.wait_for(server.closed.wait(), 1)


@pytest.mark.parametrize("drips", [True, False])
async def test_a_drain_ends_a_pour_in_time_whether_pieces_come_or_not(door: Door, drips: bool) -> None:
    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + framed(b"x"))
        while drips:
            await asyncio.sleep(0.02)
            writer.write(framed(b"x"))
            await writer.drain()

    async with serving(talking) as (_, origin), await ask(door, origin, Limits(idle_s=0.5, total_s=30)) as answer:
        await answer.chunk()
        asyncio.get_running_loop().call_later(0.05, answer.end_within, 1.0 if drips else 0.1)
        async with asyncio.timeout(5):
            with pytest.raises(Silent, match="total"):
                await answer.pour(lambda piece: True)


async def test_an_error_of_the_sink_is_the_error_of_the_pour(door: Door) -> None:
    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + framed(b"x"))
        await asyncio.sleep(0.02)
        writer.write(framed(b"y") * 3)

    def full(piece: bytes) -> bool:
        if b"y" in piece:
            raise Silent("that is enough")
        return True

    async with serving(talking) as (server, origin):
        async with await ask(door, origin) as answer:
            with pytest.raises(UpstreamFailure, match="enough"):
                await answer.pour(full)
        await asyncio.wait_for(server.closed.wait(), 1)


async def test_a_sink_that_can_take_no_more_stops_the_provider(door: Door) -> None:
    written = 0

    async def pouring(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with serving(pouring) as (_, origin), await ask(door, origin) as answer:
        assert not await answer.pour(lambda piece: False)
        stopped_at = -1
        while written != stopped_at:
            stopped_at = written
            await asyncio.sleep(0.1)
        assert stopped_at < 32 * 1024 * 1024  # the kernel's buffers, not ours


@pytest.mark.parametrize("seed", range(8))
async def test_whole_pieces_may_be_taken_as_they_came_wherever_the_network_cuts(door: Door, seed: int) -> None:
    """What a sink of framed pieces declines, and all that is not whole pieces, arrives as before, and nothing arrives twice."""
    chance = random.Random(seed)
    pieces = [
        bytes([65 + number % 26]) * chance.choice((1, 7, 300)) + b"\n" * chance.randrange(3) for number in range(60)
    ]
    wire = CHUNKED + b"".join(map(framed, pieces)) + b"0\r\n\r\n"
    edges = [len(CHUNKED) + len(b"".join(map(framed, pieces[:count]))) for count in range(60)]

    async def in_bits(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(wire):
            to = min(at + chance.choice((1, 3, 50, 900)), len(wire))
            if chance.random() < 0.7:
                to = next((edge for edge in edges if edge > at), len(wire))
            writer.write(wire[at:to])
            at = to
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    got: list[bytes] = []
    short: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return chance.random() < 0.9

    def whole(data: bytes) -> bool:
        found, rest = [], data
        while rest:
            head, _, after = rest.partition(b"\r\n")
            size = int(head, 16) if head.isalnum() else 0
            if not size or after[size : size + 2] != b"\r\n":
                return False
            found.append(after[:size])
            rest = after[size + 2 :]
        if chance.random() < 0.2:
            return False
        got.extend(found)
        short.extend(found)
        return True

    async with serving(in_bits) as (server, origin):
        for _ in range(2):
            got.clear()
            async with await ask(door, origin) as answer:
                while not await answer.pour(sink, whole):
                    await asyncio.sleep(0)
            assert b"".join(got) == b"".join(pieces)
        assert server.connections == 1, "llhttp saw the end where it was"
    assert short


async def test_an_error_of_the_framed_sink_is_the_error_of_the_pour(door: Door) -> None:
    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _number in range(9):
            writer.write(framed(b"x"))
            await asyncio.sleep(0.005)

    def full(_: bytes) -> bool:
        raise Silent("that is enough")

    async with serving(talking) as (_, origin), await ask(door, origin) as answer:
        with pytest.raises(UpstreamFailure, match="enough"):
            await answer.pour(lambda piece: True, full)


async def test_silence_is_counted_from_the_piece_that_was_taken_as_it_came(door: Door) -> None:
    async def talking(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _number in range(12):
            writer.write(framed(b"x"))
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)

    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        taken.append(data)
        return True

    async with serving(talking) as (_, origin), await ask(door, origin, Limits(first_byte_s=9, idle_s=0.4)) as answer:
        await answer.chunk()
        with pytest.raises(Silent, match="silent"):
            await answer.pour(lambda piece: True, take)
    assert len(taken) > 8, "0.6 s of pieces, although 0.4 s of silence end it"
