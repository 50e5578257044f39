"""The bodies and answers of the REST API of signals."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from rest_framework import serializers

from guardrails.api_shapes import AmountField
from guardrails.signals.links import address
from guardrails.signals.models import (
    Delivery,
    DeliveryState,
    Endpoint,
    EndpointKind,
    Notice,
    Pace,
    Preference,
    Severity,
)
from workspaces.models import Workspace
from workspaces.rest import Strict


class AlertShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.CharField(
        help_text="threshold, throttled, stopped, normal, spend_alert, digest, unknown_usage, test, or a detector's own."
    )
    severity = serializers.ChoiceField(Severity.choices)
    title = serializers.CharField()
    facts = serializers.DictField(
        help_text="What was so when it happened: amounts as integers in the budget's unit (dollars in billionths), moments in ISO 8601."
    )
    budget_id = serializers.UUIDField(allow_null=True)
    at = serializers.DateTimeField()
    archived_at = serializers.DateTimeField(allow_null=True)
    archived_by = serializers.CharField(allow_null=True)
    url = serializers.URLField()


def alert_shown(workspace: Workspace, row: Notice) -> dict[str, Any]:
    return {
        "id": str(row.id), "kind": row.kind, "severity": row.severity, "title": row.title, "facts": row.facts,
        "budget_id": str(row.budget_id) if row.budget_id else None, "at": row.at.astimezone(UTC).isoformat(),
        "archived_at": row.archived_at.astimezone(UTC).isoformat() if row.archived_at else None,
        "archived_by": row.archived_by or None, "url": address("alert", workspace.slug, row.id),
    }  # fmt: skip


class ArchiveWanted(Strict):
    up_to = serializers.UUIDField(help_text="The id of the newest alert to archive.")


class Archived(serializers.Serializer[Any]):
    archived = serializers.IntegerField(help_text="How many.")


class PreferenceShown(serializers.Serializer[Any]):
    mail = serializers.ChoiceField(Pace.choices)
    budgets = serializers.ListField(child=serializers.UUIDField(), allow_null=True, help_text="null: every budget.")
    weekly = serializers.BooleanField()
    quiet_from = serializers.CharField(
        allow_null=True, help_text='On the person\'s clock, like "22:00"; null: no quiet hours.'
    )
    quiet_to = serializers.CharField(allow_null=True)
    wake_for_critical = serializers.BooleanField()


class PreferenceChange(Strict):
    mail = serializers.ChoiceField(Pace.choices, required=False)
    budgets = serializers.ListField(child=serializers.UUIDField(), allow_null=True, required=False, max_length=500)
    weekly = serializers.BooleanField(required=False)
    quiet_from = serializers.CharField(allow_null=True, required=False, max_length=5)
    quiet_to = serializers.CharField(allow_null=True, required=False, max_length=5)
    wake_for_critical = serializers.BooleanField(required=False)


def preference_shown(row: Preference) -> dict[str, Any]:
    def clock(minute: int | None) -> str | None:
        return None if minute is None else f"{minute // 60:02d}:{minute % 60:02d}"

    return {
        "mail": row.mail, "budgets": None if row.budgets is None else [str(one) for one in row.budgets], "weekly": row.weekly,
        "quiet_from": clock(row.quiet_from), "quiet_to": clock(row.quiet_to), "wake_for_critical": row.wake_for_critical,
    }  # fmt: skip


class SpendAlertShown(serializers.Serializer[Any]):
    """The month as it is heading. Amounts in dollars as decimal strings."""

    line = serializers.CharField(
        allow_null=True, help_text="What the month is compared with; null: there is nothing to compare with."
    )
    line_of = serializers.ChoiceField(["own", "budget", "last_month"])
    spent = serializers.CharField()
    expected = serializers.CharField()
    low = serializers.CharField(help_text="Between low and high with 80% probability.")
    high = serializers.CharField()
    maturity = serializers.ChoiceField(["none", "guess", "rough", "fair"])
    history_days = serializers.IntegerField()
    crosses_on = serializers.DateField(allow_null=True)


class SpendAlertChange(Strict):
    line = AmountField(allow_null=True, help_text="Dollars; null: the monthly budget, or without one the month before.")


class WebhookShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(EndpointKind.choices)
    name = serializers.CharField()
    url = serializers.CharField(help_text="Of Slack's address only its end: it is a secret.")
    kinds = serializers.ListField(child=serializers.CharField(), help_text="Kinds of alerts it gets; empty: all.")
    paused = serializers.BooleanField()
    paused_why = serializers.CharField(allow_null=True)
    failing_since = serializers.DateTimeField(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class WebhookMade(WebhookShown):
    signing_secret = serializers.CharField(help_text="In this answer and never again; empty for Slack.")


class WebhookWanted(Strict):
    kind = serializers.ChoiceField(EndpointKind.choices, default=EndpointKind.WEBHOOK)
    name = serializers.CharField(max_length=80)
    url = serializers.CharField(max_length=500)
    kinds = serializers.ListField(child=serializers.CharField(max_length=16), required=False, max_length=50)


class WebhookChange(Strict):
    name = serializers.CharField(max_length=80, required=False)
    url = serializers.CharField(max_length=500, required=False)
    kinds = serializers.ListField(child=serializers.CharField(max_length=16), required=False, max_length=50)
    paused = serializers.BooleanField(required=False)


def webhook_shown(row: Endpoint) -> dict[str, Any]:
    return {
        "id": str(row.id), "kind": row.kind, "name": row.name, "url": row.url, "kinds": row.kinds, "paused": row.paused_at is not None,
        "paused_why": row.paused_why or None, "failing_since": row.failing_since.isoformat() if row.failing_since else None,
        "created_by": row.created_by, "created_at": row.created_at.isoformat(),
    }  # fmt: skip


class DeliveryShown(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    alert_id = serializers.UUIDField(allow_null=True)
    title = serializers.CharField()
    state = serializers.ChoiceField(DeliveryState.choices)
    tries = serializers.IntegerField()
    status = serializers.IntegerField(allow_null=True, help_text="HTTP status of the last answer.")
    answer = serializers.CharField()
    made_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True, help_text="When it is tried next.")
    ended_at = serializers.DateTimeField(allow_null=True)


def delivery_shown(row: Delivery) -> dict[str, Any]:
    return {
        "id": row.pk, "alert_id": str(row.notice_id) if row.notice_id else None, "title": row.notice.title if row.notice else "",
        "state": row.state, "tries": row.tries, "status": row.status, "answer": row.answer, "made_at": row.made_at.isoformat(),
        "due_at": row.due_at.isoformat() if row.state == DeliveryState.WAITING else None,
        "ended_at": row.ended_at.isoformat() if row.ended_at else None,
    }  # fmt: skip
