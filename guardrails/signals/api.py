"""The REST API of signals: alerts, one's own preferences, the Monthly Spend Alert, webhooks and Slack. Thin translations around the actions."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from billing import outlook
from billing.domain.money import usd_text
from guardrails.signals import actions, audience, queries, tasks
from guardrails.signals import api_shapes as shapes
from guardrails.signals.models import Severity
from guardrails.signals.outlooks import line as line_of
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action

_STATES = {"open": False, "archived": True, "all": None}


# --- Alerts -----------------------------------------------------------------------------------------------------------
class Alerts(WorkspaceAPIView):
    """What happened that somebody should know, newest first. Each thing is told once."""

    needs: ClassVar = {"GET": Action.SEE_BUDGETS}

    @extend_schema(
        operation_id="alerts_list",
        parameters=[
            OpenApiParameter("state", OpenApiTypes.STR, enum=list(_STATES), description="open unless said otherwise"),
            OpenApiParameter("kind", OpenApiTypes.STR),
            OpenApiParameter("severity", OpenApiTypes.STR, enum=Severity.values),
            OpenApiParameter("budget_id", OpenApiTypes.UUID),
        ],
        responses=listed(shapes.AlertShown),
    )
    def get(self, request: Request, slug: str) -> Response:
        asked = request.query_params
        state, severity = asked.get("state", "open"), asked.get("severity", "")
        if state not in _STATES:
            raise ValidationError({"state": [f"Choose among: {', '.join(_STATES)}."]})
        if severity and severity not in Severity.values:
            raise ValidationError({"severity": [f"Choose among: {', '.join(Severity.values)}."]})
        try:
            budget_id = UUID(asked["budget_id"]) if "budget_id" in asked else None
        except ValueError:
            raise ValidationError({"budget_id": ["Write the id of a budget."]}) from None
        kind = asked.get("kind", "")[:16].replace("\x00", "")
        rows = queries.notices(
            self.workspace, archived=_STATES[state], kind=kind, severity=severity, budget_id=budget_id
        )
        return paged(request, rows, lambda row: shapes.alert_shown(self.workspace, row))


class OneAlert(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_BUDGETS}

    @extend_schema(operation_id="alerts_show", responses=shapes.AlertShown)
    def get(self, request: Request, slug: str, notice_id: UUID) -> Response:
        return Response(shapes.alert_shown(self.workspace, queries.notice(self.workspace, notice_id)))


class _Archive(WorkspaceAPIView):
    needs: ClassVar = {"POST": Action.MANAGE_ALERTS}
    back: ClassVar[bool]

    @extend_schema(request=None, responses=shapes.AlertShown)
    def post(self, request: Request, slug: str, notice_id: UUID) -> Response:
        row = actions.archive(workspace=self.workspace, by=self.actor, notice_id=notice_id, back=self.back)
        return Response(shapes.alert_shown(self.workspace, row))


class ArchiveAlert(_Archive):
    """Out of the inbox."""

    back: ClassVar = False


class RestoreAlert(_Archive):
    """Into the inbox again."""

    back: ClassVar = True


class ArchiveAlerts(WorkspaceAPIView):
    """The whole inbox, up to and with one alert: what came after it was not seen yet and stays."""

    needs: ClassVar = {"POST": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="alerts_archive_all", request=shapes.ArchiveWanted, responses=shapes.Archived)
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.ArchiveWanted.read(request)
        return Response({"archived": actions.archive_all(workspace=self.workspace, by=self.actor, **wanted)})


class Preferences(WorkspaceAPIView):
    """What the token's holder hears by mail."""

    needs: ClassVar = {"GET": Action.SEE_BUDGETS, "PATCH": Action.SEE_BUDGETS}

    @extend_schema(operation_id="alert_preferences_show", responses=shapes.PreferenceShown)
    def get(self, request: Request, slug: str) -> Response:
        return Response(shapes.preference_shown(audience.preference_of(self.workspace, self.membership)))

    @extend_schema(
        operation_id="alert_preferences_change", request=shapes.PreferenceChange, responses=shapes.PreferenceShown
    )
    def patch(self, request: Request, slug: str) -> Response:
        changes = shapes.PreferenceChange.read(request, partial=True)
        row = actions.set_preference(workspace=self.workspace, membership=self.membership, by=self.actor, **changes)
        return Response(shapes.preference_shown(row))


class SpendAlert(WorkspaceAPIView):
    """The Monthly Spend Alert: where the month is heading, and the line it is told about."""

    needs: ClassVar = {"GET": Action.SEE_SPEND, "PUT": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="spend_alert_show", responses=shapes.SpendAlertShown)
    def get(self, request: Request, slug: str) -> Response:
        return Response(self._shown())

    @extend_schema(operation_id="spend_alert_set", request=shapes.SpendAlertChange, responses=shapes.SpendAlertShown)
    def put(self, request: Request, slug: str) -> Response:
        wanted = shapes.SpendAlertChange.read(request)
        actions.set_spend_line(workspace=self.workspace, by=self.actor, line_usd=wanted["line"])
        return Response(self._shown())

    def _shown(self) -> dict[str, Any]:
        seen = outlook.of_month(self.workspace, timezone.now())
        line_nano, whose, _ = line_of(self.workspace, seen)
        crosses_on = seen.crossing(line_nano).expected if line_nano else None
        return {
            "line": usd_text(line_nano) if line_nano else None, "line_of": whose, "spent": usd_text(seen.spent_nano),
            "expected": usd_text(seen.expected_nano), "low": usd_text(seen.low_nano), "high": usd_text(seen.high_nano),
            "maturity": seen.maturity.value, "history_days": seen.history_days,
            "crosses_on": crosses_on.isoformat() if crosses_on else None,
        }  # fmt: skip


# --- Webhooks and Slack -----------------------------------------------------------------------------------------------
class Webhooks(WorkspaceAPIView):
    """Where alerts are posted: webhooks (signed as Standard Webhooks says) and Slack's incoming webhooks."""

    needs: ClassVar = {"GET": Action.MANAGE_ALERTS, "POST": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="webhooks_list", responses=listed(shapes.WebhookShown))
    def get(self, request: Request, slug: str) -> Response:
        return paged(request, queries.endpoints(self.workspace), shapes.webhook_shown)

    @extend_schema(operation_id="webhooks_create", request=shapes.WebhookWanted, responses={201: shapes.WebhookMade})
    def post(self, request: Request, slug: str) -> Response:
        wanted = shapes.WebhookWanted.read(request)
        made = actions.create_endpoint(workspace=self.workspace, by=self.actor, **wanted)
        return Response(shapes.webhook_shown(made.row) | {"signing_secret": made.text}, status=201)


class OneWebhook(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.MANAGE_ALERTS, "PATCH": Action.MANAGE_ALERTS, "DELETE": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="webhooks_show", responses=shapes.WebhookShown)
    def get(self, request: Request, slug: str, endpoint_id: UUID) -> Response:
        return Response(shapes.webhook_shown(queries.endpoint(self.workspace, endpoint_id)))

    @extend_schema(operation_id="webhooks_change", request=shapes.WebhookChange, responses=shapes.WebhookShown)
    def patch(self, request: Request, slug: str, endpoint_id: UUID) -> Response:
        changes = shapes.WebhookChange.read(request, partial=True)
        row = actions.update_endpoint(workspace=self.workspace, by=self.actor, endpoint_id=endpoint_id, **changes)
        return Response(shapes.webhook_shown(row))

    @extend_schema(operation_id="webhooks_delete", responses={204: None})
    def delete(self, request: Request, slug: str, endpoint_id: UUID) -> Response:
        actions.delete_endpoint(workspace=self.workspace, by=self.actor, endpoint_id=endpoint_id)
        return Response(status=204)


class TestWebhook(WorkspaceAPIView):
    """Send a notice that says it is a test; the delivery log shows what came back."""

    needs: ClassVar = {"POST": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="webhooks_test", request=None, responses={202: shapes.DeliveryShown})
    def post(self, request: Request, slug: str, endpoint_id: UUID) -> Response:
        row = actions.test_endpoint(workspace=self.workspace, by=self.actor, endpoint_id=endpoint_id)
        tasks.wake(tasks.post)
        return Response(shapes.delivery_shown(row), status=202)


class RotateWebhookSecret(WorkspaceAPIView):
    """Another signing secret, in force at once."""

    needs: ClassVar = {"POST": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="webhooks_rotate_secret", request=None, responses=shapes.WebhookMade)
    def post(self, request: Request, slug: str, endpoint_id: UUID) -> Response:
        made = actions.rotate_secret(workspace=self.workspace, by=self.actor, endpoint_id=endpoint_id)
        return Response(shapes.webhook_shown(made.row) | {"signing_secret": made.text})


class Deliveries(WorkspaceAPIView):
    """The delivery log of a webhook, newest first."""

    needs: ClassVar = {"GET": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="webhooks_deliveries", responses=listed(shapes.DeliveryShown))
    def get(self, request: Request, slug: str, endpoint_id: UUID) -> Response:
        endpoint = queries.endpoint(self.workspace, endpoint_id)
        return paged(request, queries.deliveries(self.workspace, endpoint), shapes.delivery_shown)


class ReplayDelivery(WorkspaceAPIView):
    """Send it once more, as a delivery of its own."""

    needs: ClassVar = {"POST": Action.MANAGE_ALERTS}

    @extend_schema(operation_id="webhooks_replay", request=None, responses={202: shapes.DeliveryShown})
    def post(self, request: Request, slug: str, endpoint_id: UUID, delivery_id: int) -> Response:
        row = actions.replay(workspace=self.workspace, by=self.actor, endpoint_id=endpoint_id, delivery_id=delivery_id)
        tasks.wake(tasks.post)
        return Response(shapes.delivery_shown(row), status=202)
