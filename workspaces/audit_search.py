"""Which records of the audit log a question is about: one reading of it for the page, the API and the export."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q, QuerySet

from workspaces.models import AuditRecord, Workspace

LONGEST = 80


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for; "" and None ask for nothing."""

    q: str = ""
    """As it stands, in who, what and where; it is no pattern."""
    action: str = ""
    actor: str = ""
    first: date | None = None
    """Days of the workspace's calendar, both included."""
    last: date | None = None

    def told(self) -> dict[str, Any]:
        """What was asked, for the record of an export."""
        return {name: str(value) for name, value in asdict(self).items() if value}


def matching(workspace: Workspace, asked: Asked) -> QuerySet[AuditRecord]:
    """In no order yet. For use inside the workspace."""
    rows = AuditRecord.objects.filter(workspace_id=workspace.id)
    zone = ZoneInfo(workspace.time_zone)
    if "\x00" in asked.q + asked.action + asked.actor:  # PostgreSQL's texts have none, and refuse to compare with one
        return rows.none()
    if asked.action:
        rows = rows.filter(action=asked.action)
    if asked.actor:
        rows = rows.filter(actor=asked.actor)
    if asked.first:
        rows = rows.filter(at__gte=datetime.combine(asked.first, time(), zone))
    if asked.last:
        rows = rows.filter(at__lt=datetime.combine(asked.last + timedelta(days=1), time(), zone))
    if asked.q:
        q = asked.q
        rows = rows.filter(
            Q(actor__icontains=q) | Q(target__icontains=q) | Q(action__icontains=q) | Q(address__icontains=q)
        )
    return rows


def plain(row: AuditRecord) -> dict[str, Any]:
    """A record as JSON; the hash is of the chain that `manage.py verify_audit` walks."""
    return {
        "number": row.number,
        "at": row.at.isoformat(),
        "actor": row.actor,
        "address": row.address,
        "action": row.action,
        "target": row.target,
        "before": row.before,
        "after": row.after,
        "hash": bytes(row.hash).hex(),
    }


COLUMNS = ("number", "at", "actor", "address", "action", "target", "before", "after", "hash")
