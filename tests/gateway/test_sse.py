"""The event splitter: every split of every stream gives the same events, and the same bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sse
from gateway.sse import Splitter, data_of


def events_of(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = Splitter()
    events = [event for chunk in chunks for event, _ in splitter.feed(chunk)]
    return events, splitter.rest()


def data_in(chunks: list[bytes]) -> list[bytes]:
    events, rest = events_of(chunks)
    return [data for event in [*events, rest] if (data := data_of(event))]


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges) if a < b]


STREAMS = {
    "LF": b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
    "CRLF": b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\ndata: [DONE]\r\n\r\n',
    "CR": b'data: {"a":1}\r\rdata: {"b":2}\r\rdata: [DONE]\r\r',
    "mixed": b'data: {"a":1}\r\n\ndata: {"b":2}\n\r\ndata: [DONE]\r\n\r',
    "no space": b'data:{"a":1}\n\ndata:{"b":2}\n\ndata:[DONE]\n\n',
    "fields": b'event: x\nid: 7\ndata: {"a":1}\nretry: 5\n\nid:\x00\ndata: {"b":2}\n\ndata: [DONE]\n\n',
    "comments": b': hello\n\ndata: {"a":1}\n\n:\n\n: ping\ndata: {"b":2}\n\n\n\ndata: [DONE]\n\n',
    "no end": b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]',
    "bom": b'\xef\xbb\xbfdata: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_every_single_cut_of_a_stream_gives_the_same_data(stream: bytes) -> None:
    expected = [b'{"a":1}', b'{"b":2}', b"[DONE]"]
    for cut in range(len(stream) + 1):
        assert data_in(split(stream, [cut])) == expected, cut
    assert data_in([stream[i : i + 1] for i in range(len(stream))]) == expected


pieces = st.sampled_from(
    [b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"{}", b"x", b"\x00", "é€😀".encode(), b"event: e"]
)


@given(st.lists(pieces, max_size=40).map(b"".join), st.lists(st.integers(0, 400), max_size=8))
def test_no_byte_is_lost_added_or_moved_however_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    events, rest = events_of(split(stream, cuts))
    assert b"".join(events) + rest == stream


@given(st.lists(pieces, max_size=40).map(b"".join), st.lists(st.integers(0, 400), max_size=8))
def test_the_data_does_not_depend_on_the_cuts(stream: bytes, cuts: list[int]) -> None:
    assert data_in(split(stream, cuts)) == data_in([stream] if stream else [])


def test_data_over_several_lines_is_joined() -> None:
    assert data_of(b'data: {"a":\ndata: 1}\n\n') == b'{"a":\n1}'
    assert data_of(b"data\n\n") == b""
    assert data_of(b"database: 1\n\n") == b""


def test_an_endless_line_is_passed_on_in_pieces_and_never_piles_up() -> None:
    splitter = Splitter()
    passed = bytearray()
    for _ in range(100):
        for event, whole in splitter.feed(b"data: " + b"x" * 100_000):
            assert not whole
            passed += event
        assert len(splitter._pending) <= sse.MAX_EVENT_BYTES
    assert splitter.oversized
    after = splitter.feed(b'\n\ndata: {"a":1}\n\n')
    assert [data_of(event) for event, whole in after if whole] == [b'{"a":1}']
    passed += b"".join(event for event, _ in after)
    assert bytes(passed) == (b"data: " + b"x" * 100_000) * 100 + b'\n\ndata: {"a":1}\n\n'
