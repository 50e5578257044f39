"""Multipart forms as bytes: strict reading with bounds, and one edit that leaves every other byte as the client wrote it. Pure.

RFC 7578 as the SDKs write it and nothing more lenient: no preamble, CRLF lines, one Content-Disposition a part, no transfer encodings. Two
readers of one form must never disagree about a field that has a price, so a name that is there twice is refused (SECURITY.md S67).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_PARTS = 200
MAX_FIELD_BYTES = 1024 * 1024
MAX_PART_HEAD_BYTES = 4096
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=?]{1,70}")
_MEDIA_TYPE = re.compile(
    rb"multipart/form-data\s*;\s*boundary=(?:\"([^\"\\\r\n]{1,70})\"|([^\s;\"]{1,70}))\s*;?", re.IGNORECASE
)
_DISPOSITION = re.compile(
    r"form-data\s*;\s*name=\"([^\"\r\n]{1,200})\"(?:\s*;\s*filename=\"([^\"\r\n]{0,500})\")?"
    r"(?:\s*;\s*filename\*=[^;\r\n]{1,1500})?\s*;?",
    re.IGNORECASE,
)


class BadForm(ValueError):
    """The body is not a form that we accept. The message says where or why; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Part:
    """One part: where its content stands in the body."""

    name: str
    start: int
    end: int
    filename: str | None = None
    """None: a field. Else a file."""
    content_type: str = ""

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Form:
    parts: tuple[Part, ...]
    texts: Mapping[str, str]
    """The fields that may be there once only."""
    lists: Mapping[str, list[str]]
    """The fields whose name ends in []."""

    @property
    def files(self) -> list[Part]:
        return [part for part in self.parts if part.filename is not None]


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary that a Content-Type names; None when it is no form, or its boundary is none."""
    parsed = _MEDIA_TYPE.fullmatch(content_type.strip())
    if parsed is None:
        return None
    boundary: bytes = parsed[1] or parsed[2]
    return boundary if _BOUNDARY.fullmatch(boundary) else None


def parse(body: bytes, boundary: bytes) -> Form:
    """A form's body -> its parts and the values of its fields. Raises BadForm."""
    opening, line = b"--" + boundary + b"\r\n", b"\r\n--" + boundary
    if not body.startswith(opening):
        raise BadForm("the form does not start with its boundary")
    parts: list[Part] = []
    texts: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    at = len(opening)
    while True:
        end = body.find(line, at)
        if end < 0:
            raise BadForm("the form has no end")
        part = _part(body, at, end)
        parts.append(part)
        if len(parts) > MAX_PARTS:
            raise BadForm(f"the form has more than {MAX_PARTS} parts")
        if part.filename is None:
            _keep(part, body, texts, lists)
        at = end + len(line)
        if body[at : at + 2] == b"\r\n":
            at += 2
        elif body[at : at + 2] == b"--" and body[at + 2 :] in (b"", b"\r\n"):
            return Form(tuple(parts), texts, lists)
        else:
            raise BadForm("the form goes on where its boundary says that it ends")


def with_text(body: bytes, part: Part, value: str) -> bytes:
    """The form with the content of one part replaced. Every other byte stays."""
    return b"".join((body[: part.start], value.encode(), body[part.end :]))


def _keep(part: Part, body: bytes, texts: dict[str, str], lists: dict[str, list[str]]) -> None:
    if part.size > MAX_FIELD_BYTES:
        raise BadForm(f"the field '{part.name}' is longer than {MAX_FIELD_BYTES:,} bytes", part.name)
    try:
        text = body[part.start : part.end].decode()
    except UnicodeDecodeError:
        raise BadForm(f"the field '{part.name}' is not UTF-8", part.name) from None
    if part.name.endswith("[]"):
        lists.setdefault(part.name, []).append(text)
    elif part.name in texts:
        raise BadForm(f"the form names the field '{part.name}' twice", part.name)
    else:
        texts[part.name] = text


def _part(body: bytes, at: int, end: int) -> Part:
    head_end = body.find(b"\r\n\r\n", at, min(end, at + MAX_PART_HEAD_BYTES))
    if head_end < 0:
        raise BadForm("a part of the form has no head, or one that is too long")
    headers: dict[str, str] = {}
    try:
        lines = body[at:head_end].decode().split("\r\n")
    except UnicodeDecodeError:
        raise BadForm("the head of a part is not UTF-8") from None
    for header in lines:
        name, colon, value = header.partition(":")
        name = name.lower()
        if not colon or name in headers or "\n" in header or "\r" in header or "\0" in header:
            raise BadForm("the head of a part cannot be read safely")
        headers[name] = value.strip()
    if not headers.keys() <= {"content-disposition", "content-type", "content-length"}:
        raise BadForm("a part has headers that no form needs")
    disposition = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if disposition is None:
        raise BadForm("a part has no name that can be read safely")
    return Part(disposition[1], head_end + 4, end, disposition[2], headers.get("content-type", "")[:100])
