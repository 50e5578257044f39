"""What pricing a call and translating one cost, for every dialect and every pair: CPU time, the least of many rounds, because noise only ever adds.

    python -m tests.bench.metering            # prints the figures
    python -m tests.bench.metering --write    # and puts them into docs/performance.md

The bars are issue 4's: 20 µs for a price on the hot path, 200 µs for a translation. The same work is guarded in CI by its instructions
(tests/gateway/test_metering_costs.py), which no busy machine changes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from billing.domain.pricing import price
from billing.domain.usage import extract
from billing.prices import default_book
from gateway.sse import event_of
from gateway.translation import (
    from_anthropic,
    from_converse,
    from_gemini,
    responses,
    to_anthropic,
    to_converse,
    to_gemini,
)
from gateway.translation.response_events import ResponseStream

PRICE_US, TRANSLATE_US = 20.0, 200.0
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- metering -->", "<!-- /metering -->"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Way:
    what: str
    bar_us: float
    work: Callable[[], object]


# --- Pricing ----------------------------------------------------------------------------------------------------------
# What the gateway keeps of an answer: who answered, and its usage (`Reading.said` and `raw_usage`).

DETAILS = {"prompt_tokens_details": {"cached_tokens": 1920}, "completion_tokens_details": {"reasoning_tokens": 64}}
KEPT: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "a chat completion": (
        "openai", "/v1/chat/completions", "gpt-4o",
        {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", "service_tier": "default",
         "usage": {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306, **DETAILS}},
    ),
    "a response": (
        "openai", "/v1/responses", "gpt-5",
        {"id": "resp_1", "object": "response", "model": "gpt-5-2025-08-07", "service_tier": "default", "status": "completed",
         "usage": {"input_tokens": 2006, "input_tokens_details": {"cached_tokens": 1920}, "output_tokens": 300,
                   "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 2306}},
    ),
    "a message of Anthropic's": (
        "anthropic", "/v1/messages", "claude-sonnet-4-5",
        {"id": "msg_1", "type": "message", "model": "claude-sonnet-4-5-20250929",
         "usage": {"input_tokens": 21, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 188086, "output_tokens": 393,
                   "cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}, "service_tier": "standard",
                   "inference_geo": "not_available"}},
    ),
    "an answer of Gemini's": (
        "google", "/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash",
        {"responseId": "r", "modelVersion": "gemini-2.5-flash",
         "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405, "totalTokenCount": 623,
                           "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}]}},
    ),
    "an answer of Converse's": (
        "bedrock", "/model/us.anthropic.claude-opus-4-6-v1/converse", "us.anthropic.claude-opus-4-6-v1",
        {"usage": {"inputTokens": 86, "outputTokens": 300, "totalTokens": 386, "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}},
    ),
    "a charge that the provider states": (
        "openrouter", "/v1/chat/completions", "openai/gpt-4o",
        {"id": "gen-1", "model": "openai/gpt-4o", "usage": {"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.000505}},
    ),
    "embeddings": (
        "openai", "/v1/embeddings", "text-embedding-3-small",
        {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
    ),
}  # fmt: skip


def pricing(provider: str, endpoint: str, model: str, kept: dict[str, Any]) -> Callable[[], object]:
    """Reading the usage and pricing it, as at the end of a call: the rates were pinned when it was admitted."""
    rates = default_book().rates(provider, model, NOW)
    assert rates is not None
    request = {"model": model}

    def work() -> object:
        return price(extract(provider, endpoint, kept, request=request), rates)

    return work


# --- Translating ------------------------------------------------------------------------------------------------------

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
ASKED: dict[str, Any] = {
    "model": "m",
    "max_completion_tokens": 500,
    "temperature": 0.5,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Bern?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}]},
    ],
    "tools": [TOOL],
}
LONG: dict[str, Any] = {
    **ASKED,
    "messages": [
        {"role": "system", "content": "Be brief. " * 20},
        *[{"role": "user" if n % 2 == 0 else "assistant", "content": f"Turn {n}. " * 20} for n in range(20)],
        {"role": "user", "content": "So?"},
    ],
    "tools": [TOOL] * 5,
}
RESPONDED: dict[str, Any] = {
    "model": "m",
    "max_output_tokens": 500,
    "input": [
        {"role": "user", "content": "What is the weather in Bern?"},
        {"type": "function_call", "call_id": "t1", "name": "weather", "arguments": '{"city":"Bern"}'},
        {"type": "function_call_output", "call_id": "t1", "output": "sunny"},
        {"role": "user", "content": [{"type": "input_text", "text": "And tomorrow?"}]},
    ],
    "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}}],
}
TEXT = "Sunny, again. " * 20
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": TEXT}],
    "usage": {"input_tokens": 86, "output_tokens": 300, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
}  # fmt: skip
GENERATED: dict[str, Any] = {
    "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 86, "candidatesTokenCount": 300, "totalTokenCount": 386},
    "modelVersion": "gemini",
}
CONVERSED: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 86, "outputTokens": 300, "totalTokens": 386},
}
PIECES: dict[str, tuple[Callable[[], Any], list[dict[str, Any]], dict[str, Any]]] = {
    "Anthropic": (
        lambda: from_anthropic.Stream(1, show_usage=True),
        [
            {"type": "message_start", "message": {**MESSAGE, "content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ],
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Sunny"}},
    ),
    "Gemini": (
        lambda: from_gemini.Stream(1, show_usage=True),
        [],
        {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "Sunny"}]}}], "modelVersion": "gemini",
         "usageMetadata": {"promptTokenCount": 86, "totalTokenCount": 86}},
    ),
    "Converse": (
        lambda: from_converse.Stream(1, show_usage=True).asked("m", b"0" * 16),
        [{"messageStart": {"role": "assistant"}}],
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Sunny"}}},
    ),
}  # fmt: skip
REQUESTS = {
    "Anthropic": (to_anthropic.request, "claude-sonnet-4-6"),
    "Gemini": (to_gemini.request, "gemini-2.5-flash"),
    "Converse": (to_converse.request, "amazon.nova-lite-v1:0"),
}
ANSWERS = {
    "Anthropic": (from_anthropic.response, MESSAGE),
    "Gemini": (from_gemini.response, GENERATED),
    "Converse": (from_converse.response, CONVERSED),
}


def piece(name: str, *, as_response: bool) -> Callable[[], object]:
    """One more event in the middle of a stream: an event in, the bytes of the client's events out."""
    make, first, event = PIECES[name]
    stream: Any = ResponseStream(make(), RESPONDED, 1) if as_response else make()
    for one in first:
        stream.take(one)

    def work() -> object:
        return b"".join([event_of(orjson.dumps(chunk)) for chunk in stream.take(event)])

    return work


def _as_response(answer: Callable[[Any, int], dict[str, Any]], given: dict[str, Any]) -> object:
    return responses.response(answer(given, 1), RESPONDED)


def ways() -> list[Way]:
    """Every dialect that is priced, every pair that is translated."""
    found = [Way(f"price of {name}", PRICE_US, pricing(*kept)) for name, kept in KEPT.items()]
    for name, (request, model) in REQUESTS.items():
        answer, given = ANSWERS[name]
        work: dict[str, Callable[[], object]] = {
            f"a chat's request to {name}": partial(request, ASKED, model),
            f"a chat of twenty turns and five tools to {name}": partial(request, LONG, model),
            f"a response's request to {name}": partial(responses.translated, RESPONDED, model, request),
            f"{name}'s answer to a chat": partial(answer, given, 1),
            f"{name}'s answer to a response": partial(_as_response, answer, given),
            f"a piece of {name}'s stream to a chat": piece(name, as_response=False),
            f"a piece of {name}'s stream to a response": piece(name, as_response=True),
        }
        found += [Way(what, TRANSLATE_US, one) for what, one in work.items()]
    return found


# --- Measuring --------------------------------------------------------------------------------------------------------


def least_us(work: Callable[[], object], rounds: int = 40, calls: int = 30) -> float:
    """Microseconds of CPU a call, in the best of many short rounds."""
    for _ in range(calls):
        work()
    least = float("inf")
    for _ in range(rounds):
        began = time.process_time_ns()
        for _ in range(calls):
            work()
        least = min(least, (time.process_time_ns() - began) / calls)
    return least / 1000


def measured(passes: int) -> list[tuple[Way, float]]:
    """Each in several turns: a neighbour that slows the core down for seconds meets all of them alike."""
    all_ways = ways()
    least = [float("inf")] * len(all_ways)
    for _ in range(passes):
        least = [min(known, least_us(way.work)) for known, way in zip(least, all_ways, strict=True)]
    return list(zip(all_ways, least, strict=True))


def table(found: list[tuple[Way, float]]) -> str:
    rows = [f"| {way.what} | {us:.1f} µs | {way.bar_us:.0f} µs |" for way, us in found]
    return "\n".join(["| what | CPU | bar |", "| --- | --- | --- |", *rows])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    options.add_argument("--passes", type=int, default=12)
    args = options.parse_args()
    found = measured(args.passes)
    print(table(found))
    if args.write:
        page = PAGE.read_text()
        head, _, rest = page.partition(BEGIN)
        _, _, tail = rest.partition(END)
        PAGE.write_text(f"{head}{BEGIN}\n{table(found)}\n{END}{tail}")
    over = [way.what for way, us in found if us > way.bar_us]
    raise SystemExit(f"over the bar: {', '.join(over)}" if over else 0)


if __name__ == "__main__":
    main()
