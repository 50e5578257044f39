"""The REST API of guardrails: budgets with their live standing, rate limits, raises, the kill switch. Thin translations around the actions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from billing.domain.attribution import BadAttribution
from billing.domain.attribution import checked as checked_value
from billing.domain.dimensions import OTHER
from guardrails import actions, queries
from guardrails import api_shapes as shapes
from guardrails.domain.budgets import Kind
from guardrails.models import BarredModel, Budget, Raise, RaiseState, RateLimit
from guardrails.queries import BudgetStatus
from workspaces import actions as workspace_actions
from workspaces.api_shapes import WorkspaceShown
from workspaces.errors import NotThere
from workspaces.rest import BadCursor, WorkspaceAPIView, listed, next_page, page_size, paged
from workspaces.roles import Action

_NO_BUDGET = "There is no such budget in this workspace."


# --- Budgets ----------------------------------------------------------------------------------------------------------
class _BudgetsView(WorkspaceAPIView):
    """What routes about budgets answer with: the budget as it stands now."""

    def shown(self, statuses: list[BudgetStatus]) -> list[dict[str, Any]]:
        rows = Budget.objects.in_bulk([UUID(status.budget.id) for status in statuses])
        now = timezone.now()
        return [shapes.budget_shown(status, rows.get(UUID(status.budget.id)), now) for status in statuses]

    def found(self, budget_id: UUID) -> BudgetStatus:
        status = queries.budget(self.workspace, budget_id, timezone.now(), values=False)
        if status is None:
            raise NotThere(_NO_BUDGET)
        return status

    def one(self, budget_id: UUID, *, status: int = 200) -> Response:
        (shown,) = self.shown([self.found(budget_id)])
        return Response(shown, status=status)


class Budgets(_BudgetsView):
    """Every budget with what is settled, held and left in its present period; the plan's quota, which cannot be changed, comes first."""

    needs: ClassVar = {"GET": Action.SEE_BUDGETS, "POST": Action.MANAGE_BUDGETS}

    @extend_schema(operation_id="budgets_list", responses=listed(shapes.BudgetShown))
    def get(self, request: Request, slug: str) -> Response:
        limit = page_size(request)
        quota, own = _parted(queries.budgets(self.workspace, timezone.now(), values=False))
        ordered = quota + sorted(own, key=lambda status: UUID(status.budget.id), reverse=True)
        if cursor := request.query_params.get("cursor"):
            after = _uuid(cursor)
            is_quota = any(status.budget.id == str(after) for status in quota)
            ordered = [status for status in ordered[len(quota) :] if is_quota or UUID(status.budget.id) < after]
        page = ordered[:limit]
        following = next_page(request, page[-1].budget.id) if len(ordered) > limit else None
        return Response({"results": self.shown(page), "next": following})

    @extend_schema(operation_id="budgets_create", request=shapes.BudgetWanted, responses={201: shapes.BudgetShown})
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.BudgetWanted.read(request)
        row = actions.create_budget(workspace=self.workspace, by=self.actor, **wanted)
        return self.one(row.pk, status=201)


def _parted(statuses: list[BudgetStatus]) -> tuple[list[BudgetStatus], list[BudgetStatus]]:
    """(the plan's quota, the workspace's own budgets)"""
    quota = [status for status in statuses if status.budget.kind is Kind.PLAN_QUOTA]
    return quota, [status for status in statuses if status.budget.kind is not Kind.PLAN_QUOTA]


class OneBudget(_BudgetsView):
    moving: ClassVar = frozenset(
        {"starts_at", "resets_at", "limit", "settled", "held", "left", "over", "percent", "stage", "live"}
    )
    needs: ClassVar = {
        "GET": Action.SEE_BUDGETS,
        "PATCH": Action.MANAGE_BUDGETS,
        "DELETE": Action.MANAGE_BUDGETS,
    }

    @extend_schema(operation_id="budgets_show", responses=shapes.BudgetShown)
    def get(self, request: Request, slug: str, budget_id: UUID) -> Response:
        return self.one(budget_id)

    @extend_schema(operation_id="budgets_change", request=shapes.BudgetChange, responses=shapes.BudgetShown)
    def patch(self, request: Request, slug: str, budget_id: UUID) -> Response:
        changes = shapes.BudgetChange.read(request, partial=True)
        actions.update_budget(workspace=self.workspace, by=self.actor, budget_id=budget_id, **changes)
        return self.one(budget_id)

    @extend_schema(operation_id="budgets_delete", responses={204: None})
    def delete(self, request: Request, slug: str, budget_id: UUID) -> Response:
        actions.delete_budget(workspace=self.workspace, by=self.actor, budget_id=budget_id)
        return Response(status=204)


class BudgetStanding(_BudgetsView):
    """How far each value of an each-value budget is, in an order that spending does not change; `?value=` asks for one."""

    needs: ClassVar = {"GET": Action.SEE_BUDGETS}

    @extend_schema(
        operation_id="budgets_standing",
        parameters=[
            OpenApiParameter("value", OpenApiTypes.STR, description="Only this value; one that never spent is at 0."),
            OpenApiParameter("limit", OpenApiTypes.INT),
            OpenApiParameter("cursor", OpenApiTypes.STR),
        ],
        responses=shapes.StandingPage,
    )
    def get(self, request: Request, slug: str, budget_id: UUID) -> Response:
        limit, after, status = page_size(request), _digest(request), self.found(budget_id)
        rule = status.budget
        if not rule.scope.each:
            assert status.standing is not None  # noqa: S101 - a budget that is not on each value stands as a whole
            found = queries.ValuesPage((status.standing,), "", status.live)
        elif "value" in request.query_params:
            found = queries.value_of(self.workspace, rule, _value(request), timezone.now())
        else:
            found = queries.values_of(self.workspace, rule, timezone.now(), after=after, limit=limit)
        results = [shapes.standing_shown(standing, rule.unit) for standing in found.standings]
        following = next_page(request, found.following) if found.following else None
        return Response({"results": results, "next": following, "live": found.live})


def _uuid(cursor: str) -> UUID:
    try:
        return UUID(cursor)
    except ValueError:
        raise BadCursor from None


def _digest(request: Request) -> str:
    cursor = request.query_params.get("cursor", "")
    if cursor and not re.fullmatch(r"[0-9a-f]{32}", cursor):
        raise BadCursor
    return cursor


def _value(request: Request) -> str:
    text = request.query_params["value"]
    if text == OTHER:
        return text
    try:
        return checked_value("value", text)
    except BadAttribution as error:
        raise ValidationError({"value": [f"{error}."]}) from None


class _Preset(_BudgetsView):
    """PUT {"cap": "25"}: the preset made, or set to another amount."""

    needs: ClassVar = {"PUT": Action.MANAGE_BUDGETS}
    act: ClassVar[Callable[..., Budget]]

    @extend_schema(request=shapes.PresetWanted, responses=shapes.BudgetShown)
    def put(self, request: Request, slug: str) -> Response:
        cap = shapes.PresetWanted.read(request)["cap"]
        return self.one(type(self).act(workspace=self.workspace, by=self.actor, cap_usd=cap).pk)


class DailyHardStop(_Preset):
    act: ClassVar = staticmethod(actions.daily_hard_stop)


class MonthlyControl(_Preset):
    act: ClassVar = staticmethod(actions.monthly_control)


class SpendAlert(_Preset):
    act: ClassVar = staticmethod(actions.spend_alert)


class MemberCaps(_Preset):
    act: ClassVar = staticmethod(actions.member_caps)


# --- Rate limits ------------------------------------------------------------------------------------------------------
class RateLimits(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_BUDGETS, "POST": Action.MANAGE_LIMITS}

    @extend_schema(operation_id="rate_limits_list", responses=listed(shapes.RateLimitShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, RateLimit.objects.all(), shapes.rate_limit_shown)

    @extend_schema(
        operation_id="rate_limits_create", request=shapes.RateLimitWanted, responses={201: shapes.RateLimitShown}
    )
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.RateLimitWanted.read(request)
        row = actions.create_rate_limit(workspace=self.workspace, by=self.actor, **wanted)
        return Response(shapes.rate_limit_shown(row), status=201)


class OneRateLimit(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_BUDGETS, "PATCH": Action.MANAGE_LIMITS, "DELETE": Action.MANAGE_LIMITS}

    @extend_schema(operation_id="rate_limits_show", responses=shapes.RateLimitShown)
    def get(self, request: Request, slug: str, limit_id: UUID) -> Response:
        row = RateLimit.objects.filter(pk=limit_id).first()
        if row is None:
            raise NotThere("There is no such rate limit in this workspace.")
        return Response(shapes.rate_limit_shown(row))

    @extend_schema(operation_id="rate_limits_change", request=shapes.RateLimitChange, responses=shapes.RateLimitShown)
    def patch(self, request: Request, slug: str, limit_id: UUID) -> Response:
        changes = shapes.RateLimitChange.read(request, partial=True)
        row = actions.update_rate_limit(workspace=self.workspace, by=self.actor, limit_id=limit_id, **changes)
        return Response(shapes.rate_limit_shown(row))

    @extend_schema(operation_id="rate_limits_delete", responses={204: None})
    def delete(self, request: Request, slug: str, limit_id: UUID) -> Response:
        actions.delete_rate_limit(workspace=self.workspace, by=self.actor, limit_id=limit_id)
        return Response(status=204)


# --- Raises -----------------------------------------------------------------------------------------------------------
class Raises(WorkspaceAPIView):
    """Temporary raises: asked for by members, decided by those who manage budgets, ending by themselves."""

    needs: ClassVar = {"GET": Action.SEE_BUDGETS, "POST": Action.REQUEST_RAISE}

    @extend_schema(
        operation_id="raises_list",
        parameters=[
            OpenApiParameter("state", OpenApiTypes.STR, enum=RaiseState.values),
            OpenApiParameter("budget_id", OpenApiTypes.UUID),
        ],
        responses=listed(shapes.RaiseShown),
    )
    def get(self, request: Request, slug: str) -> Response:
        now, rows = timezone.now(), Raise.objects.select_related("budget")
        state = request.query_params.get("state")
        if state is not None:
            if state not in RaiseState.values:
                raise ValidationError({"state": [f"Choose among: {', '.join(RaiseState.values)}."]})
            rows = rows.filter(state=state)
        budget_id = request.query_params.get("budget_id")
        if budget_id is not None:
            try:
                rows = rows.filter(budget_id=UUID(budget_id))
            except ValueError:
                raise ValidationError({"budget_id": ["Write the id of a budget."]}) from None
        return paged(request, rows, lambda row: shapes.raise_shown(row, now))

    @extend_schema(operation_id="raises_request", request=shapes.RaiseWanted, responses={201: shapes.RaiseShown})
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.RaiseWanted.read(request)
        row = actions.request_raise(workspace=self.workspace, by=self.actor, **wanted)
        return Response(shapes.raise_shown(row, timezone.now()), status=201)


class OneRaise(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_BUDGETS}

    @extend_schema(operation_id="raises_show", responses=shapes.RaiseShown)
    def get(self, request: Request, slug: str, raise_id: UUID) -> Response:
        row = Raise.objects.select_related("budget").filter(pk=raise_id).first()
        if row is None:
            raise NotThere("There is no such request in this workspace.")
        return Response(shapes.raise_shown(row, timezone.now()))


class _DecideRaise(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_BUDGETS}
    approve: ClassVar[bool]

    @extend_schema(request=None, responses=shapes.RaiseShown)
    def post(self, request: Request, slug: str, raise_id: UUID) -> Response:
        row = actions.decide_raise(workspace=self.workspace, by=self.actor, raise_id=raise_id, approve=self.approve)
        return Response(shapes.raise_shown(row, timezone.now()))


class ApproveRaise(_DecideRaise):
    """In force from the next call on."""

    approve: ClassVar = True


class DeclineRaise(_DecideRaise):
    approve: ClassVar = False


class WithdrawRaise(WorkspaceAPIView):
    """Take one's own request back; for those who manage budgets: end any raise before its time."""

    needs: ClassVar = {"POST": Action.REQUEST_RAISE}

    @extend_schema(operation_id="raises_withdraw", request=None, responses=shapes.RaiseShown)
    def post(self, request: Request, slug: str, raise_id: UUID) -> Response:
        row = actions.withdraw_raise(workspace=self.workspace, by=self.actor, raise_id=raise_id)
        return Response(shapes.raise_shown(row, timezone.now()))


# --- The kill switch, barred models -----------------------------------------------------------------------------------
class Suspend(WorkspaceAPIView):
    """The kill switch: every call of the workspace is refused, from the next one on. Calls under way end and are booked."""

    needs: ClassVar = {"POST": Action.SUSPEND_WORKSPACE}

    @extend_schema(operation_id="workspaces_suspend", request=shapes.Suspension, responses=WorkspaceShown)
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.Suspension.read(request)
        workspace_actions.suspend_workspace(workspace=self.workspace, by=self.actor, **wanted)
        return Response(WorkspaceShown(self.workspace).data)


class Resume(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.SUSPEND_WORKSPACE}

    @extend_schema(operation_id="workspaces_resume", request=None, responses=WorkspaceShown)
    def post(self, request: Request, slug: str) -> Response:
        workspace_actions.resume_workspace(workspace=self.workspace, by=self.actor)
        return Response(WorkspaceShown(self.workspace).data)


class BarredModels(WorkspaceAPIView):
    """Models that cost more than their proven bound: kept from hard budgets until somebody has looked and lifts the bar."""

    needs: ClassVar = {"GET": Action.SEE_BUDGETS}

    @extend_schema(operation_id="barred_models_list", responses=listed(shapes.BarredModelShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, BarredModel.objects.all(), shapes.barred_model_shown)


class LiftBar(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_BUDGETS}

    @extend_schema(operation_id="barred_models_lift", request=None, responses={204: None})
    def post(self, request: Request, slug: str, bar_id: UUID) -> Response:
        actions.lift_bar(workspace=self.workspace, by=self.actor, bar_id=bar_id)
        return Response(status=204)
