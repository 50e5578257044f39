"""Request bodies as JSON: strict reading with bounds, and edits that leave every other byte as the client wrote it. Pure.

Bounds are checked before anything of that size is built, so a hostile body costs its own length and no more (SECURITY.md S51).
"""

from __future__ import annotations

import re
from typing import Any

import orjson

MAX_DEPTH = 64
MAX_VALUES = 200_000
MAX_STRING_CHARS = 5 * 1024 * 1024

_NOT_STRUCTURE = bytes(set(range(256)) - set(b"{}[]:,"))
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]:,]', re.DOTALL)
_OPEN, _CLOSE = frozenset(b"{["), frozenset(b"}]")


class BadJson(ValueError):
    """The body is not JSON that we accept. The message says where or why."""


def loads(body: bytes) -> dict[str, Any]:
    """A request body -> its object. Refuses what parsers disagree on: duplicate keys, NaN, 1e999, lone surrogates, a BOM."""
    if len(body) <= SMALL and body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        try:
            value: dict[str, Any] = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = _parsed(body)  # says why
        if type(value) is dict and orjson.dumps(value) == body:
            return value
    return _loads_carefully(body)


SMALL = 2 * MAX_VALUES
"""Bytes of a body that cannot have too many values, nor a string too long. One with no more brackets than `MAX_DEPTH`, wherever they stand, is
not too deep either. What then is byte for byte the text of what was read has no name twice: a written object has none. SDKs write like that."""


def _loads_carefully(body: bytes) -> dict[str, Any]:
    if body.count(b'"') > 4 * MAX_VALUES:
        raise BadJson(f"the body has more than {MAX_VALUES:,} values")
    structure = _structure(body)
    if structure.count(b",") + structure.count(b":") > MAX_VALUES:
        raise BadJson(f"the body has more than {MAX_VALUES:,} values")
    if _depth(structure) > MAX_DEPTH:
        raise BadJson(f"the body is nested deeper than {MAX_DEPTH} levels")
    value = _parsed(body)
    if _pairs(value) != structure.count(b":"):
        raise BadJson("the body names a key twice in one object")
    if len(body) > MAX_STRING_CHARS:
        _check_strings(value)
    return value


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"the body is not valid JSON: {error}") from None
    if type(value) is not dict:
        raise BadJson("the body must be a JSON object")
    return value


def with_first(body: bytes, name: str, value: Any) -> bytes:
    """The object with one more pair, put first. The caller knows that the name is not there yet."""
    start = body.index(b"{") + 1
    rest = body[start:]
    comma = b"" if rest.lstrip(b" \t\r\n")[:1] == b"}" else b","
    return b"".join((body[:start], orjson.dumps(name), b":", orjson.dumps(value), comma, rest))


def with_value(body: bytes, name: str, value: Any) -> bytes:
    """The object with the value of one top-level name replaced (or added). Every other byte stays."""
    span = _span(body, name)
    if span is None:
        return with_first(body, name, value)
    return b"".join((body[: span[0]], orjson.dumps(value), body[span[1] :]))


def without(body: bytes, *names: str) -> bytes:
    """The object without the top-level names given. Every other byte stays."""
    for name in names:
        span = _pair(body, name)
        if span is not None:
            body = body[: span[0]] + body[span[1] :]
    return body


def _pair(body: bytes, name: str) -> tuple[int, int] | None:
    """Where a top-level pair stands, with the comma that must go with it."""
    depth = 0
    key: str | None = None
    starts = comma_before = -1
    expect_key = False
    for token in _TOKEN.finditer(body):
        sign = body[token.start()]
        if sign in _OPEN:
            depth += 1
            if depth == 1:
                expect_key, starts = True, token.end()
        elif depth == 1:
            if sign == 0x22 and expect_key:  # "
                key, expect_key = orjson.loads(token.group()), False
            elif sign in (0x2C, 0x7D):  # , }
                if key == name:
                    if sign == 0x2C:
                        return starts, token.end()
                    return (comma_before if comma_before >= 0 else starts), token.start()
                key, expect_key, comma_before, starts = None, True, token.start(), token.end()
        if sign in _CLOSE:
            depth -= 1
    return None


def _span(body: bytes, name: str) -> tuple[int, int] | None:
    """Where the value of a top-level name stands. The body is known to be one valid object."""
    depth = 0
    key: str | None = None
    value_from = -1
    expect_key = False
    for token in _TOKEN.finditer(body):
        sign = body[token.start()]
        if sign in _OPEN:
            depth += 1
            expect_key = depth == 1
        elif depth == 1:
            if sign == 0x22 and expect_key:  # "
                key, expect_key = orjson.loads(token.group()), False
            elif sign == 0x3A and key == name and value_from < 0:  # :
                value_from = token.end()
            elif sign in (0x2C, 0x7D):  # , }
                if value_from >= 0:
                    raw = body[value_from : token.start()]
                    lead = len(raw) - len(raw.lstrip(b" \t\r\n"))
                    return value_from + lead, value_from + len(raw.rstrip(b" \t\r\n"))
                key, expect_key = None, True
        if sign in _CLOSE:
            depth -= 1
    return None


def _structure(body: bytes) -> bytes:
    """Only the brackets, colons and commas that stand outside strings."""
    if body.find(b"\\") >= 0:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2]).translate(None, _NOT_STRUCTURE)


def _depth(structure: bytes) -> int:
    depth = deepest = 0
    for sign in structure.translate(None, b":,"):
        if sign in _OPEN:
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > MAX_DEPTH:
                    return deepest
        else:
            depth -= 1
    return deepest


def _pairs(value: Any) -> int:
    """Name-value pairs in all objects; against the colons of the text this finds duplicate names, which the parser swallows."""
    count = 0
    todo = [value]
    while todo:
        item = todo.pop()
        if type(item) is dict:
            count += len(item)
            todo.extend([inner for inner in item.values() if type(inner) is dict or type(inner) is list])
        else:
            todo.extend([inner for inner in item if type(inner) is dict or type(inner) is list])
    return count


def _check_strings(value: Any) -> None:
    todo = [value]
    while todo:
        item = todo.pop()
        if type(item) is str:
            if len(item) > MAX_STRING_CHARS:
                raise BadJson(f"the body has a string longer than {MAX_STRING_CHARS:,} characters")
        elif type(item) is dict:
            todo.extend(item.values())
            todo.extend(item)
        elif type(item) is list:
            todo.extend(item)
