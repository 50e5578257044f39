"""The bodies and answers of the REST API of anomalies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from billing.domain.money import usd_text
from guardrails.anomalies import telling
from guardrails.anomalies.actions import ANY_TIME, THIS_TIME
from guardrails.anomalies.models import KINDS, RESPONSES, SENSITIVITIES, Incident
from guardrails.api_shapes import AmountField
from guardrails.domain.anomalies.kinds import Kind
from guardrails.signals.links import address
from workspaces.models import Workspace
from workspaces.rest import Strict


class SeriesShown(serializers.Serializer[Any]):
    dimension = serializers.CharField(help_text="Empty: the whole workspace.")
    value = serializers.CharField()


class AnomalyShown(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(KINDS)
    title = serializers.CharField()
    driver = SeriesShown(help_text="The most specific dimension that carries it.")
    shared = SeriesShown(many=True, help_text="What else nearly all of its calls have in common.")
    virtual_key_id = serializers.UUIDField(allow_null=True, help_text="null: its calls come through several keys.")
    started_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True, help_text="null: it goes on.")
    cost = serializers.CharField(help_text="Dollars above habit.")
    calls = serializers.IntegerField()
    observed = serializers.FloatField(
        help_text="In the kind's measure: attempts a minute (loop), billionths of a dollar an hour (volume), a call (cost_per_call, model_mix) "
        "or a day (new_spender), the share of attempts that fails (error_storm)."
    )
    usual = serializers.FloatField()
    response = serializers.ChoiceField(RESPONSES, help_text="What was done about it.")
    response_note = serializers.CharField()
    rate_limit_id = serializers.UUIDField(allow_null=True, help_text="Of the limit that slows its driver down.")
    rate_limit_until = serializers.DateTimeField(allow_null=True)
    feedback = serializers.CharField(help_text="expected, confirmed, or empty.")
    feedback_by = serializers.CharField()
    url = serializers.URLField()


def anomaly_shown(workspace: Workspace, row: Incident) -> dict[str, Any]:
    return {
        "id": str(row.id), "kind": row.kind, "title": telling.title(workspace, row),
        "driver": {"dimension": row.dimension, "value": row.value},
        "shared": [{"dimension": dimension, "value": value} for dimension, value in row.facts.get("beside", [])],
        "virtual_key_id": row.key_id or None, "started_at": _iso(row.started_at), "last_seen_at": _iso(row.last_seen_at),
        "ended_at": _iso(row.ended_at), "cost": usd_text(row.cost_nano), "calls": row.calls, "observed": row.observed, "usual": row.usual,
        "response": row.response, "response_note": row.response_note, "rate_limit_id": str(row.limit_id) if row.limit_id else None,
        "rate_limit_until": _iso(row.limit_until), "feedback": row.feedback, "feedback_by": row.feedback_by,
        "url": address("anomaly", workspace.slug, row.id),
    }  # fmt: skip


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


class FeedbackGiven(Strict):
    feedback = serializers.ChoiceField(
        [("expected", "It was meant to be"), ("confirmed", "It was none"), ("", "Take it back")], allow_blank=True
    )
    when = serializers.ChoiceField(
        [(ANY_TIME, "Whenever"), (THIS_TIME, "At this time of the week")], default=ANY_TIME,
        help_text="When the like of it is expected.",
    )  # fmt: skip


class ThrottleWanted(Strict):
    per_minute = serializers.IntegerField(min_value=1, max_value=1_000_000, required=False)
    minutes = serializers.IntegerField(min_value=1, max_value=10_080, required=False, help_text="How long.")


class AnomalySettingsShown(serializers.Serializer[Any]):
    least = serializers.CharField(
        help_text="Dollars above habit from which there is an incident; of a loop, in a week at its pace."
    )
    sensitivity = serializers.ChoiceField(SENSITIVITIES)
    responses = serializers.DictField(
        child=serializers.ChoiceField(RESPONSES), help_text="What each kind is answered with by itself."
    )
    throttle_per_minute = serializers.IntegerField()
    throttle_minutes = serializers.IntegerField()


class ResponsesWanted(Strict):
    """By kind."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {kind.value: serializers.ChoiceField(RESPONSES, required=False) for kind in Kind}


class AnomalySettingsChange(Strict):
    least = AmountField(required=False)
    sensitivity = serializers.ChoiceField(SENSITIVITIES, required=False)
    responses = ResponsesWanted(required=False)
    throttle_per_minute = serializers.IntegerField(min_value=1, max_value=1_000_000, required=False)
    throttle_minutes = serializers.IntegerField(min_value=1, max_value=10_080, required=False)
