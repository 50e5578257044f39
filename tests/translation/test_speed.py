"""What pricing and translating cost on the hot path, in numbers that no busy machine changes: Python instructions and calls of C functions.

`python -m tests.bench.metering` measures the same work in microseconds (20 for a price, 200 for a translation; docs/performance.md).
When a change makes one cheaper, lower its number (they are printed).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.bench.metering import PRICE_US, Way, least_us, ways

SLACK = 1.25
MOST = {
    "price of a chat completion": 537,
    "price of a response": 1941,
    "price of a message of Anthropic's": 1603,
    "price of an answer of Gemini's": 1726,
    "price of an answer of Converse's": 1014,
    "price of a charge that the provider states": 1816,
    "price of embeddings": 1869,
    "a chat's request to Anthropic": 2124,
    "a chat of twenty turns and five tools to Anthropic": 7788,
    "a response's request to Anthropic": 3045,
    "Anthropic's answer to a chat": 512,
    "Anthropic's answer to a response": 1252,
    "a piece of Anthropic's stream to a chat": 181,
    "a piece of Anthropic's stream to a response": 446,
    "a chat's request to Gemini": 2020,
    "a chat of twenty turns and five tools to Gemini": 6602,
    "a response's request to Gemini": 2952,
    "Gemini's answer to a chat": 688,
    "Gemini's answer to a response": 1428,
    "a piece of Gemini's stream to a chat": 472,
    "a piece of Gemini's stream to a response": 737,
    "a chat's request to Converse": 1761,
    "a chat of twenty turns and five tools to Converse": 5689,
    "a response's request to Converse": 2732,
    "Converse's answer to a chat": 465,
    "Converse's answer to a response": 1206,
    "a piece of Converse's stream to a chat": 186,
    "a piece of Converse's stream to a response": 451,
}


def steps(work: Callable[[], object]) -> int:
    """Instructions and C calls of one call, once everything that is kept in memory is there."""
    for _ in range(3):
        work()
    count = 0

    def in_frame(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "opcode"
        return in_frame

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return in_frame

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    traced, profiled = sys.gettrace(), sys.getprofile()
    sys.settrace(enter)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.settrace(traced)
        sys.setprofile(profiled)
    return count


@pytest.mark.parametrize("way", ways(), ids=lambda way: way.what)
def test_pricing_and_translating_take_no_more_steps_than_they_did(way: Way) -> None:
    counted = steps(way.work)
    print(f'    "{way.what}": {counted},')
    assert counted <= MOST[way.what] * SLACK


def test_a_price_takes_microseconds() -> None:
    """Asserted with room for a busy machine; CPU time, the least of many rounds."""
    dearest = max(least_us(way.work, rounds=10) for way in ways() if way.bar_us == PRICE_US)
    print(f"{dearest:.1f} us")
    assert dearest < 3 * PRICE_US
