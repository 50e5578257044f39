"""The REST API of waste: findings, what was decided about them, what that saved. Thin translations around the actions."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.domain.waste.values import Category
from guardrails.waste import actions, levers, queries
from guardrails.waste import api_shapes as shapes
from guardrails.waste.models import Finding, State
from workspaces import roles
from workspaces.errors import NotAllowed
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action


class _WasteView(WorkspaceAPIView):
    def shown(self, row: Finding) -> dict[str, Any]:
        sees_calls = roles.may(self.membership.role, Action.SEE_CALLS)
        return shapes.waste_shown(self.workspace, row, sees_calls=sees_calls)

    def one(self, finding_id: UUID) -> Response:
        return Response(self.shown(queries.finding(self.workspace, finding_id)))


class Waste(_WasteView):
    """What of the last thirty days' spend bought nothing, newest finding first."""

    needs: ClassVar = {"GET": Action.SEE_SPEND}

    @extend_schema(
        operation_id="waste_list",
        parameters=[
            OpenApiParameter("state", OpenApiTypes.STR, enum=[*State.values, "all"], description="open unless said otherwise"),
            OpenApiParameter(
                "category", OpenApiTypes.STR, enum=[one.value for one in Category], description="only of this cause"
            ),
        ],
        responses=listed(shapes.WasteShown),
    )  # fmt: skip
    def get(self, request: Request, slug: str) -> Response:
        state, category = request.query_params.get("state", State.OPEN), request.query_params.get("category", "")
        if state not in (*State.values, "all"):
            raise ValidationError({"state": [f"Choose among: {', '.join(State.values)}, all."]})
        if category and category not in set(Category):
            raise ValidationError({"category": [f"Choose among: {', '.join(Category)}."]})
        rows = queries.findings(self.workspace, state="" if state == "all" else state, category=category)
        return paged(request, rows, self.shown)


class OneWaste(_WasteView):
    needs: ClassVar = {"GET": Action.SEE_SPEND}

    @extend_schema(operation_id="waste_show", responses=shapes.WasteShown)
    def get(self, request: Request, slug: str, finding_id: UUID) -> Response:
        return self.one(finding_id)


class DismissWaste(_WasteView):
    """It is fine as it is: it counts no more."""

    needs: ClassVar = {"POST": Action.MANAGE_WASTE}

    @extend_schema(operation_id="waste_dismiss", request=shapes.WasteDismissal, responses=shapes.WasteShown)
    def post(self, request: Request, slug: str, finding_id: UUID) -> Response:
        wanted = shapes.WasteDismissal.read(request)
        actions.dismiss(workspace=self.workspace, by=self.actor, finding_id=finding_id, **wanted)
        return self.one(finding_id)


class RestoreWaste(_WasteView):
    """A dismissed finding counts again."""

    needs: ClassVar = {"POST": Action.MANAGE_WASTE}

    @extend_schema(operation_id="waste_restore", request=None, responses=shapes.WasteShown)
    def post(self, request: Request, slug: str, finding_id: UUID) -> Response:
        actions.restore(workspace=self.workspace, by=self.actor, finding_id=finding_id)
        return self.one(finding_id)


class PullWaste(_WasteView):
    """Act on a finding by one of its levers. What a lever does needs its own right and scope, too: keys for `revoke_key`, budgets for
    `limit_sessions`, workspace for `cheaper_model` and `fewer_retries`."""

    needs: ClassVar = {"POST": Action.MANAGE_WASTE}

    @extend_schema(operation_id="waste_pull", request=shapes.WastePull, responses=shapes.WasteShown)
    def post(self, request: Request, slug: str, finding_id: UUID) -> Response:
        wanted = shapes.WastePull.read(request)
        offered = levers.levers_of(queries.finding(self.workspace, finding_id))
        chosen = wanted.get("lever") or offered[0].value
        self._scope_allows(chosen)
        actions.pull(
            workspace=self.workspace, by=self.actor, finding_id=finding_id, lever=chosen, model=wanted.get("model", "")
        )
        return self.one(finding_id)

    def _scope_allows(self, lever: str) -> None:
        scope = roles.TABLE[levers.RIGHTS[levers.Lever(lever)]].scope
        if scope not in self.token.scopes:
            raise NotAllowed(f"This token lacks the scope “{scope}”.", hint="Make a token that has it.")


class UndoWaste(PullWaste):
    """Take a lever back, as far as nobody has changed meanwhile what it did."""

    needs: ClassVar = {"POST": Action.MANAGE_WASTE}

    @extend_schema(operation_id="waste_undo", request=None, responses=shapes.WasteShown)
    def post(self, request: Request, slug: str, finding_id: UUID) -> Response:
        row = queries.finding(self.workspace, finding_id)
        if row.lever:
            self._scope_allows(row.lever)
        actions.undo(workspace=self.workspace, by=self.actor, finding_id=finding_id)
        return self.one(finding_id)


class _SummaryView(WorkspaceAPIView):
    def summed(self, *, status: int = 200) -> Response:
        found, look = queries.summary(self.workspace), queries.look(self.workspace)
        return Response(shapes.summary_shown(self.workspace, found, look), status=status)


class WasteSummary(_SummaryView):
    """All of it in one look; PATCH switches call fingerprints off or on for the workspace."""

    needs: ClassVar = {"GET": Action.SEE_SPEND, "PATCH": Action.MANAGE_WASTE}

    @extend_schema(operation_id="waste_summary", responses=shapes.WasteSummaryShown)
    def get(self, request: Request, slug: str) -> Response:
        return self.summed()

    @extend_schema(operation_id="waste_settings", request=shapes.WasteSettings, responses=shapes.WasteSummaryShown)
    def patch(self, request: Request, slug: str) -> Response:
        wanted = shapes.WasteSettings.read(request, partial=True)
        if "fingerprints" in wanted:
            actions.set_fingerprints(workspace=self.workspace, by=self.actor, on=wanted["fingerprints"])
        return self.summed()


class LookForWaste(_SummaryView):
    """Have the last days read again now instead of tomorrow."""

    needs: ClassVar = {"POST": Action.MANAGE_WASTE}

    @extend_schema(operation_id="waste_look", request=None, responses={202: shapes.WasteSummaryShown})
    def post(self, request: Request, slug: str) -> Response:
        actions.ask_for_look(workspace=self.workspace, by=self.actor)
        return self.summed(status=202)
