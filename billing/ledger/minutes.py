"""What happened in the last hours by the minute: the cheap source of whoever must see a loop within a minute of its start.

Written with the batch that books the lines and from the lines that were new, so it agrees with the books; kept for hours only. Bounded: of one
workspace, minute and dimension at most `MOST_VALUES` values are kept by a writer, those that fire most first. Minutes are those in which an
attempt *ended*, because that is when the books hear of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from billing.ledger.lines import NAMED, Line
from workspaces import tenancy

DIMENSIONS: Final = ("agent", "virtual_key", "customer", "user", "session", "model")
"""And the workspace's total, under no name."""
MOST_VALUES: Final = 200
KEPT: Final = timedelta(hours=3)
FRESH_S: Final = 900
"""What ended longer ago (an old stream read late, a history) is not of the last minutes."""
REASON: Final = "minutes of all workspaces leave after some hours"
_PLACES: Final = tuple((name, NAMED.index(name)) for name in DIMENSIONS)

Key = tuple[int, int, str, str]
"""(workspace, minute since 1970, dimension, value)"""
_written: dict[tuple[int, int, str], set[str]] = {}
"""Values that this process wrote, of minutes that are not over for long."""


def write(cursor: Any, lines: Iterable[Line]) -> None:
    """Add new lines to their minutes."""
    now = time.time()
    sums = _sums(lines, int((now - FRESH_S) * 1000))
    rows = _bounded(sums, int(now) // 60)
    if not rows:
        return
    cursor.execute(
        "INSERT INTO billing_minute AS m (minute, workspace_id, dimension, value, attempts, errors, cost_nano) "
        "SELECT to_timestamp(minute * 60.0), w, d, v, a, e, c FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], "
        "%s::bigint[], %s::bigint[]) AS t(minute, w, d, v, a, e, c) "
        "ON CONFLICT (minute, workspace_id, dimension, value) DO UPDATE SET attempts = m.attempts + excluded.attempts, "
        "errors = m.errors + excluded.errors, cost_nano = m.cost_nano + excluded.cost_nano",
        [list(column) for column in zip(*rows, strict=True)],
    )


def _sums(lines: Iterable[Line], since_ms: int) -> dict[Key, list[int]]:
    sums: dict[Key, list[int]] = {}
    for line in lines:
        if line.ended_ms < since_ms:
            continue
        minute, charge = line.ended_ms // 60_000, int(line.leg == 0)
        failed, cost = int(line.failed and line.leg < 2), line.cost_nano
        values = [("", "")] + [(name, line.dims[place]) for name, place in _PLACES if line.dims[place]]
        for name, value in values:
            row = sums.setdefault((line.workspace_id, minute, name, value), [0, 0, 0])
            row[0] += charge
            row[1] += failed
            row[2] += cost
    return sums


def _bounded(sums: dict[Key, list[int]], this_minute: int) -> list[tuple[Any, ...]]:
    """The rows to write, in one order of locks, without the values that are one too many."""
    if len(_written) > 5_000:
        for known in [key for key in _written if key[1] < this_minute - 2]:
            del _written[known]
    rows = []
    for (workspace, minute, name, value), row in sorted(sums.items(), key=lambda pair: -pair[1][0]):
        seen = _written.setdefault((workspace, minute, name), set())
        if value in seen or len(seen) < MOST_VALUES:
            seen.add(value)
            rows.append((minute, workspace, name, value, *row))
    return sorted(rows)


def retire(now: datetime) -> int:
    """Delete minutes that are hours old. Answers how many rows went."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_minute WHERE minute < %s", [now - KEPT])
        return int(cursor.rowcount)
