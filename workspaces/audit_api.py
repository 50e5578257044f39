"""The REST API of the audit log: searched page by page, and taken along whole, streamed however long it is."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workspaces import api_shapes as shapes
from workspaces import audit_export, audit_search
from workspaces.audit_export import FORMATS
from workspaces.audit_search import Asked
from workspaces.errors import Invalid
from workspaces.rest import WorkspaceAPIView, listed, paged
from workspaces.roles import Action

_FILTERS = [
    OpenApiParameter("q", OpenApiTypes.STR, description="Found as it stands in who, what, on what or from where."),
    OpenApiParameter("action", OpenApiTypes.STR, description="Only this action, e.g. `virtual_key.create`."),
    OpenApiParameter("actor", OpenApiTypes.STR, description="Only what this one did, e.g. an e-mail address."),
    OpenApiParameter("from", OpenApiTypes.DATE, description="First day, of the workspace's calendar."),
    OpenApiParameter("to", OpenApiTypes.DATE, description="Last day, included."),
]


class AuditLog(WorkspaceAPIView):
    """Every write with who, from where, before and after; newest first. Nobody can change it."""

    needs: ClassVar = {"GET": Action.SEE_AUDIT}

    @extend_schema(operation_id="audit_list", parameters=_FILTERS, responses=listed(shapes.AuditRecordShown))
    def get(self, request: Request, slug: str) -> Response:
        rows = audit_search.matching(self.workspace, _asked(request, "limit", "cursor"))
        return paged(request, rows, lambda row: shapes.AuditRecordShown(row).data, key="number")


class AuditExport(WorkspaceAPIView):
    """The records that match, oldest first, as CSV or JSON lines. Taking the log along is itself on the record."""

    needs: ClassVar = {"GET": Action.SEE_AUDIT}

    @extend_schema(
        operation_id="audit_export",
        parameters=[
            OpenApiParameter("as", OpenApiTypes.STR, enum=list(FORMATS), description="csv (the default) or jsonl."),
            *_FILTERS,
        ],
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiResponse(OpenApiTypes.STR),
        },
    )
    def get(self, request: Request, slug: str) -> HttpResponseBase:
        asked = _asked(request, "as")
        kind = request.query_params.get("as", "csv")
        if kind not in FORMATS:
            raise Invalid(f"Use one of {', '.join(FORMATS)}.", field="as")
        return audit_export.answer(self.workspace, self.actor, asked, kind)


# --- Reading the question ---------------------------------------------------------------------------------------------
def _asked(request: Request, *others: str) -> Asked:
    """A misspelt parameter is told: an ignored filter answers another question."""
    given: dict[str, str] = {}
    for name, values in request.query_params.lists():
        if name not in ("q", "action", "actor", "from", "to", *others):
            raise Invalid(f"There is no parameter {name[:40]!r}.", field=name[:40])
        if len(values) > 1 or "\x00" in values[0] or len(values[0]) > 254:
            raise Invalid("Give it once, in at most 254 characters.", field=name)
        given[name] = values[0]
    first, last = _day(given, "from"), _day(given, "to")
    return Asked(given.get("q", "").strip(), given.get("action", ""), given.get("actor", ""), first, last)


def _day(given: dict[str, str], name: str) -> date | None:
    if name not in given:
        return None
    try:
        day = date.fromisoformat(given[name])
        if len(given[name]) != 10 or not 2000 <= day.year < 2200:
            raise ValueError(given[name])
    except ValueError:
        raise Invalid("Write a day like 2026-11-21.", field=name) from None
    return day
