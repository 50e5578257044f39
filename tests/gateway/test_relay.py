"""One stream from a provider to a client, piece by piece: what the client gets and what is noted, whatever way a piece goes."""

from __future__ import annotations

import asyncio
import random
import sys
from types import FrameType
from typing import Any, cast

import pytest

from gateway import streaming
from gateway.attempt import Attempt
from gateway.edge import Send
from gateway.providers.dialect import Reading
from gateway.providers.openai_chat import ChatStreamMeter
from gateway.streaming import Drains, Relay
from gateway.upstream import Door
from tests.gateway.test_pour import CHUNKED
from tests.gateway.test_stream_template import event, framed
from tests.gateway.test_upstream import ask, door, serving

__all__ = ["door"]
USAGE = b'data: {"id":"c-1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":9,"total_tokens":10}}\n\n'
DONE = b"data: [DONE]\n\n"


class Client:
    """The server's side of one, that is full now and then."""

    def __init__(self, full: random.Random | None = None) -> None:
        self.got = b""
        self.whole_pieces = 0
        self.flow = self
        self._full = full

    @property
    def write_paused(self) -> bool:
        return self._full is not None and self._full.random() < 0.1

    def pass_on(self, body: bytes) -> None:
        self.got += body

    def pass_framed(self, wire: bytes) -> bool:
        if self.write_paused:
            return False
        self.whole_pieces += 1
        while wire:
            head, _, rest = wire.partition(b"\r\n")
            self.got += rest[: int(head, 16)]
            wire = rest[int(head, 16) + 2 :]
        return True

    async def __call__(self, message: Any) -> None:
        self.got += message.get("body", b"")


class Settled:
    def __init__(self) -> None:
        self.readings: list[Reading] = []

    def settle(self, reading: Reading, status: int, error: str) -> None:
        self.readings.append(reading)


async def relayed(door: Door, reads: list[bytes], client: Client, leaves: asyncio.Event | None = None) -> Reading:
    """The provider's writes, each apart from the next, through a relay. The client hangs up when `leaves` is set."""

    async def provider(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in reads:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    async def receive() -> Any:
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    settled = Settled()
    async with serving(provider) as (_, origin), await ask(door, origin) as answer:
        relay = Relay(
            "call", answer, ChatStreamMeter(show_usage=False), cast("Attempt", settled), Drains(), cast("Send", client), receive
        )  # fmt: skip
        await relay.run(await relay.first(), [])
    (reading,) = settled.readings
    return reading


@pytest.mark.parametrize("seed", range(6))
async def test_the_client_gets_every_event_and_every_text_is_noted_however_events_are_cut_and_however_slow_it_is(
    door: Door, seed: int
) -> None:
    chance = random.Random(seed)
    words = [chance.choice(["a", " word", "\n", 'he said "no"', "é", "x" * 300]) for _ in range(40)]
    events = [event(word) for word in words]
    pieces = []
    for one in events:
        cut = chance.randrange(1, len(one))
        pieces += [framed(one)] if chance.random() < 0.7 else [framed(one[:cut]), framed(one[cut:])]
    pieces += [framed(USAGE + DONE), b"0\r\n\r\n"]
    reads = [CHUNKED]
    for piece in pieces:
        cut = chance.randrange(1, len(piece))
        if chance.random() < 0.3:
            reads[-1] += piece
        else:
            reads += [piece] if chance.random() < 0.8 else [piece[:cut], piece[cut:]]
    client = Client(chance)
    reading = await relayed(door, reads, client)
    assert client.got == b"".join(events) + DONE
    assert "".join(reading.texts) == "".join(words)
    assert reading.output_bytes == len("".join(words).encode())
    assert reading.ended
    assert b'"completion_tokens":9' in reading.raw_usage


async def test_a_client_that_leaves_gets_no_more_and_the_rest_is_read_to_its_end(door: Door) -> None:
    leaves = asyncio.Event()

    class Leaving(Client):
        def pass_framed(self, wire: bytes) -> bool:
            if self.got.count(b"word") > 5:
                leaves.set()
            return super().pass_framed(wire)

    client = Leaving()
    reads = [
        CHUNKED + framed(event("first")),
        *(framed(event("word")) for _ in range(40)),
        framed(USAGE + DONE) + b"0\r\n\r\n",
    ]
    reading = await relayed(door, reads, client, leaves)
    assert b"[DONE]" not in client.got
    assert "".join(reading.texts) == "first" + "word" * 40
    assert b'"completion_tokens":9' in reading.raw_usage


async def test_texts_of_a_long_answer_do_not_pile_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MOST_TEXTS", 2)
    most = 0

    class Watching(Client):
        def pass_framed(self, wire: bytes) -> bool:
            nonlocal most
            most = max(most, wire.count(b"data: "))
            return super().pass_framed(wire)

    client = Watching()
    words = [f" w{number}" for number in range(60)]
    reads = [
        CHUNKED + framed(event("first")),
        *(framed(event(word)) for word in words),
        framed(USAGE + DONE) + b"0\r\n\r\n",
    ]
    reading = await relayed(door, reads, client)
    assert "".join(reading.texts) == "first" + "".join(words)
    assert len(reading.texts) >= 60 / (most + 2), "noted every few pieces"


async def test_pieces_that_only_add_text_go_the_short_way(door: Door) -> None:
    client = Client()
    reads = [
        CHUNKED + framed(event("first")),
        *(framed(event("word")) for _ in range(20)),
        framed(USAGE + DONE) + b"0\r\n\r\n",
    ]
    reading = await relayed(door, reads, client)
    assert "".join(reading.texts) == "first" + "word" * 20
    assert client.whole_pieces >= 3, "several may come together"


PIECE, SLACK = 107, 1.25
"""Python instructions, from the relay's side, of a piece that only adds text; lower it when it gets cheaper (it is printed)."""


async def test_a_piece_that_only_adds_text_costs_no_more_than_it_did(door: Door) -> None:
    client = Quiet()
    relay = Relay(
        "call", cast("Any", None), ChatStreamMeter(show_usage=True), cast("Attempt", Settled()), Drains(), cast("Send", client), cast("Any", None)
    )  # fmt: skip
    relay._take(event("a") + event("b"))
    pieces = [framed(event("word")) for _ in range(50)]
    assert all(map(relay._take_framed, pieces))
    count = 0

    def in_frame(frame: FrameType, kind: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += kind == "opcode"
        return in_frame

    before = sys.gettrace()
    sys.settrace(in_frame)
    try:
        for piece in pieces:
            relay._take_framed(piece)
    finally:
        sys.settrace(before)
    print(f"a piece: {count / len(pieces):.0f} instructions")
    assert count / len(pieces) <= PIECE * SLACK


class Quiet(Client):
    write_paused = False

    def pass_framed(self, wire: bytes) -> bool:
        return True
