"""The REST API of anomalies: incidents, feedback, levers, settings. Thin translations around the actions."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from guardrails.anomalies import actions, queries, reading
from guardrails.anomalies import api_shapes as shapes
from guardrails.domain.anomalies.kinds import Kind
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action

_KINDS = [kind.value for kind in Kind]


class Anomalies(WorkspaceAPIView):
    """What left its habit, one incident a cause, newest first."""

    needs: ClassVar = {"GET": Action.SEE_ANOMALIES}

    @extend_schema(
        operation_id="anomalies_list",
        parameters=[
            OpenApiParameter("state", OpenApiTypes.STR, enum=list(queries.STATES), description="all unless said otherwise"),
            OpenApiParameter("kind", OpenApiTypes.STR, enum=_KINDS),
        ],
        responses=listed(shapes.AnomalyShown),
    )  # fmt: skip
    def get(self, request: Request, slug: str) -> Response:
        state, kind = request.query_params.get("state", "all"), request.query_params.get("kind", "")
        if state not in queries.STATES:
            raise ValidationError({"state": [f"Choose among: {', '.join(queries.STATES)}."]})
        if kind and kind not in _KINDS:
            raise ValidationError({"kind": [f"Choose among: {', '.join(_KINDS)}."]})
        rows = queries.incidents(self.workspace, state=state, kind=kind)
        return paged(request, rows, lambda row: shapes.anomaly_shown(self.workspace, row))


class OneAnomaly(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_ANOMALIES}

    @extend_schema(operation_id="anomalies_show", responses=shapes.AnomalyShown)
    def get(self, request: Request, slug: str, incident_id: UUID) -> Response:
        return Response(shapes.anomaly_shown(self.workspace, queries.incident(self.workspace, incident_id)))


class GiveFeedback(WorkspaceAPIView):
    """Say that it was expected, and the next one like it is held against it; or that it was none; or take that back."""

    needs: ClassVar = {"POST": Action.MANAGE_ANOMALIES}

    @extend_schema(operation_id="anomalies_feedback", request=shapes.FeedbackGiven, responses=shapes.AnomalyShown)
    def post(self, request: Request, slug: str, incident_id: UUID) -> Response:
        given = shapes.FeedbackGiven.read(request)
        row = actions.give_feedback(workspace=self.workspace, by=self.actor, incident_id=incident_id, **given)
        return Response(shapes.anomaly_shown(self.workspace, row))


class PauseKey(WorkspaceAPIView):
    """Pause the virtual key behind it: its next call is refused."""

    needs: ClassVar = {"POST": Action.MANAGE_KEYS}

    @extend_schema(operation_id="anomalies_pause_key", request=None, responses=shapes.AnomalyShown)
    def post(self, request: Request, slug: str, incident_id: UUID) -> Response:
        row = actions.pause_key(workspace=self.workspace, by=self.actor, incident_id=incident_id)
        return Response(shapes.anomaly_shown(self.workspace, row))


class Throttle(WorkspaceAPIView):
    """Let only so many of the driver's calls a minute through, for a while."""

    needs: ClassVar = {"POST": Action.MANAGE_LIMITS}

    @extend_schema(operation_id="anomalies_throttle", request=shapes.ThrottleWanted, responses=shapes.AnomalyShown)
    def post(self, request: Request, slug: str, incident_id: UUID) -> Response:
        wanted = shapes.ThrottleWanted.read(request)
        row = actions.throttle(workspace=self.workspace, by=self.actor, incident_id=incident_id, **wanted)
        return Response(shapes.anomaly_shown(self.workspace, row))


class LiftLimit(WorkspaceAPIView):
    """Take the limit away that slows it down."""

    needs: ClassVar = {"POST": Action.MANAGE_LIMITS}

    @extend_schema(operation_id="anomalies_lift_limit", request=None, responses=shapes.AnomalyShown)
    def post(self, request: Request, slug: str, incident_id: UUID) -> Response:
        row = actions.lift_limit(workspace=self.workspace, by=self.actor, incident_id=incident_id)
        return Response(shapes.anomaly_shown(self.workspace, row))


class Settings(WorkspaceAPIView):
    """From how many dollars on, how strictly, and what is done by itself."""

    needs: ClassVar = {"GET": Action.SEE_ANOMALIES, "PATCH": Action.MANAGE_ANOMALIES}

    @extend_schema(operation_id="anomaly_settings_show", responses=shapes.AnomalySettingsShown)
    def get(self, request: Request, slug: str) -> Response:
        return Response(actions.shown(reading.wishes_of(self.workspace)))

    @extend_schema(
        operation_id="anomaly_settings_change",
        request=shapes.AnomalySettingsChange,
        responses=shapes.AnomalySettingsShown,
    )
    def patch(self, request: Request, slug: str) -> Response:
        wanted = shapes.AnomalySettingsChange.read(request, partial=True)
        return Response(actions.shown(actions.set_wishes(workspace=self.workspace, by=self.actor, **wanted)))
