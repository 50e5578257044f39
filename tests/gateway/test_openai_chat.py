"""The OpenAI chat dialect: what is changed in the body, what is read from the answer, what the client sees of a stream."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers import openai_chat
from gateway.providers.dialect import Wanted
from gateway.providers.openai_chat import ChatStreamMeter, OpenAIChat

dialect = OpenAIChat()
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def chunk(
    content: str | None = None, *, finish: str | None = None, usage: Any = "absent", choices: bool = True
) -> bytes:
    body: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-2024-08-06"}
    body["choices"] = (
        [{"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish}] if choices else []
    )
    if usage != "absent":
        body["usage"] = usage
    return b"data: " + json.dumps(body).encode() + b"\n\n"


TEXT = chunk("Hel", usage=None) + chunk("lo é", usage=None) + chunk(finish="stop", usage=None)
LAST = chunk(usage=USAGE, choices=False)
DONE = b"data: [DONE]\n\n"


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(a % len(stream) for a in at), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges) if a < b]


@given(st.lists(st.integers(0, 2000), max_size=10))
def test_the_usage_chunk_is_read_and_kept_from_a_client_that_did_not_ask(at: list[int]) -> None:
    meter = dialect.stream_meter({"stream": True})
    seen = b"".join(meter.feed(part) for part in cut(TEXT + LAST + DONE, at)) + meter.finish()
    assert seen == TEXT + DONE
    assert orjson.loads(meter.reading.raw_usage) == USAGE
    assert meter.reading.ended
    assert meter.reading.output_bytes == len("Hello é".encode())
    assert meter.reading.said == {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06"}


@given(st.lists(st.integers(0, 2000), max_size=10))
def test_a_client_that_asked_for_usage_sees_every_byte(at: list[int]) -> None:
    meter = dialect.stream_meter({"stream": True, "stream_options": {"include_usage": True}})
    seen = b"".join(meter.feed(part) for part in cut(TEXT + LAST + DONE, at)) + meter.finish()
    assert seen == TEXT + LAST + DONE
    assert orjson.loads(meter.reading.raw_usage) == USAGE


def test_half_an_event_is_not_shown_so_that_an_error_event_can_follow_at_any_time() -> None:
    for asked in (False, True):
        meter = dialect.stream_meter({"stream_options": {"include_usage": asked}})
        assert meter.feed(TEXT + chunk("never ends")[:-9]) == TEXT
        assert meter.error_event(b'{"error":{}}') == b'data: {"error":{}}\n\n'


def test_cumulative_usage_in_every_chunk_is_counted_once_and_shown() -> None:
    stream = b"".join(
        chunk("a", usage={"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n}) for n in (1, 2, 3)
    )
    meter = dialect.stream_meter({})
    assert meter.feed(stream) == stream
    assert orjson.loads(meter.reading.raw_usage)["completion_tokens"] == 3
    assert not meter.reading.ended, "more may come"
    meter.feed(DONE)
    assert meter.reading.ended


@pytest.mark.parametrize(
    "tail,ended",
    [
        (b"", False),
        (DONE, True),
        (DONE + DONE, True),
        (b"data: [DONE]", True),
        (LAST, False),
        (DONE + chunk("late"), True),
    ],
)
def test_an_answer_has_ended_only_when_it_says_so(tail: bytes, ended: bool) -> None:
    meter = dialect.stream_meter({})
    meter.feed(chunk("text") + tail)
    meter.finish()
    assert meter.reading.ended is ended


def test_a_stream_without_done_has_ended_when_its_choice_finished_and_the_body_closed_cleanly() -> None:
    meter = dialect.stream_meter({})
    meter.feed(TEXT)
    assert not meter.reading.ended
    meter.finish()
    assert meter.reading.ended


def test_groq_states_its_usage_in_a_field_of_its_own() -> None:
    meter = dialect.stream_meter({})
    body = {"id": "1", "choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"id": "r", "usage": USAGE}}
    event = b"data: " + json.dumps(body).encode() + b"\n\n"
    assert meter.feed(event) == event
    assert orjson.loads(meter.reading.raw_usage) == USAGE


@pytest.mark.parametrize(
    "event",
    [
        b"data: not json\n\n",
        b"data: [1,2]\n\n",
        b'data: {"choices":"many"}\n\n',
        b'data: {"choices":[{"delta":{"content":[1,{"a":"bc"}]}}]}\n\n',
        b'data: {"choices":null,"usage":null}\n\n',
        b'data: {"id":5,"model":{},"choices":[{"delta":null}]}\n\n',
        b": comment\n\n",
        b"event: ping\ndata: {}\n\n",
    ],
)
def test_odd_events_pass_unchanged_and_do_not_disturb_the_reading(event: bytes) -> None:
    meter = dialect.stream_meter({})
    seen = meter.feed(TEXT + event + LAST + DONE)
    assert seen == TEXT + event + DONE
    assert orjson.loads(meter.reading.raw_usage) == USAGE


def test_text_of_an_unexpected_shape_still_counts_towards_the_bound() -> None:
    meter = dialect.stream_meter({})
    meter.feed(b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"abc"}]}}]}\n\n')
    assert meter.reading.output_bytes >= 3


def test_tool_calls_count_towards_the_bound() -> None:
    meter = dialect.stream_meter({})
    body = {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}}]}
    meter.feed(b"data: " + json.dumps(body).encode() + b"\n\n")
    assert meter.reading.output_bytes >= 3


def test_an_error_event_is_noted() -> None:
    meter = dialect.stream_meter({})
    meter.feed(b'data: {"error":{"message":"m","type":"server_error","code":null}}\n\n')
    assert meter.reading.error == "server_error"


# --- Whole answers ----------------------------------------------------------------------------------------------------
WHOLE = {
    "id": "c",
    "model": "gpt-4o",
    "service_tier": "default",
    "choices": [{"message": {"content": "hi"}}],
    "usage": USAGE,
}


def test_a_whole_answer_is_read() -> None:
    reading = dialect.read_whole(orjson.dumps(WHOLE), "application/json; charset=utf-8")
    assert reading is not None
    assert reading.said == {"id": "c", "model": "gpt-4o", "service_tier": "default"}
    assert orjson.loads(reading.raw_usage) == USAGE
    assert reading.output_bytes == 2


@pytest.mark.parametrize(
    "body,content_type",
    [
        (b"<html>", "text/html"), (orjson.dumps(WHOLE), "text/plain"), (b"", "application/json"), (b"null", "application/json"),
        (orjson.dumps(WHOLE)[:-20], "application/json"), (b'{"error":{"message":"no"}}', "application/json"), (b"[]", "application/json"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_the_dialect_is_told(body: bytes, content_type: str) -> None:
    assert dialect.read_whole(body, content_type) is None


# --- The body that is sent --------------------------------------------------------------------------------------------
BODY = b'{ "model":"m", "messages":[],"temperature":0.70 }'


def test_an_untouched_body_is_the_very_same_bytes() -> None:
    assert dialect.body(BODY, orjson.loads(BODY), Wanted(), "max_tokens") is BODY


def test_usage_is_asked_for_without_losing_other_stream_options() -> None:
    assert (
        dialect.body(BODY, orjson.loads(BODY), Wanted(report_usage=True), "max_tokens")
        == b'{"stream_options":{"include_usage":true},' + BODY[1:]
    )
    for options in (None, {}, {"include_usage": False}, {"include_usage": True, "include_obfuscation": False}):
        fields = {"model": "m", "stream_options": options}
        sent = orjson.loads(dialect.body(orjson.dumps(fields), fields, Wanted(report_usage=True), "max_tokens"))
        assert sent["stream_options"] == {**(options or {}), "include_usage": True}


def test_the_output_limit_goes_where_the_client_or_else_the_provider_wants_it() -> None:
    def sent(fields: dict[str, Any]) -> Any:
        return orjson.loads(dialect.body(orjson.dumps(fields), fields, Wanted(output_limit=9), "max_completion_tokens"))

    assert sent({"model": "m"}) == {"model": "m", "max_completion_tokens": 9}
    assert sent({"max_tokens": 100}) == {"max_tokens": 9}
    assert sent({"max_completion_tokens": 100, "max_tokens": None}) == {"max_completion_tokens": 9, "max_tokens": None}
    assert sent({"max_completion_tokens": None}) == {"max_completion_tokens": 9}


EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["chatcmpl-1", "other", "", 3]),
        "model": st.sampled_from(["gpt-4o", "", None]),
        "service_tier": st.sampled_from(["default", "flex", None, ""]),
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "delta": st.fixed_dictionaries(
                        {},
                        optional={
                            **dict.fromkeys(("content", "refusal", "reasoning_content"), st.sampled_from(["a", "é", "", None, 1])),
                            "tool_calls": st.sampled_from([None, [], [{"function": {"name": "f", "arguments": "{}"}}]]),
                        },
                    ),
                    "text": st.sampled_from(["t", None]),
                    "finish_reason": st.sampled_from([None, "stop", "length"]),
                },
            ),
            max_size=2,
        ),
        "usage": st.sampled_from([None, USAGE, {}]),
        "x_groq": st.sampled_from([None, {"usage": USAGE}, {"id": "x"}]),
        "error": st.sampled_from([None, {"code": "overloaded"}]),
    },
)  # fmt: skip


@given(st.lists(EVENTS | st.sampled_from([b"[DONE]", b"{", b"[]"]), max_size=8), st.booleans())
def test_a_chunk_that_only_adds_text_is_read_as_the_careful_way_reads_it(events: list[Any], show: bool) -> None:
    class Careful(ChatStreamMeter):
        def _is_plain(self, data: bytes) -> bool:
            return False

    short, careful = ChatStreamMeter(show_usage=show), Careful(show_usage=show)
    for event in events:
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        assert short.feed(b"data: " + data + b"\n\n") == careful.feed(b"data: " + data + b"\n\n")
        assert short.reading == careful.reading
    assert short.finish() == careful.finish()
    assert short.reading == careful.reading


def test_chunks_of_text_go_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[Any] = []
    monkeypatch.setattr(openai_chat, "_note", lambda answer, reading: noted.append(answer))
    meter = ChatStreamMeter(show_usage=False)
    meter.reading.said |= {"id": "chatcmpl-1", "model": "m"}
    for _ in range(3):
        meter.feed(chunk("word", usage=None))
    assert len(noted) == 1
    assert meter.reading.output_bytes == 8


def test_a_stream_whose_chunks_are_never_plain_is_not_read_twice_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    meter = ChatStreamMeter(show_usage=False)
    meter.feed(chunk("first"))
    plain = meter._is_plain
    monkeypatch.setattr(ChatStreamMeter, "_is_plain", lambda self, data: tried.append(data) or plain(data))
    for _ in range(3 * openai_chat.MOST_MISSES):
        meter.feed(b'data: {"choices":[{"delta":{"reasoning":"so "}}]}\n\n')
    assert len(tried) == openai_chat.MOST_MISSES
    assert meter.reading.output_bytes == 5 + 3 * 3 * openai_chat.MOST_MISSES


def _whole(event: Any) -> Any:
    """The chunk's text as an answer's message."""
    choices = [
        {"message" if name == "delta" else name: choice[name] for name in choice} for choice in event.get("choices", ())
    ]
    return {**event, "choices": choices}


@given(EVENTS | EVENTS.map(_whole))
def test_an_answer_of_one_text_is_read_as_the_careful_way_reads_it(answer: Any) -> None:
    body = orjson.dumps(answer)
    short = dialect.read_whole(body, "application/json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_chat, "_read_plain", lambda body: None)
        assert dialect.read_whole(body, "application/json") == short


def test_a_whole_answer_of_one_text_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_chat, "_note", None)
    reading = dialect.read_whole(
        orjson.dumps({**WHOLE, "choices": [{"message": {"content": "hi", "refusal": None}}]}), "application/json"
    )
    assert reading is not None
    assert (reading.output_bytes, orjson.loads(reading.raw_usage)) == (2, USAGE)
