"""The bodies and answers of the REST API of waste. Money is text in dollars, and whole nano-dollars beside it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from billing.domain.money import usd_text
from guardrails.domain.waste.values import Category
from guardrails.signals.links import address
from guardrails.waste import levers, saying
from guardrails.waste.levers import Lever
from guardrails.waste.models import Finding, Look, State
from guardrails.waste.queries import Summary
from workspaces.models import Workspace
from workspaces.rest import Strict

_CATEGORIES = [(one.value, saying.NAMES[one]) for one in Category]
_LEVERS = [(one.value, one.value) for one in Lever]


class WasteShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    category = serializers.ChoiceField(_CATEGORIES)
    state = serializers.ChoiceField(State.choices)
    title = serializers.CharField()
    why = serializers.CharField()
    subject = serializers.DictField(child=serializers.CharField(), help_text="Dimensions of the calls concerned.")
    waste = serializers.CharField(help_text="Dollars in the last thirty days. A dollar is in one category at most.")
    waste_nano = serializers.IntegerField()
    unconfirmed = serializers.CharField(help_text="The part of it that is an upper bound.")
    cost = serializers.CharField(help_text="What the calls concerned cost.")
    cost_nano = serializers.IntegerField()
    calls = serializers.IntegerField()
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    evidence = serializers.DictField(
        help_text="Counts, models with what the same calls would have cost (nano-dollars), errors, sessions."
    )
    sample_calls = serializers.ListField(child=serializers.UUIDField())
    levers = serializers.ListField(
        child=serializers.ChoiceField(_LEVERS), help_text="What `pull/` can do, the first one unless said otherwise."
    )
    lever = serializers.CharField(allow_null=True, help_text="The one that was pulled.")
    saved = serializers.CharField(
        allow_null=True, help_text="Dollars saved since; negative where it cost more; null: no whole day yet."
    )
    decided_at = serializers.DateTimeField(allow_null=True)
    decided_by = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    url = serializers.URLField()


def waste_shown(workspace: Workspace, row: Finding, *, sees_calls: bool) -> dict[str, Any]:
    saved = getattr(row, "saved_nano", None)
    can_pull = row.state in (State.OPEN, State.DISMISSED)
    return {
        "id": str(row.pk), "category": row.category, "state": row.state, "title": saying.title(row),
        "why": saying.WHY[Category(row.category)], "subject": {name: value for name, value in row.about._asdict().items() if value},
        "waste": usd_text(row.waste_nano), "waste_nano": row.waste_nano, "unconfirmed": usd_text(row.assumed_nano),
        "cost": usd_text(row.cost_nano), "cost_nano": row.cost_nano, "calls": row.calls,
        "first_day": row.first_day.isoformat(), "last_day": row.last_day.isoformat(),
        "evidence": row.facts, "sample_calls": row.samples if sees_calls else [],
        "levers": [lever.value for lever in levers.levers_of(row)] if can_pull else [],
        "lever": row.lever or None, "saved": None if saved is None else usd_text(saved),
        "decided_at": row.decided_at.isoformat() if row.decided_at else None, "decided_by": row.decided_by or None,
        "reason": row.reason or None, "url": address("waste_finding", workspace.slug, row.pk),
    }  # fmt: skip


class WasteDismissal(Strict):
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class WastePull(Strict):
    lever = serializers.ChoiceField(
        _LEVERS, required=False, help_text="One of the finding's `levers`; the first one unless said otherwise."
    )
    model = serializers.CharField(
        max_length=200, required=False, help_text="Of `cheaper_model`: one of the evidence's `options`."
    )


class WasteSummaryShown(serializers.Serializer[Any]):
    waste = serializers.CharField(help_text="Dollars of all open findings in the last thirty days.")
    waste_nano = serializers.IntegerField()
    findings = serializers.IntegerField()
    by_category = serializers.DictField(child=serializers.CharField(), help_text="Category -> dollars.")
    saved = serializers.CharField(help_text="Dollars that all levers have saved so far.")
    looked_at = serializers.DateTimeField(allow_null=True)
    asked_at = serializers.DateTimeField(allow_null=True)
    fingerprints = serializers.BooleanField(
        help_text="Whether calls carry a keyed hash of what was asked, for finding duplicates."
    )


class WasteSettings(Strict):
    fingerprints = serializers.BooleanField()


def summary_shown(workspace: Workspace, found: Summary, look: Look) -> dict[str, Any]:
    return {
        "waste": usd_text(found.waste_nano), "waste_nano": found.waste_nano, "findings": found.findings,
        "by_category": {name: usd_text(nano) for name, nano in found.by_category.items()}, "saved": usd_text(found.saved_nano),
        "looked_at": look.looked_at.isoformat() if look.looked_at else None,
        "asked_at": look.asked_at.isoformat() if look.asked_at else None, "fingerprints": workspace.fingerprints,
    }  # fmt: skip
