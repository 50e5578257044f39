"""FAULTS F7: two hundred slow streams at once. `python -m tests.bench.streams` measures the ratio on a quiet machine, against its goal."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.streams import short_calls, slow_stream
from tests.gateway.world import GatewayProcess, Shop

STREAMS, GAP_MS, TOKENS = 200, 500, 30


@pytest.mark.long
def test_two_hundred_slow_streams_leave_short_calls_alone_and_are_all_billed(
    gateway: GatewayProcess, shop: Shop
) -> None:
    base = f"{gateway.url}/v1"

    async def measure() -> tuple[float, float, list[bytes]]:
        await short_calls(base, shop.key, 100)
        alone = await short_calls(base, shop.key, 300)
        streams = await asyncio.gather(*(slow_stream(base, shop.key, GAP_MS, TOKENS) for _ in range(STREAMS)))
        beside = await short_calls(base, shop.key, 300)
        return alone, beside, await asyncio.gather(*streams)

    alone_ms, beside_ms, answers = asyncio.run(measure())
    assert all(b"[DONE]" in answer for answer in answers)
    assert beside_ms < 4 * alone_ms + 20, "a bound that a busy machine keeps, too"
    entries = shop.entries(STREAMS + 700, timeout_s=30)
    assert {(entry.state, entry.basis) for entry in entries} == {("settled", "measured")}
    assert shop.held_nano() == 0
