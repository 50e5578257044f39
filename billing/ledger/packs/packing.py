"""Moving combinations from the writer's rows into packs: a workspace and day at a time, under the lock of the partition's writer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from billing.domain.keys import partition_of
from billing.ledger.lines import NAMED
from billing.ledger.packs.columns import Numbers, Texts, coded, pack_numbers, unpack_numbers, unpack_texts
from billing.ledger.rollups import MEASURES
from billing.ledger.writer import locked
from workspaces import tenancy

REASON: Final = "combinations are packed"
LEAST_ROWS: Final = 500
"""Fewer are as quickly read as they are."""
GROWN_BY: Final = 8
"""A day that is packed is packed again when an eighth more has come: every row is then rewritten a few times, not each time."""
LOOK_BACK: Final = timedelta(days=100)
MOST_AT_ONCE: Final = 200
TEXTS: Final = (*("end_user" if name == "user" else str(name) for name in NAMED), "tags")
"""The columns of texts, as they are named in both tables."""


def pack_due(now: datetime, *, since: date | None = None, most: int = MOST_AT_ONCE, least: int = LEAST_ROWS) -> int:
    """Pack what has gathered since the last time; answers how many days of workspaces. `since`: by default, the last hundred days."""
    first = since or (now - LOOK_BACK).date()
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(_DUE, [first, least, GROWN_BY, most])
        due = cursor.fetchall()
    return sum(pack(workspace_id, day) for workspace_id, day in due)


def pack(workspace_id: int, day: date) -> bool:
    """Move the rows of a workspace's day into its pack; not now when the writer of its partition is at work."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        if not locked(cursor, partition_of(workspace_id)):
            return False
        cursor.execute(_TAKEN, [workspace_id, day])
        taken = cursor.fetchall()
        if not taken:
            return False
        cursor.execute(_PACKED, [workspace_id, day])
        texts, measures = _joined(_of_rows(taken), _of_pack(cursor.fetchone()))
        sums = [int(measures[MEASURES.index(name)].sum()) for name in ("cost_nano", "assumed_nano", "attempts")]
        packed = [*(one.packed() for one in texts), *map(pack_numbers, measures)]
        cursor.execute(_KEPT, [workspace_id, day, len(measures[0]), *sums, *packed])
    return True


_Columns = tuple[list[Texts], list[Numbers]]


def _of_rows(rows: Sequence[Sequence[Any]]) -> _Columns:
    columns = list(zip(*rows, strict=True))
    split = len(TEXTS)
    return [coded(column) for column in columns[:split]], [np.array(column, np.int64) for column in columns[split:]]


def _of_pack(row: Sequence[Any] | None) -> _Columns | None:
    if row is None:
        return None
    split = len(TEXTS)
    return [unpack_texts(bytes(one)) for one in row[:split]], [unpack_numbers(bytes(one)) for one in row[split:]]


def _joined(new: _Columns, old: _Columns | None) -> _Columns:
    """One row a combination, in the order that repeats most: the columns of few values first."""
    texts, measures = new
    if old is not None:
        texts = [_after(one, other) for one, other in zip(old[0], texts, strict=True)]
        measures = [np.concatenate(pair) for pair in zip(old[1], measures, strict=True)]
    by_values = sorted(range(len(texts)), key=lambda place: -len(texts[place].digests))
    order = np.lexsort([texts[place].codes for place in by_values])
    codes = [one.codes[order] for one in texts]
    starts = np.zeros(len(order), dtype=bool)
    starts[0] = True
    for column in codes:
        starts[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(starts)
    joined = [one.with_codes(column[first]) for one, column in zip(texts, codes, strict=True)]
    return joined, [np.add.reduceat(one[order], first) for one in measures]


def _after(one: Texts, other: Texts) -> Texts:
    """Both columns, one below the other."""
    first, second = one.values(), other.values()
    every = coded([*first, *second])
    return every.with_codes(
        np.concatenate([every.codes[: len(first)][one.codes], every.codes[len(first) :][other.codes]])
    )


# Every name below is one of ours. --------------------------------------------------------------------------------------
_columns: Final = ", ".join((*TEXTS, *MEASURES))
_DUE: Final = """
SELECT r.workspace_id, r.day FROM billing_rollup_detail AS r
LEFT JOIN billing_detail_pack AS p ON p.workspace_id = r.workspace_id AND p.day = r.day
WHERE r.day >= %s GROUP BY r.workspace_id, r.day, p.rows
HAVING count(*) >= greatest(%s, coalesce(p.rows, 0) / %s) ORDER BY r.day DESC, r.workspace_id LIMIT %s
"""
_TAKEN: Final = f"DELETE FROM billing_rollup_detail WHERE workspace_id = %s AND day = %s RETURNING {_columns.replace('tags', 'tags::text')}"  # noqa: S608
_PACKED: Final = f"SELECT {_columns} FROM billing_detail_pack WHERE workspace_id = %s AND day = %s FOR UPDATE"  # noqa: S608
_written: Final = ("rows", "sum_cost_nano", "sum_assumed_nano", "sum_attempts", *TEXTS, *MEASURES)
_KEPT: Final = (
    f"INSERT INTO billing_detail_pack (workspace_id, day, {', '.join(_written)}) VALUES (%s, %s{', %s' * len(_written)}) "  # noqa: S608
    f"ON CONFLICT (workspace_id, day) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _written)}"
)
