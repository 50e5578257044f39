"""One line of `manage.py price --json`: an answer and where it came from -> what it cost. Pure; the command only reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from billing.domain.money import usd_text
from billing.domain.pricing import PriceBook, price
from billing.domain.usage import extract


class BadLine(ValueError):
    """A line that cannot be priced as written. The message says which field is wrong."""


def evaluate(line: Mapping[str, Any], book: PriceBook, *, now: datetime) -> dict[str, Any]:
    """Fields provider, endpoint, model, request, response_or_usage, streamed, at (and context) -> cost_usd, status, buckets, breakdown."""
    provider = _text(line, "provider")
    endpoint = _text(line, "endpoint", default="")
    model = _text(line, "model", default="")
    request = line.get("request")
    context = line.get("context")
    context = context if isinstance(context, Mapping) else {}
    request = request if isinstance(request, Mapping) else {}
    usage = extract(
        provider,
        endpoint,
        line.get("response_or_usage"),
        request={"model": model, **request},
        streamed=bool(line.get("streamed")),
        base_url=str(context.get("base_url") or line.get("base_url") or ""),
        account=context,
    )
    asked = model or str(request.get("model") or "") or usage.context.model_served
    rates = book.rates_of_answer(provider, asked, usage.context.model_served, _moment(line.get("at"), now))
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
