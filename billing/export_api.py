"""The ledger's export through the REST API: CSV, JSON lines or FOCUS, streamed page by page however long it is."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, ClassVar

import orjson
from asgiref.sync import sync_to_async
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from billing.api import RANGE, asked_in, days_of
from billing.domain import focus
from billing.ledger import export
from billing.ledger.queries import CannotAnswer, Days
from billing.models import Entry
from workspaces import audit
from workspaces.domain.names import cell
from workspaces.models import Workspace
from workspaces.rest import WorkspaceAPIView
from workspaces.roles import Action

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson", "focus": "text/csv; charset=utf-8"}
Written = Callable[[list[Entry]], bytes]


class LedgerExport(WorkspaceAPIView):
    """Every line of the ledger over a range of days, oldest first: charges, corrections and calls that cost nothing."""

    needs: ClassVar = {"GET": Action.EXPORT}

    @extend_schema(
        operation_id="ledger_export",
        parameters=[
            *RANGE,
            OpenApiParameter(
                "as",
                OpenApiTypes.STR,
                enum=list(FORMATS),
                description="csv (the default), jsonl, or focus: FOCUS 1.0 as CSV.",
            ),
        ],
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiResponse(OpenApiTypes.STR),
        },
    )
    def get(self, request: Request, slug: str) -> HttpResponseBase:
        asked = asked_in(request, "from", "to", "as", filters=False)
        kind = asked.get("as", "csv")
        if kind not in FORMATS:
            raise CannotAnswer(f"Use one of {', '.join(FORMATS)}.", field="as")
        days = days_of(asked, self.workspace)
        if (days.last - days.first).days > export.MOST_DAYS:
            raise CannotAnswer(f"Ask for at most {export.MOST_DAYS} days at once.", field="from")
        told = {"format": kind, "from": days.first.isoformat(), "to": days.last.isoformat()}
        audit.record(workspace=self.workspace, by=self.actor, action="ledger.export", after=told)
        head, written = _writer(kind, self.workspace)
        response = StreamingHttpResponse(_pages(self.workspace, days, head, written), content_type=FORMATS[kind])
        name = f"sluice-{self.workspace.slug}-{days.first}-{days.last}.{'jsonl' if kind == 'jsonl' else f'{kind}.csv'}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


async def _pages(workspace: Workspace, days: Days, head: bytes, written: Written) -> AsyncIterator[bytes]:
    """Each page is read and written in a worker thread, inside the workspace; between pages nothing is held."""

    def following(after: export.Place | None) -> tuple[bytes, export.Place | None]:
        entries = export.page(workspace, days, after)
        if not entries:
            return b"", None
        return written(entries), export.place(entries[-1]) if len(entries) == export.PAGE else None

    yield head
    after: export.Place | None = None
    while True:
        text, after = await sync_to_async(following, thread_sensitive=True)(after)
        yield text
        if after is None:
            return


def _writer(kind: str, workspace: Workspace) -> tuple[bytes, Written]:
    if kind == "jsonl":
        return b"", lambda entries: b"".join(
            orjson.dumps(export.plain(entry), option=orjson.OPT_APPEND_NEWLINE) for entry in entries
        )
    if kind == "focus":
        rows = export.Focus(workspace).rows
        return _csv(focus.COLUMNS, [focus.COLUMNS]), lambda entries: _csv(
            focus.COLUMNS, (row.values() for entry in entries for row in rows(entry))
        )
    return _csv(export.COLUMNS, [export.COLUMNS]), lambda entries: _csv(
        export.COLUMNS, ([export.plain(entry)[name] for name in export.COLUMNS] for entry in entries)
    )


def _csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Lines of CSV. Texts are inert, numbers as they are: a negative correction is no formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    if isinstance(value, str) and not _is_number(value):
        return cell(value)
    return value


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-").replace(".", "", 1)
    return digits.isascii() and digits.isdigit()
