"""One line of `manage.py price --json`: an answer and where it came from -> what it cost. Pure; the command only reads and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.domain.events import PriceStatus
from billing.domain.money import usd_text
from billing.domain.pricing import PriceBook, price
from billing.domain.usage import canonical, extract


class BadLine(ValueError):
    """A line that cannot be priced as written. The message says which field is wrong."""


def evaluate(line: Mapping[str, Any], book: PriceBook, *, now: datetime) -> dict[str, Any]:
    """Fields provider, endpoint, model, request, response_or_usage, streamed, at (and context) -> cost_usd, status, buckets, breakdown."""
    provider = canonical(_text(line, "provider"))
    endpoint = _text(line, "endpoint", default="")
    model = _text(line, "model", default="")
    request = line.get("request")
    context = line.get("context")
    context = context if isinstance(context, Mapping) else {}
    request = request if isinstance(request, Mapping) else {}
    payload = _unwrapped(_parsed(line.get("response_or_usage")))
    if (
        isinstance(payload, list)
        and payload
        and all(isinstance(one, Mapping) and "custom_id" in one for one in payload)
    ):
        return _summed([evaluate({**line, "response_or_usage": one}, book, now=now) for one in payload])
    usage = extract(
        provider,
        endpoint,
        payload,
        request={"model": model, **request},
        streamed=bool(line.get("streamed")),
        base_url=str(context.get("base_url") or line.get("base_url") or ""),
        account=context,
    )
    asked = model or str(request.get("model") or "") or usage.context.model_served
    moment = _moment(line.get("at"), now)
    served = usage.context.model_served or next((part.context.model_served for part in usage.parts), "")
    rates = book.rates_of_answer(provider, asked, served, moment)
    if rates is None and usage.parts and not usage.buckets:  # a system of several models, which has no price of its own
        rates = book.rates(provider, usage.parts[0].context.model_served, moment)
    priced = price(usage, rates)
    return {
        "cost_usd": None if priced.cost_nano is None else usd_text(priced.cost_nano),
        "status": priced.status.value,
        "buckets": {**usage.all_buckets, **usage.all_fees},
        "breakdown": priced.breakdown,
        "known_usd": usd_text(priced.known_nano),
        "flags": list(priced.flags),
        "measured": usage.measured,
        "context": usage.context.as_plain(),
    }


def _parsed(payload: Any) -> Any:
    """A payload that came as text: one JSON value, a stream of server-sent events, or one JSON object a line. Any other text is as it was."""
    if not isinstance(payload, str):
        return payload
    lines = [
        one.removeprefix("data:").strip()
        for one in payload.splitlines()
        if one[:1] in ("{", "[") or one.startswith("data:")
    ]
    for texts in ([payload], lines):
        try:
            values = [json.loads(text, parse_float=Decimal) for text in texts if text and text != "[DONE]"]
        except ValueError:
            continue
        if values and all(isinstance(value, dict | list) for value in values):
            return values[0] if texts is not lines else values
    return payload


STREAMED = frozenset(
    {"message_start", "message_delta", "message_stop", "content_block_start", "content_block_stop", "ping"}
)
WRAPPERS = frozenset({"events", "chunks", "stream"})
"""What recorders call the list of a stream's events."""
ENDINGS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _unwrapped(payload: Any) -> Any:
    """The events of a stream as their providers send them, where a recorder wrapped them: `{"event", "data"}` each, or an object by event name.

    One event alone is a stream of one.
    """
    if isinstance(payload, Mapping):
        if len(payload) == 1 and isinstance(inner := next(iter(payload.values())), list) and payload.keys() <= WRAPPERS:
            return _unwrapped(inner)
        if payload.get("type") in ENDINGS and isinstance(payload.get("response"), Mapping):
            return [payload]
        if payload and payload.keys() <= STREAMED and all(isinstance(said, Mapping) for said in payload.values()):
            return [_message_event(kind, said) for kind, said in payload.items()]
        return payload
    if isinstance(payload, list) and payload and all(isinstance(one, str) for one in payload):
        return _parsed("\n".join(payload))
    if not isinstance(payload, list) or not any(isinstance(one, Mapping) and "data" in one for one in payload):
        return payload
    events: list[Any] = []
    for one in payload:
        wrapped = isinstance(one, Mapping) and one.keys() <= {"event", "data", "id", "retry"}
        data = _parsed(one.get("data")) if wrapped else one
        if isinstance(data, Mapping) or not wrapped:
            events.append(data)
    return events


def _message_event(kind: str, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands under an event's name: the event, or of a start the message."""
    if kind == "message_start" and "message" not in said:
        return {"type": kind, "message": said}
    return {"type": kind, **said}


def _summed(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of a batch as one line: each was priced on its own, at its own model."""
    order = [
        status.value for status in (PriceStatus.EXACT, PriceStatus.ESTIMATED, PriceStatus.PARTIAL, PriceStatus.UNPRICED)
    ]
    buckets: dict[str, int] = {}
    for line in lines:
        for name, count in line["buckets"].items():
            buckets[name] = buckets.get(name, 0) + count
    unknown = any(line["cost_usd"] is None for line in lines)
    known = format(sum((Decimal(line["known_usd"]) for line in lines), Decimal(0)), "f")
    return {
        "cost_usd": None if unknown else format(sum((Decimal(line["cost_usd"]) for line in lines), Decimal(0)), "f"),
        "status": max((line["status"] for line in lines), key=order.index),
        "buckets": buckets,
        "breakdown": [entry for line in lines for entry in line["breakdown"]],
        "known_usd": known,
        "flags": list(dict.fromkeys(flag for line in lines for flag in line["flags"])),
        "measured": all(line["measured"] for line in lines),
        "context": lines[0]["context"],
    }


def _text(line: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    value = line.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadLine(f"{key} must be text")
    return value


def _moment(value: Any, now: datetime) -> datetime:
    if value is None:
        return now
    if not isinstance(value, str):
        raise BadLine("at must be a time like 2026-11-21T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise BadLine(f"at is not a time: {value[:40]!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
