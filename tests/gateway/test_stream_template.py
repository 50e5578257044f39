"""Events that are known by their bytes: the short way of a stream says, and passes, exactly what reading each event says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers import openai_chat
from gateway.providers.anthropic_messages import MessagesMeter
from gateway.providers.dialect import LearningMeter
from gateway.providers.openai_chat import ChatStreamMeter
from gateway.providers.template import MOST_LESSONS, EventTemplate, learn

FORM = (
    '{"id":"c-1","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default",'
    '"choices":[{"index":0,"delta":{"content":%s},"logprobs":null,"finish_reason":null}]%s}'
)
PADDED = ',"usage":null,"obfuscation":"%s"'


def data(text: str, rest: str = "") -> bytes:
    return (FORM % (json.dumps(text, ensure_ascii=False), rest)).encode()


def event(text: str, rest: str = "") -> bytes:
    return b"data: " + data(text, rest) + b"\n\n"


def framed(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def learnt(rest: str = "") -> EventTemplate:
    template = learn(event("word", rest), data("word", rest), "content", "word")
    assert template is not None
    return template


TEXTS = st.text(max_size=12) | st.sampled_from(['"', "\\", "\n", '"}', 'a"},"logprobs', "\u2028", "\x7f", "word"])


@given(st.lists(TEXTS, min_size=1, max_size=4), st.booleans())
def test_any_text_in_the_learnt_event_is_read_as_json_reads_it(texts: list[str], padded: bool) -> None:
    rest = PADDED % "a1B" if padded else ""
    template = learnt(rest)
    assert template.texts_of(framed(*(event(text, rest) for text in texts))) == texts
    assert [template.text_of(event(text, rest)) for text in texts] == texts


HONEST = framed(event("one"), event("two"))


@given(
    st.integers(0, len(HONEST) - 1),
    st.sampled_from([b"", b"\n", b"\r", b'"', b"\\", b"\x00", b"0", b"\xff", b" ", b"\r\n"]),
    st.booleans(),
)
def test_a_byte_that_is_changed_lost_or_added_is_noticed_unless_it_only_changes_the_text(
    at: int, byte: bytes, more: bool
) -> None:
    """Anything accepted is what a strict reading of framing, lines and JSON says."""
    wire = HONEST[:at] + byte + HONEST[at if more else at + 1 :]
    texts = learnt().texts_of(wire)
    assert texts is None or (
        wire == framed(*map(bytes, events_of(wire))) and texts == [text_in(one) for one in events_of(wire)]
    )


def events_of(wire: bytes) -> list[bytes]:
    """Strictly: whole pieces, each one event of one line."""
    events = []
    while wire:
        head, _, rest = wire.partition(b"\r\n")
        size = int(head, 16)
        one, wire = rest[:size], rest[size + 2 :]
        assert one.count(b"\n") == 2
        assert b"\r" not in one
        events.append(one)
    return events


def text_in(one: bytes) -> str:
    text: str = json.loads(one.removeprefix(b"data: "))["choices"][0]["delta"]["content"]
    return text


@pytest.mark.parametrize(
    "wire",
    [
        framed(event("a"))[:-1],
        framed(event("a"))[:-2],
        framed(event("a")) + b"9",
        framed(event("a")) + b"0\r\n\r\n",
        framed(event("a") + event("b")),
        b"0" + framed(event("a")),
        framed(event("a")).replace(b"\r\n", b";x=y\r\n", 1),
        framed(event("a")[:-1]),
        framed(event("a") + b"\n"),
        framed(event("a", ',"usage":{}')),
        framed(event("a"))[1:],
        b"",
    ],
)
def test_other_framing_and_other_events_are_left_to_those_who_read_them(wire: bytes) -> None:
    assert not learnt().texts_of(wire)


@pytest.mark.parametrize("padding", ["", 'a"b', "a b", "é", "a\\u0031"])
def test_padding_is_letters_and_digits_alone(padding: str) -> None:
    assert learnt(PADDED % "xyz").text_of(event("hi", PADDED % padding)) is None
    assert learnt(PADDED % "xyz").text_of(event("hi", PADDED % "Q7")) == "hi"


@pytest.mark.parametrize(
    ("json_of_it", "text"),
    [
        (data(""), ""),
        (data("a\n"), "a\n"),
        (data("a", ',"x":"content"'), "a"),
        (data("a", ',"y":"\\u0063"'), "a"),
        (data("a", ',\n"y":1'), "a"),
        (data("a", ',"y":"%s"' % ("x" * 5000)), "a"),
        (data("a").replace(b'"content":', b'"content" :'), "a"),
        (data("a").replace(b'"content":', b'"content":\n'), "a"),
        (data("a"), "b"),
    ],
)
def test_nothing_is_learnt_from_an_event_that_leaves_a_doubt(json_of_it: bytes, text: str) -> None:
    assert learn(b"data: %b\n\n" % json_of_it, json_of_it, "content", text) is None


@pytest.mark.parametrize(
    "form",
    [
        b"data:%b\n\n",
        b"data: %b\r\n\r\n",
        b": x\ndata: %b\n\n",
        b"data: %b\n",
        b"data: %b\nid: 1\n\n",
        b"id: 1\ndata: %b\n\n",
    ],
)
def test_nothing_is_learnt_from_an_event_of_an_uncommon_form(form: bytes) -> None:
    assert learn(form % data("a"), data("a"), "content", "a") is None
    assert learn(b"event: x\ndata: %b\n\n" % data("a"), data("a"), "content", "a") is not None


# --- Through the meter ------------------------------------------------------------------------------------------------
class Careful(ChatStreamMeter):
    def _is_plain(self, data: bytes) -> bool:
        return False


class CarefulMessages(MessagesMeter):
    def feed(self, chunk: bytes) -> bytes:
        self._lessons = MOST_LESSONS
        return super().feed(chunk)


def fed(meter: LearningMeter, reads: Iterable[bytes]) -> bytes:
    """As a relay does: what the template knows passes, the rest is fed. Reads are whole pieces of one framing."""
    passed = b""
    for wire in reads:
        template = meter.template()
        texts = template.texts_of(wire) if template is not None else None
        if texts is None:
            passed += b"".join(framed(shown) for one in pieces_of(wire) if (shown := meter.feed(one)))
        else:
            passed += wire
            meter.add_texts(texts)
    return passed


def alike(short: LearningMeter, careful: LearningMeter, events: list[bytes], cuts: list[int]) -> None:
    edges = [0, *sorted(cut % len(events) for cut in cuts), len(events)]
    reads = [framed(*events[a:b]) for a, b in pairwise(edges) if a < b]
    assert b"".join(pieces_of(fed(short, reads))) == b"".join(pieces_of(fed(careful, reads)))
    assert short.finish() == careful.finish()
    for reading in (short.reading, careful.reading):
        reading.texts = ["".join(reading.texts)]
    assert short.reading == careful.reading


def pieces_of(wire: bytes) -> list[bytes]:
    pieces = []
    while wire:
        head, _, rest = wire.partition(b"\r\n")
        pieces.append(rest[: int(head, 16)])
        wire = rest[int(head, 16) + 2 :]
    return pieces


ODD = st.sampled_from(
    [
        event("a", ',"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'),
        event("a").replace(b"default", b"flex"),
        event("a").replace(b'"delta":{', b'"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}],'),
        event("a").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        event("a", ',"error":{"code":"overloaded"}'),
        event("a", PADDED % "zz"),
        event("a").replace(b'"created":1', b'"created":2'),
        b'data: {"id":"c-1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":9,"total_tokens":10}}\n\n',
        b": ping\n\n",
        b"data: [DONE]\n\n",
        b"data: {\n\n",
        b"\n",
        b"data: ",
        event("half")[:-9],
        event("b")[6:],
    ]
)


@given(
    st.lists(TEXTS.map(event) | st.just(event("word")) | ODD, min_size=3, max_size=14),
    st.lists(st.integers(0, 14), max_size=8),
    st.booleans(),
)
def test_a_stream_says_and_passes_the_same_by_either_way(events: list[bytes], cuts: list[int], show: bool) -> None:
    alike(ChatStreamMeter(show_usage=show), Careful(show_usage=show), [event("first"), event("second"), *events], cuts)


def delta(said: str, kind: str = "text_delta", field: str = "text", index: int = 0) -> bytes:
    body = {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: said}}
    return b"event: content_block_delta\ndata: " + orjson.dumps(body) + b"\n\n"


ODD_MESSAGES = st.sampled_from(
    [
        delta("{", "input_json_delta", "partial_json", 1),
        delta("hm", "thinking_delta", "thinking"),
        delta("", "signature_delta", "signature"),
        delta("a").replace(b'"text":"a"', b'"text":"a","thinking":"b"'),
        delta("a").replace(b'"text":"a"', b'"text":"a","text":"b"'),
        delta("a").replace(b'"text_delta"', b'"text"'),
        b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":"s"}}\n\n',
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":3}}}\n\n',
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        b"event: ping\ndata: {}\n\n",
        b"event: content_block_delta\n",
        delta("half")[:-9],
        delta("b")[30:],
    ]
)


@given(st.lists(TEXTS.map(delta) | ODD_MESSAGES, min_size=3, max_size=14), st.lists(st.integers(0, 14), max_size=8))
def test_a_stream_of_messages_says_and_passes_the_same_by_either_way(events: list[bytes], cuts: list[int]) -> None:
    alike(MessagesMeter(), CarefulMessages(), [delta("first"), *events], cuts)


@pytest.mark.parametrize("field", ["text", "thinking", "partial_json"])
def test_deltas_of_messages_are_learnt_by_their_field(field: str) -> None:
    meter = MessagesMeter()
    meter.feed(delta("one", "x_delta", field))
    template = meter.template()
    assert template is not None
    assert template.texts_of(framed(delta('"two"', "x_delta", field), delta("", "x_delta", field))) == ['"two"', ""]


def test_a_template_is_not_given_inside_an_event() -> None:
    meter = ChatStreamMeter(show_usage=True)
    meter.feed(event("a") + event("b"))
    assert meter.template() is not None
    meter.feed(event("c")[:20])
    assert meter.template() is None
    meter.feed(event("c")[20:])
    assert meter.template() is not None


def test_a_change_of_the_tier_is_noticed_both_ways() -> None:
    meter = ChatStreamMeter(show_usage=True)
    for tier in (b"default", b"default", b"flex", b"flex", b"default"):
        meter.feed(event("a").replace(b"default", tier))
    assert meter.reading.said["service_tier"] == "default"


def test_a_stream_whose_events_all_differ_is_not_learnt_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    lessons: list[Any] = []
    monkeypatch.setattr(openai_chat, "learn", lambda *seen: lessons.append(seen))
    meter = ChatStreamMeter(show_usage=True)
    for number in range(3 * MOST_LESSONS):
        meter.feed(event("a").replace(b'"created":1', b'"created":%d' % number))
    assert len(lessons) == MOST_LESSONS
