"""The books against themselves: the ledger's lines against every total derived from them, as integers, in one snapshot.

What the money Redis says is compared with this by `guardrails.reconciliation`, which may read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.db import connection, transaction

from billing.ledger.kept import Charged
from billing.ledger.retention import is_kept
from workspaces import tenancy
from workspaces.models import Workspace

PAGE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Two numbers that must be equal and are not."""

    what: str
    ledger: int
    found: int

    def __str__(self) -> str:
        return f"{self.what}: the ledger says {self.ledger}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Books:
    """A workspace's books at one moment."""

    seq: int
    """The highest event number booked."""
    ledger_nano: int
    rollup_nano: int
    assumed_nano: int
    entries: int
    """Charges: leg 0, not void."""
    voids: int
    corrections: int
    settled: Mapping[str, int]
    """Counter -> amount, from the totals that a rebuild would seed."""
    held: Mapping[str, int]
    """Counter -> amount, from the open attempts."""
    open_rids: frozenset[str]
    held_nano: int
    quarantined: int
    gaps: tuple[tuple[int, int], ...]
    differences: tuple[Difference, ...]


def books(workspace: Workspace) -> Books:
    """Read and compare. Reads every line of the workspace: for the nightly check and the command, not for a page."""
    now = datetime.now(UTC)
    with _snapshot(workspace), connection.cursor() as cursor:
        gone = {what: int(amount) for what, amount in _rows(cursor, _FORGOTTEN, workspace.pk)}
        ledger, assumed, entries, voids, corrections = (
            there + gone.pop(what, 0) for what, there in zip(_LINES, _row(cursor, _LEDGER, workspace.pk), strict=True)
        )
        differences = []
        rollup = 0
        for table in _ROLLUPS:
            cost, unconfirmed, attempts = _row(cursor, _SUMS[table], workspace.pk)
            rollup = cost if table == "billing_rollup_month" else rollup
            for what, booked, found in (
                ("cost_nano", ledger, cost),
                ("assumed_nano", assumed, unconfirmed),
                ("attempts", entries + voids, attempts),
            ):
                if booked != found:
                    differences.append(Difference(f"{table}.{what}", booked, found))
        differences += [
            Difference(f"days of {dimension} and their packs, cost_nano", by_month, by_day)
            for dimension, by_month, by_day in _rows(cursor, _VALUES, *[workspace.pk] * 4)
            if by_month != by_day
        ]
        charged = _charged(cursor, workspace.pk)
        for counter, amount in gone.items():
            charged[counter] = charged.get(counter, 0) + amount
        settled = dict(
            _rows(cursor, "SELECT counter, settled FROM billing_budget_total WHERE workspace_id = %s", workspace.pk)
        )
        differences += [
            Difference(f"billing_budget_total {counter}", charged.get(counter, 0), settled.get(counter, 0))
            for counter in sorted(charged.keys() | settled.keys())
            if charged.get(counter, 0) != settled.get(counter, 0) and is_kept(counter, now)
        ]
        held: dict[str, int] = {}
        open_rids = {}
        for rid, hold_nano, counters in _rows(
            cursor, "SELECT rid, hold_nano, counters FROM billing_open_attempt WHERE workspace_id = %s", workspace.pk
        ):
            open_rids[str(rid)] = hold_nano
            for counter, _, amount in _plain(counters):
                held[counter] = held.get(counter, 0) + amount
        (ended_open,) = _row(cursor, _ENDED_AND_OPEN, workspace.pk)
        if ended_open:
            differences.append(Difference("open attempts that have a charge", 0, ended_open))
        (quarantined,) = _row(cursor, "SELECT count(*) FROM billing_dead_letter WHERE workspace_id = %s", workspace.pk)
        marks = _rows(cursor, "SELECT seq, gaps FROM billing_sequence_mark WHERE workspace_id = %s", workspace.pk)
    seq, gaps = (marks[0][0], _plain(marks[0][1])) if marks else (0, [])
    return Books(
        seq=seq,
        ledger_nano=ledger,
        rollup_nano=rollup,
        assumed_nano=assumed,
        entries=entries,
        voids=voids,
        corrections=corrections,
        settled=settled,
        held=held,
        open_rids=frozenset(open_rids),
        held_nano=sum(open_rids.values()),
        quarantined=quarantined,
        gaps=tuple((first, last) for first, last in gaps),
        differences=tuple(differences),
    )


def charged_between(workspace: Workspace, first: datetime, end: datetime) -> int:
    """Nano-dollars of the calls admitted from `first` up to, not including, `end`."""
    with tenancy.entered(workspace), connection.cursor() as cursor:
        (cost,) = _row(
            cursor,
            "SELECT coalesce(sum(cost_nano), 0)::bigint FROM billing_entry WHERE workspace_id = %s AND at >= %s AND at < %s",
            workspace.pk,
            first,
            end,
        )
        return int(cost)


@contextmanager
def _snapshot(workspace: Workspace) -> Iterator[None]:
    """Everything read inside is as of one moment, although the writer goes on (unless the caller has a transaction of its own)."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with tenancy.entered(workspace):
            yield


def _charged(cursor: Any, workspace_id: int) -> dict[str, int]:
    """Counter -> what all lines charged it. They are read a page at a time, as the snapshot has them."""
    charged = Charged(cursor, workspace_id)
    with connection.chunked_cursor() as lines:
        lines.execute(
            f"SELECT {Charged.COLUMNS} FROM billing_entry WHERE workspace_id = %s AND {Charged.WHERE}",  # noqa: S608 - names of ours
            [workspace_id],
        )
        while rows := lines.fetchmany(PAGE):
            charged.add(rows)
    return charged.sums


def _row(cursor: Any, query: str, *params: Any) -> tuple[Any, ...]:
    return _rows(cursor, query, *params)[0]


def _rows(cursor: Any, query: str, *params: Any) -> list[tuple[Any, ...]]:
    cursor.execute(query, params)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _plain(value: Any) -> Any:
    """Django's connections hand jsonb out as text."""
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value


_LEDGER: Final = """
SELECT coalesce(sum(cost_nano), 0)::bigint,
    coalesce(sum(CASE WHEN leg = 1 THEN -hold_nano WHEN basis = 'assumed' THEN cost_nano ELSE 0 END), 0)::bigint,
    count(*) FILTER (WHERE leg = 0 AND state <> 'void'), count(*) FILTER (WHERE state = 'void'), count(*) FILTER (WHERE leg > 0)
FROM billing_entry WHERE workspace_id = %s
"""
_LINES: Final = ("cost_nano", "assumed_nano", "entries", "voids", "corrections")
_FORGOTTEN: Final = "SELECT what, amount FROM billing_forgotten WHERE workspace_id = %s"
"""What lines added up to that retention deleted: the books are compared as if they were still there."""
_ENDED_AND_OPEN: Final = """
SELECT count(*) FROM billing_open_attempt o
JOIN billing_entry e ON e.workspace_id = o.workspace_id AND e.at = o.at AND e.rid = o.rid AND e.leg = 0 WHERE o.workspace_id = %s
"""
_ROLLUPS: Final = ("billing_rollup_day", "billing_rollup_month", "billing_rollup_detail")
_PACKED: Final = (
    "(SELECT workspace_id, cost_nano, assumed_nano, attempts FROM billing_rollup_detail UNION ALL "
    "SELECT workspace_id, sum_cost_nano, sum_assumed_nano, sum_attempts FROM billing_detail_pack UNION ALL "
    "SELECT workspace_id, sum_cost_nano, sum_assumed_nano, sum_attempts FROM billing_detail_month_pack) AS details"
)
"""Combinations, wherever they stand."""
_VALUES: Final = """
SELECT dimension, sum(by_month)::bigint, sum(by_day)::bigint FROM (
    SELECT dimension, cost_nano AS by_month, 0 AS by_day FROM billing_rollup_month WHERE workspace_id = %s
    UNION ALL SELECT dimension, 0, cost_nano FROM billing_rollup_day WHERE workspace_id = %s
    UNION ALL SELECT dimension, 0, sum_cost_nano FROM billing_day_pack WHERE workspace_id = %s
    UNION ALL SELECT dimension, 0, sum_cost_nano FROM billing_day_month_pack WHERE workspace_id = %s
) AS either WHERE dimension NOT IN ('', 'session', 'user') GROUP BY dimension
"""
"""Each dimension's values by the month and by the day, wherever they stand."""
_TOTAL_ONLY: Final = {"billing_rollup_day": "AND dimension = ''", "billing_rollup_month": "AND dimension = ''"}
_SUMS: Final = {
    table: "SELECT coalesce(sum(cost_nano), 0)::bigint, coalesce(sum(assumed_nano), 0)::bigint, coalesce(sum(attempts), 0)::bigint "  # noqa: S608 - made of literals
    f"FROM {_PACKED if table == 'billing_rollup_detail' else table} WHERE workspace_id = %s {_TOTAL_ONLY.get(table, '')}"
    for table in _ROLLUPS
}
