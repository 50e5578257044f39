"""Strict reading of request bodies, and edits that leave every other byte alone."""

from __future__ import annotations

import json
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import jsonbody
from gateway.jsonbody import BadJson, loads, with_first, with_value

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(text, values, max_size=6)


@given(objects, st.booleans(), st.sampled_from([None, 2]))
def test_it_reads_what_json_reads(value: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    assert loads(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"   ", b"null", b"[]", b"1", b'"text"', b"{", b'{"a":1', b'{"a":1}}', b"{'a':1}", b'{"a":1,}', b'{"a" 1}',
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":-1E999}', b'{"a":01}', b'{"a":+1}',
        b'{"a":"\\ud800"}', b'{"a":"\\udc00\\ud800"}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\n"}', b'\xef\xbb\xbf{}',
        '{"a":1}'.encode("utf-16"), b'{"a":1}\x00', b'{"a":1} {"b":2}', b"%PDF-1.4", b"a=1&b=2", b"\x1f\x8b\x08\x00",
    ],
)  # fmt: skip
def test_it_refuses_what_is_not_an_object_of_json(body: bytes) -> None:
    with pytest.raises(BadJson):
        loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"x":[{"deep":{"k":1,"k":1}}]}',
        b'{"model":"cheap","n":1,"model":"dear"}',
        b'{"a\\\\":1,"a\\\\":2}',
        b'{"q\\"":1,"q\\"":2}',
    ],
)
def test_it_refuses_a_name_that_stands_twice_because_parsers_disagree_which_one_counts(body: bytes) -> None:
    with pytest.raises(BadJson, match="twice"):
        loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"x:y,{}[]:","b:":"\\":\\"","c":{"a":1}}',
        b'{"a":"\\\\","b":"\\\\\\"","c":":"}',
        b'{"":1,"a":{"":2}}',
    ],
)
def test_signs_inside_strings_are_not_structure(body: bytes) -> None:
    assert loads(body) == json.loads(body)


@pytest.mark.parametrize("opening,closing", [("[", "]"), ('{"a":', "}")])
def test_it_refuses_nesting_below_the_64th_level(opening: str, closing: str) -> None:
    fits = '{"a":' + opening * 63 + "1" + closing * 63 + "}"
    assert loads(fits.encode())
    with pytest.raises(BadJson, match="deeper"):
        loads(('{"a":' + opening * 64 + "1" + closing * 64 + "}").encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * 5_000_000,
        b'{"a":' + b'{"a":' * 2_000_000,
        b'{"a":[' + b"1," * 5_000_000 + b"1]}",
        b'{"a":[' + b'"",' * 3_300_000 + b'""]}',
        b'{"a":[' + b"{}," * 3_300_000 + b"{}]}",
        b'{"a":"' + b"\\" * 9_999_990 + b'"}',
        b'"' * 10_000_000,
        b":" * 10_000_000,
        b"[" * 10_000_000,
    ],
    ids=["arrays", "objects", "numbers", "strings", "empties", "backslashes", "quotes", "colons", "brackets"],
)
def test_ten_hostile_megabytes_are_refused_quickly(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(BadJson):
        loads(body + b"x")
    assert time.process_time() - started < 0.5  # 0.1 s on an idle machine


def test_it_refuses_a_string_longer_than_five_million_characters() -> None:
    assert loads(b'{"a":"' + b"x" * jsonbody.MAX_STRING_CHARS + b'"}')
    for body in (
        b'{"a":[{"b":"' + b"x" * (jsonbody.MAX_STRING_CHARS + 1) + b'"}]}',
        b'{"' + b"x" * (jsonbody.MAX_STRING_CHARS + 1) + b'":1}',
    ):
        with pytest.raises(BadJson, match="longer"):
            loads(body)


@given(objects, st.sampled_from([None, 1]))
def test_a_pair_put_first_leaves_every_byte_after_it(value: dict[str, object], indent: int | None) -> None:
    body = json.dumps({name: item for name, item in value.items() if name != "new"}, indent=indent).encode()
    edited = with_first(body, "new", {"x": 1})
    assert edited.endswith(body[1:])
    assert orjson.loads(edited) == {"new": {"x": 1}, **json.loads(body)}


@given(objects, text, values, st.sampled_from([None, 1]), st.booleans())
def test_a_replaced_value_is_the_only_thing_that_changes(
    value: dict[str, object], name: str, new: object, indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    edited = with_value(body, name, new)
    assert orjson.loads(edited) == orjson.loads(orjson.dumps({**value, name: new}))
    if name in value:
        assert list(orjson.loads(edited)) == list(value)


def test_numbers_that_a_parser_would_round_survive_an_edit_elsewhere() -> None:
    body = b'{"seed":12345678901234567890123, "temperature":0.10000000000000000000001,"model":"a/b" , "x":1.0}'
    assert with_value(body, "model", "b") == body.replace(b"a/b", b"b")


def test_a_name_inside_another_object_is_not_the_one_meant() -> None:
    body = b'{"metadata":{"model":"inner"},"tools":[{"model":"x"}],"model":"outer"}'
    assert with_value(body, "model", "new") == body.replace(b"outer", b"new")
