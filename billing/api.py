"""The REST API of the books: usage from rollups, calls from the ledger. Thin translations around `billing.ledger.queries`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing import api_shapes as shapes
from billing.domain.dimensions import MAX_VALUE_CHARS, Dimension
from billing.ledger import queries
from billing.ledger.queries import TAG, CannotAnswer, Days, Granularity, LoggedCall
from workspaces.errors import NotThere
from workspaces.models import Workspace
from workspaces.rest import WorkspaceAPIView, listed
from workspaces.roles import Action

MOST_GROUPS = 1000
MOST_CALLS = 200


def _parameter(name: str, text: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, options.pop("type", OpenApiTypes.STR), description=text, **options)


RANGE = [
    _parameter(
        "from", "First day, of the workspace's calendar. Default: the first of this month.", type=OpenApiTypes.DATE
    ),
    _parameter("to", "Last day, included. Default: today.", type=OpenApiTypes.DATE),
]
_FILTERS = [
    *(_parameter(dimension.value, f"Only calls whose {dimension.value} is this.") for dimension in Dimension),
    _parameter("tag:<key>", "Only calls with this tag, e.g. `tag:team=search`."),
]


class Usage(WorkspaceAPIView):
    """Spend, calls and tokens over a range of days, grouped and over time as asked."""

    needs: ClassVar = {"GET": Action.SEE_SPEND}
    narrows = True

    @extend_schema(
        operation_id="usage",
        parameters=[
            *RANGE,
            _parameter(
                "group_by", "One or two dimensions, separated by a comma: `customer`, `model,feature`, `tag:team`."
            ),
            _parameter(
                "granularity", "Over time; with at most one dimension.", enum=[one.value for one in Granularity]
            ),
            _parameter("limit", f"Groups at most, dearest first: 1 to {MOST_GROUPS} (100).", type=OpenApiTypes.INT),
            *_FILTERS,
        ],
        responses=shapes.UsageAnswer,
    )
    def get(self, request: Request, slug: str) -> Response:
        asked = asked_in(request, "from", "to", "group_by", "granularity", "limit")
        days = days_of(asked, self.workspace)
        filters = _filters(asked)
        dimensions = [name.strip() for name in asked.get("group_by", "").split(",") if name.strip()]
        limit = _whole(asked, "limit", 100, MOST_GROUPS)
        if "granularity" in asked:
            results = _over_time(self.workspace, days, _granularity(asked), dimensions, filters, limit)
        else:
            found = queries.grouped(self.workspace, days, dimensions, filters=filters, limit=limit)
            results = [shapes.usage_row(dimensions, row.values, row.totals) for row in found]
        return Response(
            {
                "from": days.first.isoformat(),
                "to": days.last.isoformat(),
                "time_zone": self.workspace.time_zone,
                "totals": shapes.usage_row((), (), queries.totals(self.workspace, days, filters)),
                "results": results,
                "next": None,
            }
        )


def _over_time(
    workspace: Workspace,
    days: Days,
    granularity: Granularity,
    dimensions: list[str],
    filters: queries.Filters,
    limit: int,
) -> list[dict[str, Any]]:
    if len(dimensions) > 1:
        raise CannotAnswer("over time, group by at most one dimension", field="group_by")
    values = None
    if dimensions:
        values = [row.value for row in queries.by_value(workspace, days, dimensions[0], filters=filters, limit=limit)]
    points = queries.series(
        workspace, days, granularity, dimension=dimensions[0] if dimensions else "", filters=filters, values=values
    )
    return [
        shapes.usage_row(dimensions, (point.value,) if dimensions else (), point.totals, start=point.start)
        for point in points
    ]


class Calls(WorkspaceAPIView):
    """The call log, newest first: one row an attempt."""

    needs: ClassVar = {"GET": Action.SEE_CALLS}
    narrows = True

    @extend_schema(
        operation_id="calls_list",
        parameters=[
            *RANGE,
            _parameter("failed", "true: only failed ones; false: only the others.", type=OpenApiTypes.BOOL),
            _parameter("limit", f"1 to {MOST_CALLS} (50).", type=OpenApiTypes.INT),
            _parameter("cursor", "From the `next` of the page before."),
            *_FILTERS,
        ],
        responses=listed(shapes.CallShown),
    )
    def get(self, request: Request, slug: str) -> Response:
        asked = asked_in(request, "from", "to", "failed", "limit", "cursor")
        limit = _whole(asked, "limit", 50, MOST_CALLS)
        days = days_of(asked, self.workspace) if "from" in asked or "to" in asked else None
        found = queries.recent_calls(
            self.workspace,
            limit=limit + 1,
            after=_cursor(asked),
            filters=_filters(asked),
            failed=_flag(asked, "failed"),
            days=days,
        )
        following = None
        if len(found) > limit:
            query = urlencode({**asked, "cursor": found[limit - 1].cursor})
            following = f"{settings.PUBLIC_URL}{request.path}?{query}"
        return Response({"results": [shapes.call_row(call) for call in found[:limit]], "next": following})


class OneCall(WorkspaceAPIView):
    """One call with all its attempts, and how each cent was computed."""

    needs: ClassVar = {"GET": Action.SEE_CALLS}
    narrows = True

    @extend_schema(operation_id="calls_show", responses=shapes.CallWithAttempts)
    def get(self, request: Request, slug: str, call_id: UUID) -> Response:
        attempts: list[LoggedCall] = queries.attempts_of(self.workspace, call_id)
        if not attempts:
            raise NotThere("There is no such call.")
        return Response({"call_id": str(call_id), "attempts": [shapes.call_in_full(attempt) for attempt in attempts]})


# --- Reading the question ---------------------------------------------------------------------------------------------
_NAMES = frozenset(dimension.value for dimension in Dimension)


def asked_in(request: Request, *known: str, filters: bool = True) -> dict[str, str]:
    """The query's parameters, dimensions among them where they filter; a misspelt one is told, because an ignored filter answers another question."""
    asked: dict[str, str] = {}
    for name, values in request.query_params.lists():
        if name not in known and not (filters and (name in _NAMES or name.startswith(TAG))):
            raise CannotAnswer(f"There is no parameter {name[:40]!r}.", field=name[:40])
        if len(values) > 1:
            raise CannotAnswer("Give each parameter once.", field=name)
        if "\x00" in values[0]:
            raise CannotAnswer("NUL is in no value.", field=name)
        asked[name] = values[0]
    return asked


def _filters(asked: Mapping[str, str]) -> dict[str, str]:
    filters = {name: value for name, value in asked.items() if name in _NAMES or name.startswith(TAG)}
    for name, value in filters.items():
        queries.check_dimension(name)
        if not 0 < len(value) <= MAX_VALUE_CHARS:
            raise CannotAnswer(f"A value has 1 to {MAX_VALUE_CHARS} characters.", field=name)
    return filters


def days_of(asked: Mapping[str, str], workspace: Workspace) -> Days:
    month = queries.month_to_date(workspace, datetime.now(UTC))
    last = _date(asked, "to") or month.last
    return Days(_date(asked, "from") or min(month.first, last), last)


def _date(asked: Mapping[str, str], name: str) -> date | None:
    if name not in asked:
        return None
    try:
        text = asked[name]
        if len(text) != 10:
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise CannotAnswer("Write a day like 2026-11-21.", field=name) from None


def _granularity(asked: Mapping[str, str]) -> Granularity:
    try:
        return Granularity(asked["granularity"])
    except ValueError:
        raise CannotAnswer(f"Use one of {', '.join(Granularity)}.", field="granularity") from None


def _whole(asked: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise CannotAnswer(f"Write a whole number from 1 to {most}.", field=name)
    return int(text)


def _flag(asked: Mapping[str, str], name: str) -> bool | None:
    if name not in asked:
        return None
    if asked[name] not in ("true", "false"):
        raise CannotAnswer("Write true or false.", field=name)
    return asked[name] == "true"


def _cursor(asked: Mapping[str, str]) -> UUID | None:
    if "cursor" not in asked:
        return None
    try:
        return UUID(asked["cursor"])
    except ValueError:
        raise CannotAnswer("Use the cursor of an earlier answer.", field="cursor") from None
