"""The ledger, read out whole in order: pages by key, so that an export of any size holds one page in memory and no transaction for long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q

from billing.domain import focus
from billing.domain.dimensions import Dimension
from billing.domain.money import usd_text
from billing.ledger import queries
from billing.ledger.kept import together
from billing.ledger.queries import Days
from billing.ledger.rollups import zone
from billing.models import Entry
from workspaces import tenancy
from workspaces.models import VirtualKey, Workspace

PAGE = 1_000
MOST_DAYS = 400
COLUMNS = (
    "attempt_id", "leg", "call_id", "attempt", "at", "ended_at", "state", "basis", "price_status", "cost_usd", "held_usd", "provider", "model",
    "model_requested", "model_served", "endpoint", "streamed", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "http_status", "error", "first_byte_ms", "duration_ms", "virtual_key", "member", "agent", "department", "customer", "feature", "user",
    "session", "environment", "tags", "flags", "price_version",
)  # fmt: skip

Place = tuple[datetime, Any, int]
"""Where a page ended: (at, rid, leg)."""


def page(workspace: Workspace, days: Days, after: Place | None, size: int = PAGE) -> list[Entry]:
    """The next lines in the order of the ledger; enters the workspace itself, for threads that run between other people's requests."""
    with tenancy.entered(workspace):
        first, end = queries.moments(workspace, days)
        first = max(first, queries.shown_since(workspace) or first)
        rows = Entry.objects.filter(workspace_id=workspace.pk, at__gte=first, at__lt=end)
        if after is not None:
            at, rid, leg = after
            rows = rows.filter(Q(at__gt=at) | Q(at=at, rid__gt=rid) | Q(at=at, rid=rid, leg__gt=leg), at__gte=at)
        return together(rows.order_by("at", "rid", "leg")[:size])


def place(entry: Entry) -> Place:
    return entry.at, entry.rid, entry.leg


def plain(entry: Entry) -> dict[str, Any]:
    """A ledger line as flat values, by `COLUMNS`."""
    given = {name: getattr(entry, name) for name in COLUMNS if hasattr(entry, name)}
    return {
        **given,
        "attempt_id": str(entry.rid),
        "call_id": "" if entry.call_id is None else str(entry.call_id),
        "at": entry.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "ended_at": entry.ended_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "cost_usd": usd_text(entry.cost_nano),
        "held_usd": usd_text(entry.hold_nano),
    }


def month_around(workspace: Workspace, at: datetime) -> tuple[datetime, datetime]:
    """First moment of the workspace's month that a moment is in, and of the next one."""
    clock = zone(workspace.time_zone)
    first = at.astimezone(clock).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return first.astimezone(UTC), following.astimezone(UTC)


class Focus:
    """Ledger lines as FOCUS rows of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        with tenancy.entered(workspace):
            keys = VirtualKey.objects.filter(workspace=workspace).values_list("id", "name")
            self._names = {str(key): name for key, name in keys}

    def rows(self, entry: Entry) -> Iterator[dict[str, str]]:
        dimensions = {one.value: getattr(entry, one.value) for one in Dimension}
        return focus.rows(
            focus.Line(
                attempt_id=str(entry.rid),
                call_id="" if entry.call_id is None else str(entry.call_id),
                leg=entry.leg,
                at=entry.at.astimezone(UTC),
                ended_at=entry.ended_at.astimezone(UTC),
                month=month_around(self._workspace, entry.at),
                provider=entry.provider or "unknown",
                model=entry.model or "unknown",
                endpoint=entry.endpoint or "unknown",
                basis=entry.basis,
                price_status=entry.price_status,
                cost_nano=entry.cost_nano,
                breakdown=[] if entry.leg else entry.unpacked().get("breakdown", []),
                tags={name: value for name, value in {**entry.tags, **dimensions}.items() if value},
                key=entry.virtual_key,
                key_name=self._names.get(entry.virtual_key, ""),
                workspace=self._workspace.slug,
                workspace_name=self._workspace.name,
            )
        )
