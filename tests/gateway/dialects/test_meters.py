"""The native meters: what the client sees is what came, what is billed is what the provider said last, whatever the cuts and the garbage."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.usage import extract
from gateway.providers.anthropic_messages import AnthropicMessages
from gateway.providers.dialect import Wanted
from gateway.providers.gemini_generate import GeminiGenerate
from gateway.providers.openai_embeddings import OpenAIEmbeddings
from gateway.providers.openai_responses import OpenAIResponses

CLAUDE = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-opus-4-8", "usage": {
        "input_tokens": 2679, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 0, "output_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}, "service_tier": "standard"}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Héllo"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {
        "input_tokens": 10682, "output_tokens": 510, "server_tool_use": {"web_search_requests": 1}}},
    {"type": "message_stop"},
]  # fmt: skip
GEMINI = [
    {"candidates": [{"content": {"parts": [{"text": "Hé"}]}}],
     "usageMetadata": {"promptTokenCount": 20, "totalTokenCount": 425, "thoughtsTokenCount": 405},
     "modelVersion": "gemini-3.5-flash", "responseId": "r1"},
    {"candidates": [{"content": {"parts": [{"text": "llo"}]}, "finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["a", "", "b"]}}],
     "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405, "totalTokenCount": 623}},
]  # fmt: skip
RESPONSES = [
    {"type": "response.created", "response": {"id": "resp_1", "object": "response", "model": "gpt-5.5", "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "web_search_call", "id": "ws"}},
    {"type": "response.output_text.delta", "delta": "Héllo"},
    {"type": "response.completed", "response": {
        "id": "resp_1", "object": "response", "model": "gpt-5.5", "status": "completed", "service_tier": "default",
        "output": [{"type": "web_search_call", "action": {"type": "search"}}, {"type": "web_search_call", "action": {"type": "open_page"}},
                   {"type": "message", "content": [{"type": "output_text", "text": "Héllo"}]}],
        "usage": {"input_tokens": 50, "input_tokens_details": {"cached_tokens": 10}, "output_tokens": 7, "total_tokens": 57}}},
]  # fmt: skip
SAMPLES: dict[str, tuple[Any, list[dict[str, Any]], str, str, bool, dict[str, int], dict[str, int]]] = {
    "anthropic": (
        AnthropicMessages(), CLAUDE, "anthropic", "/anthropic/v1/messages", True,
        {"input_uncached": 10_682, "cache_write_5m": 600, "cache_write_1h": 400, "output_text": 510}, {"web_search": 1},
    ),
    "gemini": (
        GeminiGenerate(), GEMINI, "gemini", "/gemini/v1beta/models/{model}:streamGenerateContent?alt=sse", False,
        {"input_uncached": 20, "output_text": 603}, {"grounding_query": 2},
    ),
    "responses": (
        OpenAIResponses(), RESPONSES, "openai", "/v1/responses", True,
        {"input_uncached": 40, "cache_read": 10, "output_text": 7}, {"web_search": 1},
    ),
}  # fmt: skip


def wire(events: list[dict[str, Any]], *, named: bool, end: str = "\n") -> bytes:
    lines = []
    for event in events:
        lines += [f"event: {event['type']}"] if named else []
        lines += [f"data: {json.dumps(event, ensure_ascii=False)}", ""]
    return (end.join(lines) + end).encode()


def billed(reading: Any, provider: str, endpoint: str) -> Any:
    payload = {**reading.said, reading.usage_key: orjson.loads(reading.raw_usage)}
    return extract(provider, endpoint, payload, streamed=True)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_cut_passes_every_byte_and_bills_the_same(name: str, end: str) -> None:
    dialect, events, provider, endpoint, named, buckets, fees = SAMPLES[name]
    stream = wire(events, named=named, end=end)
    for cut in range(1, len(stream)):
        meter = dialect.stream_meter({})
        assert meter.feed(stream[:cut]) + meter.feed(stream[cut:]) + meter.finish() == stream
        assert (meter.reading.ended, meter.reading.flags) == (True, [])
        usage = billed(meter.reading, provider, endpoint)
        assert (usage.measured, usage.buckets, usage.fees) == (True, buckets, fees)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_stream_that_breaks_off_has_no_usage_but_a_bound_on_its_words(name: str) -> None:
    dialect, events, _, _, named, *_ = SAMPLES[name]
    for kept in range(1, len(events) - (name == "anthropic")):
        meter = dialect.stream_meter({})
        meter.feed(wire(events[:kept], named=named))
        assert (meter.reading.raw_usage, meter.reading.ended) == (b"", False)
    assert meter.reading.output_bytes >= len("Hé".encode())


def test_the_count_of_claudes_words_is_twice_their_bytes() -> None:
    meter = AnthropicMessages().stream_meter({})
    meter.feed(wire(CLAUDE[4:6], named=True))
    assert meter.reading.output_bytes == 2 * len("Héllo".encode())


def test_gemini_as_one_array_at_every_cut() -> None:
    stream = wire(GEMINI, named=False, end="\r\n")
    for cut in range(1, len(stream)):
        meter = GeminiGenerate(as_array=True).stream_meter({})
        assert json.loads(meter.feed(stream[:cut]) + meter.feed(stream[cut:]) + meter.finish()) == GEMINI
        assert meter.reading.ended
    empty = GeminiGenerate(as_array=True).stream_meter({})
    assert json.loads(empty.finish()) == []
    broken = GeminiGenerate(as_array=True).stream_meter({})
    assert json.loads(broken.feed(wire(GEMINI[:1], named=False)) + broken.error_event(b'{"error":{}}'))[1] == {
        "error": {}
    }


def test_a_gemini_stream_of_two_candidates_ends_with_the_second() -> None:
    meter = GeminiGenerate().stream_meter({"generationConfig": {"candidateCount": 2}})
    usage = {"promptTokenCount": 2, "candidatesTokenCount": 2, "totalTokenCount": 4}
    meter.feed(wire([{"candidates": [{"index": 0, "finishReason": "STOP"}], "usageMetadata": usage}], named=False))
    assert meter.reading.raw_usage == b""
    meter.feed(wire([{"candidates": [{"index": 1, "finishReason": "STOP"}], "usageMetadata": usage}], named=False))
    assert orjson.loads(meter.reading.raw_usage) == usage


def test_errors_in_mid_stream_are_named() -> None:
    for dialect, event, code in (
        (
            AnthropicMessages(),
            {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
            "overloaded_error",
        ),
        (GeminiGenerate(), {"error": {"code": 503, "status": "UNAVAILABLE"}}, "UNAVAILABLE"),
        (OpenAIResponses(), {"type": "error", "code": "server_error", "message": "x"}, "server_error"),
    ):
        meter: Any = dialect.stream_meter({})  # type: ignore[attr-defined]
        meter.feed(wire([event], named=False))
        assert (meter.reading.error, meter.reading.ended) == (code, False)


@pytest.mark.parametrize("dialect", [AnthropicMessages(), GeminiGenerate(), OpenAIResponses(), OpenAIEmbeddings()])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{", b"null", b'{"error":{"message":"x"}}', b'{"type":"error"}', b'"x"', b"\xff"]
)
def test_a_body_that_is_no_answer_is_none(dialect: Any, body: bytes) -> None:
    assert dialect.read_whole(body, "application/json") is None
    assert dialect.read_whole(body, "text/html") is None


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
def test_no_garbage_breaks_a_meter_or_loses_a_byte(name: str, data: st.DataObject) -> None:
    dialect, events, _, _, named, *_ = SAMPLES[name]
    stream = wire(events, named=named)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(stream)))
        stream = stream[:at] + data.draw(st.binary(max_size=8)) + stream[at + data.draw(st.integers(0, 8)) :]
    edges = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    meter = dialect.stream_meter({})
    seen = b"".join([meter.feed(stream[a:b]) for a, b in pairwise([0, *edges, len(stream)])]) + meter.finish()
    assert seen == stream
    if meter.reading.raw_usage:
        billed(meter.reading, "anthropic", "/anthropic/v1/messages")


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 10**18)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.just([1])
    | st.just({})
)


@pytest.mark.parametrize("name", SAMPLES)
@given(
    usage=st.dictionaries(
        st.sampled_from(["input_tokens", "output_tokens", "promptTokenCount", "totalTokenCount", "x"]), VALUES
    )
    | VALUES
)
def test_strange_usages_are_carried_to_billing_and_break_nothing(name: str, usage: Any) -> None:
    dialect, events, provider, endpoint, named, *_ = SAMPLES[name]
    spoiled = json.loads(json.dumps(events))
    for event in spoiled:
        for holder in (event, event.get("message"), event.get("response")):
            for key in ("usage", "usageMetadata"):
                if isinstance(holder, dict) and key in holder:
                    holder[key] = usage
    meter = dialect.stream_meter({})
    meter.feed(wire(spoiled, named=named))
    meter.finish()
    if meter.reading.raw_usage:
        billed(meter.reading, provider, endpoint)


def test_thinking_keeps_half_of_a_lowered_limit() -> None:
    raw = b'{"max_tokens": 9000, "thinking": {"type":"enabled","budget_tokens":5000}}'
    sent = AnthropicMessages().body(raw, orjson.loads(raw), Wanted(output_limit=4_000), "")
    assert orjson.loads(sent) == {"max_tokens": 4_000, "thinking": {"type": "enabled", "budget_tokens": 2_000}}
    sent = AnthropicMessages().body(raw, orjson.loads(raw), Wanted(output_limit=6_000), "")
    assert orjson.loads(sent)["thinking"]["budget_tokens"] == 5_000


def test_a_limit_is_set_where_each_api_keeps_it_and_nothing_else_moves() -> None:
    wanted = Wanted(output_limit=7)
    for dialect, raw, sent in (
        (AnthropicMessages(), b'{"a": 1.10, "max_tokens": 9}', b'{"a": 1.10, "max_tokens": 7}'),
        (
            AnthropicMessages(),
            b'{"max_tokens": 9000, "thinking": {"type":"enabled","budget_tokens":5000}}',
            b'{"max_tokens": 7, "thinking": {"type":"disabled"}}',
        ),
        (OpenAIResponses(), b'{ "max_output_tokens" :9}', b'{ "max_output_tokens" :7}'),
        (
            GeminiGenerate(),
            b'{"generationConfig":{"topK":1}, "a": 1.10}',
            b'{"generationConfig":{"topK":1,"maxOutputTokens":7}, "a": 1.10}',
        ),
        (
            GeminiGenerate(),
            b'{"generation_config":{"max_output_tokens":9}}',
            b'{"generation_config":{"max_output_tokens":7}}',
        ),
        (GeminiGenerate(), b"{}", b'{"generationConfig":{"maxOutputTokens":7}}'),
    ):
        assert dialect.body(raw, orjson.loads(raw), wanted, "") == sent  # type: ignore[attr-defined]
