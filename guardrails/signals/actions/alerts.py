"""The inbox: alerts archived, one or all, and taken back."""

from __future__ import annotations

from uuid import UUID

from django.utils import timezone

from guardrails.signals import queries
from guardrails.signals.models import Notice
from workspaces import audit
from workspaces.actions.base import changing, identity
from workspaces.audit import Actor
from workspaces.errors import NotThere
from workspaces.models import Workspace


def archive(*, workspace: Workspace, by: Actor, notice_id: UUID | str, back: bool = False) -> Notice:
    """Out of the inbox, or `back` into it. Doing it twice is doing it once."""
    with changing(workspace):
        row = Notice.objects.select_for_update().filter(workspace_id=workspace.pk, pk=identity(notice_id)).first()
        if row is None:
            raise NotThere("There is no such alert in this workspace.")
        if (row.archived_at is None) == back:
            return row
        row.archived_at, row.archived_by = (None, "") if back else (timezone.now(), by.name[:254])
        row.save(update_fields=["archived_at", "archived_by"])
        audit.record(
            workspace=workspace,
            by=by,
            action="alert.restore" if back else "alert.archive",
            target=f"{row.pk} {row.title}"[:160],
        )
    return row


def archive_all(*, workspace: Workspace, by: Actor, up_to: UUID | str) -> int:
    """Everything in the inbox up to the newest that the person saw."""
    with changing(workspace):
        rows = queries.notices(workspace).filter(id__lte=identity(up_to))
        count = rows.update(archived_at=timezone.now(), archived_by=by.name[:254])
        if count:
            audit.record(workspace=workspace, by=by, action="alert.archive_all", after={"alerts": count})
    return count
