"""Realtime events as JSON: reading them from either side, and the little that the gateway changes in a client's. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from gateway import jsonbody
from gateway.errors import BadRequest


def read(raw: bytes) -> dict[str, Any]:
    """A client's event. Raises BadRequest."""
    try:
        event = jsonbody.loads(raw)
    except jsonbody.BadJson as error:
        raise BadRequest(f"The event cannot be read: {error}.", code="invalid_event") from None
    if type(event.get("type")) is not str:
        raise BadRequest("An event needs a type.", code="invalid_event", param="type")
    return event


def told(raw: bytes) -> tuple[str, dict[str, Any]]:
    """(type, event) of a provider's; empty where it cannot be read: it passes all the same."""
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return "", {}
    if not isinstance(event, dict):
        return "", {}
    kind = event.get("type")
    return kind if isinstance(kind, str) else "", event


def lowered(raw: bytes, event: dict[str, Any], place: str, most: int, *, set_it: bool = False) -> bytes:
    """The event with output limits of at most `most`; `set_it` puts one where there is none."""
    inner = event.get(place)
    if inner is None and set_it:
        inner = event[place] = {}
    if not isinstance(inner, dict):
        return raw
    names = [name for name in ("max_output_tokens", "max_response_output_tokens") if name in inner]
    changed = False
    for name in names or (["max_output_tokens"] if set_it else []):
        value = inner.get(name)
        if type(value) is not int or value > most:
            inner[name] = most
            changed = True
    return orjson.dumps(event) if changed else raw


def response_of(event: dict[str, Any]) -> dict[str, Any]:
    response = event.get("response")
    return response if isinstance(response, dict) else {}


def refused_event(event: dict[str, Any]) -> str:
    """The id of the client's event that a provider's `error` is about, or ""."""
    error = event.get("error")
    value = error.get("event_id") if isinstance(error, dict) else None
    return value if isinstance(value, str) else ""


def error_of(response: dict[str, Any]) -> str:
    """The code of a failed response."""
    details = response.get("status_details")
    error = details.get("error") if isinstance(details, dict) else None
    for name in ("code", "type"):
        if isinstance(error, dict) and isinstance(error.get(name), str):
            return str(error[name])[:64]
    return "provider_error"
