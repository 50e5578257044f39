"""Retention: single lines of the ledger leave when a workspace keeps its calls for so many days only. Their sums stay, and the books still add up.

What leaves is added to `billing_forgotten` in the same transaction, so that reconciliation compares the ledger as it was with every total. The
database itself refuses to delete any other line (trigger `insert_only`). Only workspaces that have set a retention are looked at.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import BooleanField, F
from django.db.models.expressions import RawSQL

from billing.ledger.kept import Charged
from billing.ledger.rollups import zone
from workspaces import audit, tenancy
from workspaces.models import Workspace, WorkspaceState

log = logging.getLogger(__name__)

GRACE: Final = timedelta(days=1)
"""A retention begins to delete this long after it was set: until then it can be taken back."""
AT_ONCE: Final = 200
"""Workspaces in one run."""
MOST_DAYS: Final = 45
"""Days with calls of one workspace in one run, a transaction each; the next run goes on."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    lines: int = 0
    until: date | None = None
    """The first day whose lines are all there; None: nothing to do."""


def forget_due(now: datetime) -> int:
    """Forget for the workspaces that are due; answers how many lines left."""
    rows = Workspace.objects.filter(calls_shown_days__isnull=False, calls_shown_set_at__lt=now - GRACE)
    rows = rows.exclude(state=WorkspaceState.DELETING)
    behind = RawSQL(
        "coalesce(calls_forgotten_on, 'epoch'::date) < %s::date - calls_shown_days",
        [now.date()],
        output_field=BooleanField(),
    )
    gone = 0
    for workspace in rows.filter(behind).order_by(F("calls_forgotten_on").asc(nulls_first=True))[:AT_ONCE]:
        try:
            gone += forget(workspace, now).lines
        except Exception:  # one workspace that fails must not keep the others' lines; it is due again
            log.exception("old calls of workspace %d are not deleted", workspace.pk)
    return gone


def first_kept(workspace: Workspace, now: datetime) -> date | None:
    """The first day (of the workspace's calendar) whose lines stay: so many whole days back, and never of the running month, by whose lines
    budgets are checked. None: all stay."""
    if workspace.calls_shown_days is None:
        return None
    today = now.astimezone(zone(workspace.time_zone)).date()
    return min(today - timedelta(days=workspace.calls_shown_days), today.replace(day=1))


def forget(workspace: Workspace, now: datetime, *, most_days: int = MOST_DAYS) -> Forgotten:
    """Delete the lines of the days before `first_kept`, oldest first."""
    until = first_kept(workspace, now)
    if until is None or (workspace.calls_forgotten_on or date.min) >= until:
        return Forgotten()
    clock, lines = zone(workspace.time_zone), 0
    end = datetime.combine(until, time(), clock).astimezone(UTC)
    for _ in range(most_days):
        with transaction.atomic(), tenancy.entered(workspace), connection.cursor() as cursor:
            cursor.execute("SELECT min(at) FROM billing_entry WHERE workspace_id = %s AND at < %s", [workspace.pk, end])
            (oldest,) = cursor.fetchone()
            if oldest is None:
                _done(workspace, until, lines, cursor)
                return Forgotten(lines, until)
            following = oldest.astimezone(clock).date() + timedelta(days=1)
            stop = min(end, datetime.combine(following, time(), clock).astimezone(UTC))
            lines += _forget(cursor, workspace.pk, oldest, stop)
    with transaction.atomic(), tenancy.entered(workspace):
        _noted(workspace, lines, until)
    return Forgotten(lines)


def _done(workspace: Workspace, until: date, lines: int, cursor: Any) -> None:
    Workspace.objects.filter(pk=workspace.pk).update(calls_forgotten_on=until)
    workspace.calls_forgotten_on = until
    # Of counters whose totals left as well (`retention`) nothing is compared any more.
    cursor.execute(
        "DELETE FROM billing_forgotten f WHERE f.workspace_id = %s AND f.what LIKE 'b:%%' "
        "AND NOT EXISTS (SELECT 1 FROM billing_budget_total t WHERE t.workspace_id = f.workspace_id AND t.counter = f.what)",
        [workspace.pk],
    )
    if lines:
        _noted(workspace, lines, until)


def _noted(workspace: Workspace, lines: int, until: date) -> None:
    audit.record(
        workspace=workspace, by=audit.SYSTEM, action="calls.forget", target=f"{lines:,} {'line' if lines == 1 else 'lines'} of calls before {until}",
        after={"lines": lines, "before": str(until), "kept_days": workspace.calls_shown_days},
    )  # fmt: skip


def _forget(cursor: Any, workspace_id: int, oldest: datetime, stop: datetime) -> int:
    """Delete the lines of a time, and keep what they added up to: "cost_nano", "assumed_nano", counts of lines, and each counter's charges."""
    sums: Counter[str] = Counter()
    charged = Charged(cursor, workspace_id)
    gone = 0
    while True:
        cursor.execute(_FORGET, {"workspace": workspace_id, "oldest": oldest, "stop": stop, "most": LINES_AT_ONCE})
        rows = cursor.fetchall()
        gone += len(rows)
        for leg, state, basis, hold_nano, cost_nano, *_ in rows:
            sums["cost_nano"] += cost_nano
            sums["assumed_nano"] += -hold_nano if leg == 1 else cost_nano if basis == "assumed" else 0
            sums["corrections" if leg else "voids" if state == "void" else "entries"] += 1
        charged.add([row[4:] for row in rows])
        if len(rows) < LINES_AT_ONCE:
            break
    sums.update(charged.sums)
    kept = [(what, amount) for what, amount in sorted(sums.items()) if amount]
    cursor.execute(
        "INSERT INTO billing_forgotten AS known (workspace_id, what, amount) SELECT %s, * FROM unnest(%s::text[], %s::numeric[]) "
        "ON CONFLICT (workspace_id, what) DO UPDATE SET amount = known.amount + excluded.amount",
        [workspace_id, [what for what, _ in kept], [amount for _, amount in kept]],
    )
    return gone


LINES_AT_ONCE: Final = 20_000
_FORGET: Final = f"""
DELETE FROM billing_entry WHERE workspace_id = %(workspace)s AND at >= %(oldest)s AND at < %(stop)s AND (at, rid, leg) IN (
    SELECT at, rid, leg FROM billing_entry WHERE workspace_id = %(workspace)s AND at >= %(oldest)s AND at < %(stop)s
    ORDER BY at, rid, leg LIMIT %(most)s
)
RETURNING leg, state, basis, hold_nano, {Charged.COLUMNS}
"""  # noqa: S608 - names of ours
