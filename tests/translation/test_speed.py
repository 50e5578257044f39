"""What translation costs on the hot path: printed, and asserted with room for a busy machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

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
from tests.billing.domain.test_speed import best_us

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED: dict[str, Any] = {
    "model": "m",
    "max_completion_tokens": 500,
    "temperature": 0.5,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Bern?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}]},
    ],
    "tools": [TOOL],
}
RESPONDED: dict[str, Any] = {
    "model": "m",
    "input": "What is the weather?",
    "tools": [{"type": "function", **TOOL["function"]}],
}  # type: ignore[dict-item]
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Sunny, again. " * 20}],
    "usage": {"input_tokens": 86, "output_tokens": 300, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
}  # fmt: skip
GENERATED = {
    "candidates": [
        {"index": 0, "content": {"role": "model", "parts": [{"text": "Sunny, again. " * 20}]}, "finishReason": "STOP"}
    ],
    "usageMetadata": {"promptTokenCount": 86, "candidatesTokenCount": 300, "totalTokenCount": 386},
    "modelVersion": "gemini",
}
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Sunny, again. " * 20}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 86, "outputTokens": 300, "totalTokens": 386},
}


def streamed() -> bytes:
    """One chunk of a stream: an event in, the bytes of an event out."""
    stream = from_anthropic.Stream(1, show_usage=True)
    stream.take({"type": "message_start", "message": MESSAGE})
    stream.take({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    made = stream.take({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Sunny"}})
    return b"".join(event_of(orjson.dumps(chunk)) for chunk in made)


@pytest.mark.parametrize(
    ("what", "work"),
    [
        ("a request to Anthropic", lambda: to_anthropic.request(ASKED, "claude-sonnet-4-6")),
        ("a request to Gemini", lambda: to_gemini.request(ASKED, "gemini-2.5-flash")),
        ("a request to Converse", lambda: to_converse.request(ASKED, "amazon.nova-lite-v1:0")),
        (
            "a response's request to Anthropic",
            lambda: responses.translated(RESPONDED, "claude-sonnet-4-6", to_anthropic.request),
        ),
        ("an answer of Anthropic's", lambda: from_anthropic.response(MESSAGE, 1)),
        ("an answer of Gemini's", lambda: from_gemini.response(GENERATED, 1)),
        ("an answer of Converse's", lambda: from_converse.response(CONVERSED, 1)),
        ("the first events of a stream", streamed),
    ],
)
def test_translating_takes_microseconds(what: str, work: Callable[[], object]) -> None:
    took = best_us(work, rounds=5, calls=100)
    print(f"{what}: {took:.1f} us")
    assert took < 600  # 200 on an idle machine
