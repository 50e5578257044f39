"""Streams of Claude and Gemini as OpenAI's: every cut of the bytes, every malformed event, and the time it takes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from gateway.providers.anthropic_messages import AnthropicMessages
from gateway.providers.gemini_generate import GeminiGenerate
from gateway.translation import dialects, to_anthropic, to_gemini
from gateway.translation.dialects import Translated, TranslatedMeter

CLAUDE = dialects.anthropic(AnthropicMessages())
GEMINI = dialects.gemini(GeminiGenerate())
START = {
    "input_tokens": 2679,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 40,
    "output_tokens": 3,
    "service_tier": "standard",
}


def claude_events() -> list[dict[str, Any]]:
    def delta(index: int, **more: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": more}

    opening = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "usage": START,
    }
    ending = {"stop_reason": "tool_use", "stop_sequence": None}
    tools = [{"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": {}} for n, name in enumerate("fg")]
    return [
        {"type": "message_start", "message": opening},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "ping"},
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="sig"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        delta(1, type="text_delta", text="One "),
        delta(1, type="text_delta", text="moment é"),
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": tools[0]},
        delta(2, type="input_json_delta", partial_json=""),
        delta(2, type="input_json_delta", partial_json='{"a":'),
        delta(2, type="input_json_delta", partial_json=" 1}"),
        {"type": "content_block_stop", "index": 2},
        {"type": "content_block_start", "index": 3, "content_block": tools[1]},
        {"type": "content_block_stop", "index": 3},
        {"type": "message_delta", "delta": ending, "usage": {"input_tokens": 10682, "output_tokens": 510}},
        {"type": "message_stop"},
    ]  # fmt: skip


def gemini_events() -> list[dict[str, Any]]:
    def part(*parts: Any, spent: int, finish: str | None = None) -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0} | (
            {"finishReason": finish} if finish else {}
        )
        usage = {
            "promptTokenCount": 20,
            "candidatesTokenCount": spent,
            "thoughtsTokenCount": 5,
            "totalTokenCount": 25 + spent,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-x", "responseId": "r1"}

    return [
        part({"text": "hm", "thought": True}, spent=0),
        part({"text": "One "}, spent=2),
        part({"text": "moment é"}, spent=4),
        part(
            {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "g"}},
            spent=9,
        ),
        part({"text": ""}, spent=9, finish="STOP"),
    ]


def wire(events: list[dict[str, Any]], *, named: bool, end: str = "\n") -> bytes:
    lines = []
    for event in events:
        lines += [f"event: {event['type']}"] if named else []
        lines += [f"data: {json.dumps(event, ensure_ascii=False)}", ""]
    return (end.join(lines) + end).encode()


STREAMS = {"claude": (CLAUDE, claude_events, True), "gemini": (GEMINI, gemini_events, False)}


def run(dialect: Translated, parts: list[bytes], *, usage: bool = True) -> tuple[bytes, TranslatedMeter]:
    meter = dialect.stream_meter({"stream_options": {"include_usage": usage}})
    return b"".join([meter.feed(part) for part in parts]) + meter.finish(), meter


def chunks(shown: bytes) -> list[dict[str, Any]]:
    events = [event.removeprefix("data: ") for event in shown.decode().split("\n\n") if event]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_cut_of_the_bytes_gives_the_same_stream(name: str, end: str) -> None:
    dialect, events, named = STREAMS[name]
    stream = wire(events(), named=named, end=end)
    expected, whole = run(dialect, [stream])
    wanted = chunks(expected)
    created = wanted[0]["created"]
    for cut in range(1, len(stream)):
        shown, meter = run(dialect, [stream[:cut], stream[cut:]])
        made = chunks(shown)
        assert [{**chunk, "created": created} for chunk in made] == wanted
        assert (meter.reading.raw_usage, meter.reading.ended) == (whole.reading.raw_usage, True)


@pytest.mark.parametrize("name", STREAMS)
def test_the_sdk_assembles_the_answer_from_the_chunks(name: str) -> None:
    dialect, events, named = STREAMS[name]
    made = chunks(run(dialect, [wire(events(), named=named)])[0])
    state = ChatCompletionStreamState()
    for chunk in made:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    final = state.get_final_completion()
    choice = final.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("One moment é", "tool_calls")
    calls = choice.message.tool_calls or []
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [("f", {"a": 1}), ("g", {})]
    assert len({call.id for call in calls}) == 2
    assert {chunk["id"] for chunk in made} == {made[0]["id"]}
    assert final.usage is not None
    assert final.usage.total_tokens == (10_682 + 40 + 510 if name == "claude" else 20 + 9 + 5)


def test_what_is_billed_is_the_native_usage_start_and_deltas_as_one() -> None:
    _, meter = run(CLAUDE, [wire(claude_events(), named=True)])
    assert orjson.loads(meter.reading.raw_usage) == {**START, "input_tokens": 10_682, "output_tokens": 510}
    _, meter = run(GEMINI, [wire(gemini_events(), named=False)])
    assert orjson.loads(meter.reading.raw_usage) == gemini_events()[-1]["usageMetadata"]
    assert meter.reading.usage_key == "usageMetadata"


@pytest.mark.parametrize("name", STREAMS)
def test_who_did_not_ask_for_usage_sees_none(name: str) -> None:
    dialect, events, named = STREAMS[name]
    made = chunks(run(dialect, [wire(events(), named=named)], usage=False)[0])
    assert all("usage" not in chunk and chunk["choices"] for chunk in made)


def test_thinking_and_signatures_reach_the_client_and_go_back() -> None:
    made = chunks(run(CLAUDE, [wire(claude_events(), named=True)])[0])
    [block] = [
        c["choices"][0]["delta"]["thinking_blocks"][0]
        for c in made
        if c["choices"] and "thinking_blocks" in c["choices"][0]["delta"]
    ]
    back = to_anthropic.request(
        {"messages": [{"role": "assistant", "content": "x", "thinking_blocks": [block]}]}, "claude-x"
    )
    assert back["messages"][0]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    made = chunks(run(GEMINI, [wire(gemini_events(), named=False)])[0])
    [first, _] = [
        c["choices"][0]["delta"]["tool_calls"][0]
        for c in made
        if c["choices"] and "tool_calls" in c["choices"][0]["delta"]
    ]
    sent = to_gemini.request({"messages": [{"role": "assistant", "tool_calls": [first]}]}, "gemini-3.5-flash")
    assert sent["contents"][0]["parts"][0]["thoughtSignature"] == "c2ln"


def test_an_error_in_mid_stream_is_told_in_openais_words_and_nothing_follows() -> None:
    broken = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    shown, meter = run(CLAUDE, [wire([*claude_events()[:9], broken, {"type": "message_stop"}], named=True)])
    last = json.loads(shown.decode().strip().rpartition("data: ")[2])
    assert last["error"]["code"] == "overloaded_error"
    assert b"[DONE]" not in shown
    assert (meter.reading.raw_usage, meter.reading.ended, meter.reading.error) == (b"", False, "overloaded_error")


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_stops_short_has_no_end_and_no_usage_to_bill(name: str) -> None:
    dialect, events, named = STREAMS[name]
    meter = dialect.stream_meter({})
    shown = meter.feed(wire(events()[:3], named=named))
    assert b"[DONE]" not in shown
    assert (meter.reading.raw_usage, meter.reading.ended) == (b"", False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    "type",
    "index",
    "delta",
    "content_block",
    "message",
    "usage",
    "error",
    "candidates",
    "content",
    "usageMetadata",
    "promptFeedback",
)


@st.composite
def spoiled(draw: st.DrawFn, events: list[dict[str, Any]]) -> bytes:
    """A stream with some of its events changed, doubled, lost or torn."""
    made = []
    for event in events:
        fate = draw(st.integers(0, 9))
        if fate == 0:
            event = {**event, draw(st.sampled_from(KEYS)): draw(JSON)}
        elif fate == 1:
            continue
        elif fate == 2:
            made.append(event)
        made.append(event)
    stream = b"".join(b"data: " + orjson.dumps(e, option=orjson.OPT_NON_STR_KEYS) + b"\n\n" for e in made if _fits(e))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(stream)))
        stream = stream[:at] + draw(st.binary(max_size=12)) + stream[at:]
    return stream


def _fits(event: Any) -> bool:
    try:
        orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
def test_no_stream_however_spoiled_breaks_the_translation(name: str, data: st.DataObject) -> None:
    dialect, events, _ = STREAMS[name]
    stream = data.draw(spoiled(events()))
    edges = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    shown, meter = run(dialect, [stream[a:b] for a, b in pairwise([0, *edges, len(stream)])])
    for event in shown.split(b"\n\n"):
        if event:
            assert event.startswith(b"data: ")
            assert event == b"data: [DONE]" or isinstance(orjson.loads(event[6:]), dict)
    if meter.reading.raw_usage:
        orjson.loads(meter.reading.raw_usage)


def test_a_delta_that_is_text_is_an_odd_event_and_no_end() -> None:
    meter = AnthropicMessages().stream_meter({})
    odd = (
        b'data: {"type":"content_block_delta","index":1,"delta":""}\n\ndata: {"type":"message_start","message":"x"}\n\n'
    )
    assert meter.feed(odd) == odd
