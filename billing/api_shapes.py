"""The answers of the REST API of the books. Money is a decimal string of dollars, and exact nano-dollars beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from rest_framework import serializers

from billing.domain.money import usd_text
from billing.ledger.queries import LoggedCall, Totals
from billing.ledger.rollups import MEASURES


class UsageRow(serializers.Serializer[Any]):
    start = serializers.CharField(
        required=False, help_text="First day, or moment, of the bucket; with `granularity` only."
    )
    group = serializers.DictField(
        child=serializers.CharField(allow_blank=True), help_text="Dimension to value; empty: calls without one."
    )
    cost_usd = serializers.CharField(help_text="What was charged, unconfirmed charges included.")
    assumed_usd = serializers.CharField(help_text="The part that is an unconfirmed upper bound.")
    cost_nano = serializers.IntegerField()
    assumed_nano = serializers.IntegerField()
    calls = serializers.IntegerField()
    attempts = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # declared fields leave the class
    voids = serializers.IntegerField(
        help_text="Attempts that cost nothing: never sent, or refused by the provider unbilled."
    )
    unpriced_calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField(help_text="Uncached input; the four kinds of tokens are disjoint.")
    cache_read_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    mean_duration_ms = serializers.IntegerField(allow_null=True)
    mean_first_byte_ms = serializers.IntegerField(allow_null=True)


class UsageAnswer(serializers.Serializer[Any]):
    to = serializers.DateField()
    time_zone = serializers.CharField()
    totals = UsageRow()
    results = UsageRow(many=True)
    next = serializers.URLField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {"from": serializers.DateField(), **super().get_fields()}


class CallShown(serializers.Serializer[Any]):
    call_id = serializers.UUIDField()
    attempt_id = serializers.UUIDField(help_text="Sent upstream as a header: what an invoice is joined on.")
    attempt = serializers.IntegerField()
    at = serializers.DateTimeField()
    state = serializers.ChoiceField(["settled", "void", "expired"])
    corrected = serializers.BooleanField()
    basis = serializers.ChoiceField(["measured", "counted", "assumed"])
    price_status = serializers.ChoiceField(["exact", "estimated", "partial", "unpriced"])
    cost_usd = serializers.CharField()
    cost_nano = serializers.IntegerField()
    held_usd = serializers.CharField()
    model = serializers.CharField()
    model_served = serializers.CharField()
    endpoint = serializers.CharField()
    streamed = serializers.BooleanField()
    dimensions = serializers.DictField(child=serializers.CharField())
    tags = serializers.DictField(child=serializers.CharField())
    input_tokens = serializers.IntegerField()
    cache_read_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    http_status = serializers.IntegerField(help_text="The provider's; 0: it never answered.")
    error = serializers.CharField()
    duration_ms = serializers.IntegerField(allow_null=True)
    first_byte_ms = serializers.IntegerField(allow_null=True)
    overhead_us = serializers.IntegerField(allow_null=True)
    flags = serializers.ListField(child=serializers.CharField())


class Line(serializers.Serializer[Any]):
    leg = serializers.IntegerField()
    state = serializers.CharField()
    booked_at = serializers.DateTimeField()
    cost_usd = serializers.CharField()
    basis = serializers.CharField()
    usage = serializers.DictField(child=serializers.IntegerField())
    fees = serializers.DictField(child=serializers.IntegerField())
    breakdown = serializers.ListField(child=serializers.DictField())
    raw_usage = serializers.CharField(help_text="The provider's own usage, as JSON text.")
    budgets = serializers.ListField(help_text="[counter, unit, charged] of every budget it counted on.")
    price_version = serializers.CharField()


class CallInFull(CallShown):
    lines = Line(many=True)


class CallWithAttempts(serializers.Serializer[Any]):
    call_id = serializers.UUIDField()
    attempts = CallInFull(many=True)


_PLAIN = tuple(name for name in MEASURES if name in UsageRow().fields)


def usage_row(
    dimensions: Sequence[str], values: Sequence[str], totals: Totals, *, start: date | datetime | None = None
) -> dict[str, Any]:
    """A `UsageRow`."""
    row: dict[str, Any] = {} if start is None else {"start": start.isoformat()}
    return row | {
        "group": dict(zip(dimensions, values, strict=True)),
        "cost_usd": usd_text(totals.cost_nano),
        "assumed_usd": usd_text(totals.assumed_nano),
        **{name: getattr(totals, name) for name in _PLAIN},
        "mean_duration_ms": totals.mean_duration_ms,
        "mean_first_byte_ms": totals.mean_first_byte_ms,
    }


_DIMENSIONS = (
    "virtual_key", "member", "agent", "department", "customer", "feature", "user", "session", "model", "provider", "environment",
)  # fmt: skip


def call_row(call: LoggedCall) -> dict[str, Any]:
    """A `CallShown`."""
    charge, latest, told = call.charge, call.latest, call.told
    return {
        "call_id": str(charge.call_id),
        "attempt_id": str(charge.rid),
        "attempt": charge.attempt,
        "at": charge.at.isoformat(),
        "state": charge.state,
        "corrected": call.correction is not None,
        "basis": latest.basis,
        "price_status": latest.price_status,
        "cost_usd": usd_text(call.cost_nano),
        "cost_nano": call.cost_nano,
        "held_usd": usd_text(charge.hold_nano),
        "model": charge.model,
        "model_served": latest.model_served,
        "endpoint": charge.endpoint,
        "streamed": charge.streamed,
        "dimensions": {name: value for name in _DIMENSIONS if (value := getattr(charge, name))},
        "tags": charge.tags,
        "input_tokens": told.input_tokens,
        "cache_read_tokens": told.cache_read_tokens,
        "cache_write_tokens": told.cache_write_tokens,
        "output_tokens": told.output_tokens,
        "http_status": latest.http_status,
        "error": latest.error,
        "duration_ms": latest.duration_ms,
        "first_byte_ms": latest.first_byte_ms,
        "overhead_us": latest.overhead_us,
        "flags": latest.flags,
    }


def call_in_full(call: LoggedCall) -> dict[str, Any]:
    """A `CallInFull`."""
    lines = []
    for entry in (call.charge, *call.corrections):
        detail = entry.unpacked()
        lines.append(
            {
                "leg": entry.leg,
                "state": entry.state,
                "booked_at": entry.ended_at.isoformat(),
                "cost_usd": usd_text(entry.cost_nano),
                "basis": entry.basis,
                "usage": detail.get("usage", {}),
                "fees": detail.get("fees", {}),
                "breakdown": detail.get("breakdown", []),
                "raw_usage": detail.get("raw_usage", ""),
                "budgets": entry.counters,
                "price_version": entry.price_version,
            }
        )
    return call_row(call) | {"lines": lines}
