"""The audit log taken along whole, for the page and the API: oldest first, a page at a time, however long it is. Taking it is on the record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import orjson
from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from workspaces import audit, audit_search, tenancy
from workspaces.audit import Actor
from workspaces.audit_search import Asked
from workspaces.domain.names import cell
from workspaces.models import AuditRecord, Workspace

PAGE: Final = 1000
FORMATS: Final = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def answer(workspace: Workspace, by: Actor, asked: Asked, kind: str) -> StreamingHttpResponse:
    """The records that match, up to the one of this export, as a file of `kind` (a name of FORMATS)."""
    made = audit.record(workspace=workspace, by=by, action="audit.export", after={"format": kind, **asked.told()})
    head, written = (b"", _lines) if kind == "jsonl" else (_csv([list(audit_search.COLUMNS)]), _rows)
    response = StreamingHttpResponse(_pages(workspace, asked, made.number, head, written), content_type=FORMATS[kind])
    response["Content-Disposition"] = f'attachment; filename="sluice-{workspace.slug}-audit.{kind}"'
    return response


async def _pages(
    workspace: Workspace, asked: Asked, last: int, head: bytes, written: Callable[[list[AuditRecord]], bytes]
) -> AsyncIterator[bytes]:
    """Each page is read in a worker thread, inside the workspace; between pages nothing is held."""

    def following(after: int) -> tuple[bytes, int | None]:
        with tenancy.entered(workspace):
            rows = audit_search.matching(workspace, asked).filter(number__gt=after, number__lt=last)
            found = list(rows.order_by("number")[:PAGE])
        return written(found), found[-1].number if len(found) == PAGE else None

    yield head
    after: int | None = 0
    while after is not None:
        text, after = await sync_to_async(following, thread_sensitive=True)(after)
        yield text


def _lines(rows: list[AuditRecord]) -> bytes:
    return b"".join(orjson.dumps(audit_search.plain(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _rows(rows: list[AuditRecord]) -> bytes:
    return _csv([[_cell(value) for value in audit_search.plain(row).values()] for row in rows])


def _csv(rows: list[list[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return cell(value) if isinstance(value, str) else value
