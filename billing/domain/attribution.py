"""Who and what a call was for: key defaults, then Sluice-* headers, then the body's own fields -> dimensions and tags. Pure.

A key *pins* the dimensions it carries (member, agent, department, environment); a call may say otherwise only where the key lists the
dimension in `may_override` (SECURITY.md S69). Headers win over body fields. Values are bounded here, because they go into Redis keys, ledger
rows, pages, CSV exports and mails.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from billing.domain.dimensions import MAX_TAG_KEY_CHARS, MAX_TAGS, MAX_VALUE_CHARS, OTHER, Dimension

HEADERS: Mapping[str, Dimension] = {
    "sluice-customer": Dimension.CUSTOMER,
    "sluice-feature": Dimension.FEATURE,
    "sluice-agent": Dimension.AGENT,
    "sluice-department": Dimension.DEPARTMENT,
    "sluice-member": Dimension.MEMBER,
    "sluice-user": Dimension.USER,
    "sluice-session": Dimension.SESSION,
    "sluice-environment": Dimension.ENVIRONMENT,
}
TAGS_HEADER = "sluice-tags"
PINNABLE = frozenset({Dimension.MEMBER, Dimension.AGENT, Dimension.DEPARTMENT, Dimension.ENVIRONMENT})

_BODY_FIELDS = (
    ("user", Dimension.USER.value),
    ("safety_identifier", Dimension.USER.value),
    ("user_id", Dimension.USER.value),
    ("session_id", Dimension.SESSION.value),
)
_METADATA_DIMENSIONS: Mapping[str, Dimension] = {
    "customer": Dimension.CUSTOMER,
    "customer_id": Dimension.CUSTOMER,
    "feature": Dimension.FEATURE,
    "agent": Dimension.AGENT,
    "department": Dimension.DEPARTMENT,
    "member": Dimension.MEMBER,
    "user": Dimension.USER,
    "user_id": Dimension.USER,
    "session": Dimension.SESSION,
    "session_id": Dimension.SESSION,
    "environment": Dimension.ENVIRONMENT,
}
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories without a glyph: controls, bidirectional and zero-width signs, surrogates, private use, line separators."""


class BadAttribution(ValueError):
    """A dimension or tag of a call cannot be accepted. `source` names the header or field."""

    def __init__(self, source: str, message: str) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source


class Attribution(msgspec.Struct, frozen=True, gc=False):
    """Dimension name -> value, and free tags. Dimensions that have ledger fields of their own (model, provider, key) are not here."""

    dims: dict[str, str] = msgspec.field(default_factory=dict)
    tags: dict[str, str] = msgspec.field(default_factory=dict)


def attribute(
    defaults: Mapping[str, str], may_override: Iterable[str], headers: Mapping[str, str], body: Mapping[str, Any]
) -> Attribution:
    """Dimensions and tags of one call.

    `defaults`: what the key pins, empty values left out by the caller or not. `headers`: the request's Sluice-* headers, names in lower
    case. `body`: the request's JSON object. Raises BadAttribution on a value that cannot be accepted, or an unknown Sluice header.
    """
    dims: dict[str, str] = {}
    tags: dict[str, str] = {}
    for name, dimension in _BODY_FIELDS:
        if name in body:
            value = body[name]
            if type(value) is str and value and dimension not in dims:
                dims[dimension] = checked(name, value)
    metadata = body.get("metadata")
    if type(metadata) is dict:
        _from_metadata(metadata, dims, tags)
    if headers:
        _from_headers(headers, dims, tags)
    if len(tags) > MAX_TAGS:
        raise BadAttribution("tags", f"at most {MAX_TAGS} tags can be set on a call")
    for name, pinned in defaults.items():
        if pinned and (name not in dims or name not in may_override):
            dims[name] = pinned
    return Attribution(dims, tags)


def checked(source: str, value: str) -> str:
    """A value that is safe to store, show and use in a key, without surrounding blanks. Raises BadAttribution."""
    value = value.strip(" \t")
    if not value:
        raise BadAttribution(source, "the value is empty")
    if len(value) > MAX_VALUE_CHARS:
        raise BadAttribution(source, f"the value is longer than {MAX_VALUE_CHARS} characters")
    if not (value.isascii() and value.isprintable()):
        if any(unicodedata.category(char) in _UNSEEN for char in value):
            raise BadAttribution(source, "the value has control or invisible characters")
        value = unicodedata.normalize("NFC", value)
    if value == OTHER:
        raise BadAttribution(source, f"{OTHER} is reserved")
    return value


def parse_tags(source: str, text: str) -> dict[str, str]:
    """`k=v,k=v` -> tags. Raises BadAttribution."""
    tags: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise BadAttribution(source, "write tags as name=value, separated by commas")
        name = _tag_name(source, name)
        if name in tags:
            raise BadAttribution(source, f"the tag {name} is set twice")
        tags[name] = checked(source, value)
    return tags


def _from_headers(headers: Mapping[str, str], dims: dict[str, str], tags: dict[str, str]) -> None:
    for header, value in headers.items():
        dimension = HEADERS.get(header)
        if dimension is not None:
            dims[dimension.value] = checked(header, value)
        elif header == TAGS_HEADER:
            tags.update(parse_tags(header, value))
        else:
            raise BadAttribution(header, "there is no such Sluice header")


def _from_metadata(metadata: Mapping[str, Any], dims: dict[str, str], tags: dict[str, str]) -> None:
    """OpenAI's `metadata` (strings by name): known names are dimensions, the others tags. Values that are no strings are the provider's affair."""
    for name, value in metadata.items():
        if type(value) is not str or not value.strip(" \t"):
            continue
        source = f"metadata.{name[:MAX_TAG_KEY_CHARS]}"
        dimension = _METADATA_DIMENSIONS.get(name)
        if dimension is not None:
            dims.setdefault(dimension.value, checked(source, value))
        elif len(tags) < MAX_TAGS:
            with suppress(
                BadAttribution
            ):  # the provider's rules for metadata are wider than ours for tags: what does not fit stays its affair
                tags[_tag_name(source, name)] = checked(source, value)


def _tag_name(source: str, name: str) -> str:
    name = name.strip(" \t").lower()
    if not name or len(name) > MAX_TAG_KEY_CHARS:
        raise BadAttribution(source, f"a tag's name has 1 to {MAX_TAG_KEY_CHARS} characters")
    if not (name.isascii() and all(char.isalnum() or char in "_-." for char in name)):
        raise BadAttribution(source, "a tag's name has ASCII letters, digits, '_', '-' and '.' only")
    return name
