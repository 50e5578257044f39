"""Totals of budget counters, and the thresholds they cross.

A threshold is measured against the *cap in force*: the budget's own with the raises that hold at that moment. It is recorded once per
counter (a budget, a period, a value) and cap in force, and again only after it was not crossed any more in between, so a raise or a lower
cap tells anew what is news and nothing else.

Two places see crossings. The writer does when it adds to a total (`add_to_totals`). `recheck` does where a cap changed and no call follows,
as when a raise ends above its budget's own cap: every call is refused then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.db import connection

from billing.domain.keys import budget_of
from billing.domain.money import MAX_CAP_NANO
from billing.ledger.copying import Staging, clean, optional
from billing.ledger.lines import Line
from workspaces import tenancy

log = logging.getLogger(__name__)

RUNNING_DAYS: Final = 94
"""Periods that began earlier have ended, but for those that never end: what is booked on them late is no news."""
MOST_LINES: Final = 200


def add_to_totals(cursor: Any, lines: Sequence[Line]) -> int:
    """Add what new lines charged to their counters; record the thresholds this crossed. Answers how many."""
    moved: dict[tuple[int, str], tuple[str, int, int]] = {}
    for line in lines:
        for charge in line.charges:
            if charge.amount:
                key = (line.workspace_id, clean(charge.counter, 200))
                _, amount, at_ms = moved.get(key, ("", 0, 0))
                moved[key] = (charge.unit, amount + charge.amount, max(at_ms, line.ended_ms))
    if not moved:
        return 0
    _MOVED.fill(
        cursor,
        [
            (str(workspace), counter, *map(optional, _budget_and_start(counter)), unit, str(amount), str(at_ms))
            for (workspace, counter), (unit, amount, at_ms) in sorted(moved.items())
        ],
    )
    cursor.execute(_TOTALS)
    return _told(cursor.fetchall())


def recheck(now: datetime) -> int:
    """Look again at the budgets whose cap changed, for good or because a raise ended. Answers how many crossings were new.

    Every workspace's in one go: what is due stands in the shared table of lines, so no tenant's schema is walked.
    """
    with tenancy.every_workspace("caps that changed are compared with what was spent"), connection.cursor() as cursor:
        cursor.execute(
            "SELECT budget_id FROM billing_budget_line WHERE recheck_at <= %s ORDER BY recheck_at LIMIT %s FOR UPDATE SKIP LOCKED",
            [now, MOST_LINES],
        )
        due = [row[0] for row in cursor.fetchall()]
        if not due:
            return 0
        at_ms = int(now.timestamp() * 1000)
        cursor.execute(_RECHECK, {"due": due, "at_ms": at_ms})
        told = _told(cursor.fetchall())
        cursor.execute(_CHECKED, {"due": due, "at_ms": at_ms})
        return told


def _told(crossed: Sequence[tuple[int, str, int]]) -> int:
    for workspace, counter, threshold in crossed:
        log.info("workspace %d: counter %s crossed %d%%", workspace, counter, threshold)
    return len(crossed)


@lru_cache(maxsize=32_768)
def _budget_and_start(counter: str) -> tuple[UUID | None, int | None]:
    try:
        budget_id, start_ms, _ = budget_of(counter)
    except ValueError:
        return None, None
    return budget_id, start_ms


def _cap_in_force(start_ms: str, at_ms: str) -> str:
    """SQL: the cap of `line` for the period that began at `start_ms`, at a moment. See `BudgetLine.raises`.

    A raise that ended with or after the period counts for it for good: a call of January that ends in February is January's.
    """
    return (
        f"CASE WHEN line.raises = '[]' THEN line.cap ELSE least({MAX_CAP_NANO}, line.cap + coalesce(("  # noqa: S608 - made of literals
        "SELECT sum((raised ->> 0)::bigint) FROM jsonb_array_elements(line.raises) AS raised "
        f"WHERE {start_ms} >= (raised ->> 1)::bigint "
        f"AND ({start_ms} < (raised ->> 2)::bigint OR {at_ms} < (raised ->> 3)::bigint)), 0))::bigint END"
    )


_RECORD: Final = (
    "INSERT INTO billing_crossing (workspace_id, budget_id, counter, period_start, threshold, at, settled, cap, recorded_at) "
    "SELECT c.workspace_id, c.budget_id, c.counter, to_timestamp(c.start_ms::double precision / 1000), threshold, "
    "to_timestamp(c.at_ms::double precision / 1000), c.settled, c.cap, clock_timestamp() "
    "FROM counters c CROSS JOIN LATERAL unnest(c.thresholds) AS threshold "
    "WHERE c.cap > 0 AND c.settled::numeric * 100 >= c.cap::numeric * threshold "
    # It was not crossed a moment ago (before this booking; under the cap before), or never was.
    "AND (c.settled_before::numeric * 100 < c.cap_before::numeric * threshold OR NOT EXISTS ("
    "SELECT 1 FROM billing_crossing told WHERE told.workspace_id = c.workspace_id AND told.counter = c.counter AND told.threshold = threshold)) "
    "ORDER BY c.workspace_id, c.counter, threshold ON CONFLICT DO NOTHING RETURNING workspace_id, counter, threshold"
)
_MOVED: Final = Staging(
    "ledger_moved",
    [
        ("workspace_id", "bigint"), ("counter", "text"), ("budget_id", "uuid"), ("start_ms", "bigint"), ("unit", "text"), ("amount", "bigint"),
        ("at_ms", "bigint"),
    ],
)  # fmt: skip
_TOTALS: Final = f"""
WITH moved AS (
    SELECT * FROM pg_temp.ledger_moved
), totals AS (
    INSERT INTO billing_budget_total AS t (workspace_id, counter, budget_id, period_start, unit, settled)
    SELECT workspace_id, counter, budget_id, to_timestamp(start_ms::double precision / 1000), unit, amount FROM moved
    ON CONFLICT (workspace_id, counter) DO UPDATE SET settled = t.settled + excluded.settled
    RETURNING t.workspace_id, t.counter, t.budget_id, t.settled
), counters AS (
    SELECT t.workspace_id, t.counter, t.budget_id, t.settled, t.settled - m.amount AS settled_before, m.start_ms, m.at_ms,
        line.thresholds, in_force.cap, in_force.cap AS cap_before
    FROM totals t
    JOIN moved m ON m.workspace_id = t.workspace_id AND m.counter = t.counter
    JOIN billing_budget_line line ON line.budget_id = t.budget_id AND line.workspace_id = t.workspace_id
    CROSS JOIN LATERAL (SELECT {_cap_in_force("m.start_ms", "m.at_ms")} AS cap) AS in_force
    WHERE m.start_ms = 0 OR m.start_ms > m.at_ms - {RUNNING_DAYS * 86_400_000}
)
{_RECORD}
"""  # noqa: S608 - made of literals
_RECHECK: Final = f"""
WITH counters AS (
    SELECT t.workspace_id, t.counter, t.budget_id, t.settled, t.settled AS settled_before, line.recheck_start_ms AS start_ms,
        %(at_ms)s::bigint AS at_ms, line.thresholds, in_force.cap, line.cap_before
    FROM billing_budget_line line
    CROSS JOIN LATERAL (SELECT {_cap_in_force("line.recheck_start_ms", "%(at_ms)s::bigint")} AS cap) AS in_force
    JOIN billing_budget_total t ON t.workspace_id = line.workspace_id AND t.budget_id = line.budget_id
        AND t.period_start = to_timestamp(line.recheck_start_ms::double precision / 1000)
    WHERE line.budget_id = ANY(%(due)s)
)
{_RECORD}
"""  # noqa: S608 - made of literals
_CHECKED: Final = f"""
UPDATE billing_budget_line AS line SET
    cap_before = {_cap_in_force("line.recheck_start_ms", "%(at_ms)s::bigint")},
    recheck_at = to_timestamp(ending.until_ms::double precision / 1000),
    recheck_start_ms = coalesce(ending.start_ms, line.recheck_start_ms)
FROM billing_budget_line AS same
LEFT JOIN LATERAL (
    SELECT (raised ->> 3)::bigint AS until_ms, (raised ->> 2)::bigint AS start_ms FROM jsonb_array_elements(same.raises) AS raised
    WHERE (raised ->> 3)::bigint > %(at_ms)s ORDER BY 1 LIMIT 1
) AS ending ON true
WHERE line.budget_id = same.budget_id AND line.budget_id = ANY(%(due)s)
"""  # noqa: S608 - made of literals
