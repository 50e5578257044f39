"""Trying a budget out through the REST API, before it is made or changed: its preview and its backtest. Nothing is written."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails import actions, drafts, queries
from guardrails import api_shapes as shapes
from guardrails.domain.backtest import Outlook, Replayed
from guardrails.domain.budgets import Budget, Unit
from guardrails.domain.periods import FOREVER_MS
from guardrails.drafts import Backtest, Preview
from workspaces.errors import NotThere
from workspaces.rest import WorkspaceAPIView
from workspaces.roles import Action


# --- Shapes -----------------------------------------------------------------------------------------------------------
class OutlookShown(serializers.Serializer[Any]):
    at_end = serializers.CharField(help_text="What will have been used when the period ends.")
    alert_at = serializers.DateTimeField(allow_null=True, help_text="null: not before the period ends, or off.")
    throttle_at = serializers.DateTimeField(allow_null=True)
    kill_at = serializers.DateTimeField(allow_null=True)


class PreviewShown(serializers.Serializer[Any]):
    """When each stage begins at the pace of the last seven days."""

    unit = serializers.CharField()
    pace_per_day = serializers.CharField()
    used = serializers.CharField(help_text="In the running period; a new budget counts from now on.")
    running = OutlookShown(help_text="The rest of the running period.")
    full = OutlookShown(allow_null=True, help_text="The next whole period; null for a budget that never resets.")
    value = serializers.CharField(allow_null=True, help_text="Each value: the one that uses most, which this is about.")
    values = serializers.IntegerField(help_text="Each value: how many used anything.")
    reaching = serializers.IntegerField(help_text="Each value: how many reach the first stage in a whole period.")


class ReplayedShown(serializers.Serializer[Any]):
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True)
    used = serializers.CharField(help_text="allowed + slowed + blocked")
    allowed = serializers.CharField()
    slowed = serializers.CharField(help_text="Faster than the throttle lets through.")
    blocked = serializers.CharField(help_text="Did not fit under the cap.")
    blocked_calls = serializers.IntegerField(help_text="At the mean cost of their hour or day.")
    alert_at = serializers.DateTimeField(allow_null=True, help_text="Start of the hour or day in which it began.")
    throttle_at = serializers.DateTimeField(allow_null=True)
    kill_at = serializers.DateTimeField(allow_null=True)


class ValueReplayedShown(ReplayedShown):
    value = serializers.CharField()


class BacktestShown(serializers.Serializer[Any]):
    """What the budget would have done."""

    unit = serializers.CharField()
    since = serializers.DateTimeField(help_text="Start of the period that was running that many days ago.")
    until = serializers.DateTimeField()
    resolution = serializers.ChoiceField(["hour", "day"], help_text="How sharp the moments are.")
    total = ReplayedShown()
    periods = ReplayedShown(many=True, help_text="One scope: the periods in which a stage began.")
    values = ValueReplayedShown(many=True, help_text="Each value: those held back most, at most 20.")
    value_count = serializers.IntegerField()
    stopped_count = serializers.IntegerField()


class BacktestDraftWanted(shapes.BudgetWanted):
    days = shapes.WholeField(required=False, help_text="How far back, 1 to 60; 30 when left out.")


class BacktestChangeWanted(shapes.BudgetChange):
    days = shapes.WholeField(required=False, help_text="How far back, 1 to 60; 30 when left out.")


# --- Views ------------------------------------------------------------------------------------------------------------
class PreviewDraft(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_BUDGETS}

    @extend_schema(operation_id="budgets_preview", request=shapes.BudgetWanted, responses=PreviewShown)
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.BudgetWanted.read(request)
        rule = actions.draft_budget(workspace=self.workspace, by=self.actor, **wanted).rule()
        return Response(preview_shown(drafts.preview(self.workspace, rule, timezone.now()), rule))


class BacktestDraft(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_BUDGETS}

    @extend_schema(operation_id="budgets_backtest", request=BacktestDraftWanted, responses=BacktestShown)
    def post(self, request: Request, slug: str) -> Response:
        wanted = BacktestDraftWanted.read(request)
        days = drafts.days(wanted.pop("days", drafts.DAYS))
        rule = actions.draft_budget(workspace=self.workspace, by=self.actor, **wanted).rule()
        return Response(backtest_shown(drafts.run_backtest(self.workspace, rule, timezone.now(), days=days), rule))


class PreviewChange(WorkspaceAPIView):
    """Of a budget that exists, with the changes in the body (none: as it is)."""

    needs: ClassVar = {"POST": Action.MANAGE_BUDGETS}

    @extend_schema(operation_id="budgets_preview_change", request=shapes.BudgetChange, responses=PreviewShown)
    def post(self, request: Request, slug: str, budget_id: UUID) -> Response:
        changes, now = shapes.BudgetChange.read(request, partial=True), timezone.now()
        rule = actions.draft_change(workspace=self.workspace, budget_id=budget_id, **changes).rule()
        status = queries.budget(self.workspace, budget_id, now, values=False)
        if status is None:
            raise NotThere("There is no such budget in this workspace.")
        used = status.standing.used if status.standing else 0
        return Response(preview_shown(drafts.preview(self.workspace, rule, now, used=used), rule))


class BacktestChange(WorkspaceAPIView):
    """Of a budget that exists, with the changes in the body (none: as it is)."""

    needs: ClassVar = {"POST": Action.MANAGE_BUDGETS}

    @extend_schema(operation_id="budgets_backtest_change", request=BacktestChangeWanted, responses=BacktestShown)
    def post(self, request: Request, slug: str, budget_id: UUID) -> Response:
        changes = BacktestChangeWanted.read(request, partial=True)
        days = drafts.days(changes.pop("days", drafts.DAYS))
        rule = actions.draft_change(workspace=self.workspace, budget_id=budget_id, **changes).rule()
        return Response(backtest_shown(drafts.run_backtest(self.workspace, rule, timezone.now(), days=days), rule))


def preview_shown(found: Preview, rule: Budget) -> dict[str, Any]:
    """A `PreviewShown`."""
    return {
        "unit": rule.unit.value,
        "pace_per_day": shapes.amount_text(found.pace, rule.unit),
        "used": shapes.amount_text(found.running.used, rule.unit),
        "running": _outlook(found.running, rule.unit),
        "full": None if found.full is None else _outlook(found.full, rule.unit),
        "value": found.value or None,
        "values": found.value_count,
        "reaching": found.reaching_count,
    }


def _outlook(found: Outlook, unit: Unit) -> dict[str, Any]:
    return {"at_end": shapes.amount_text(found.at_end, unit), **_moments(found)}


def backtest_shown(found: Backtest, rule: Budget) -> dict[str, Any]:
    """A `BacktestShown`."""
    return {
        "unit": rule.unit.value,
        "since": drafts.moment(found.since_ms),
        "until": drafts.moment(found.until_ms),
        "resolution": found.resolution,
        "total": _replayed(found.total, rule.unit),
        "periods": [_replayed(one, rule.unit) for one in found.periods],
        "values": [{"value": one.value, **_replayed(one.replayed, rule.unit)} for one in found.values],
        "value_count": found.value_count,
        "stopped_count": found.stopped_count,
    }


def _replayed(one: Replayed, unit: Unit) -> dict[str, Any]:
    amounts = ("used", "allowed", "slowed", "blocked")
    return {
        "starts_at": drafts.moment(one.start_ms),
        "ends_at": None if one.end_ms == FOREVER_MS else drafts.moment(one.end_ms),
        **{name: shapes.amount_text(getattr(one, name), unit) for name in amounts},
        "blocked_calls": one.blocked_calls,
        **_moments(one),
    }


def _moments(one: Outlook | Replayed) -> dict[str, Any]:
    stages = {"alert_at": one.alert_ms, "throttle_at": one.throttle_ms, "kill_at": one.kill_ms}
    return {name: None if at_ms is None else drafts.moment(at_ms) for name, at_ms in stages.items()}
