"""Merging the packs of a closed month's days into one: a year is then twelve packs and the days since, and a value's name is kept once a month.

Rows stay in the order of days, so that any range and any day, week or month is a piece of them. What comes late has rows and a pack of its day as
ever, which join the month when they are many. One transaction under the lock of the partition's writer, as every move between rows and packs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from billing.domain.keys import partition_of
from billing.ledger.packs.columns import Numbers, Texts, of_digests, pack_numbers, unpack_numbers, unpack_texts
from billing.ledger.packs.packing import TEXTS
from billing.ledger.packs.reading import EPOCH, read
from billing.ledger.rollups import MEASURES, NO_MONTHS
from billing.ledger.values import DAY
from billing.ledger.writer import locked
from workspaces import tenancy

REASON: Final = "months of packs are merged"
CLOSED_FOR: Final = timedelta(days=62)
"""A month is merged when it ended so long ago: what is looked at most, thirty days and the thirty before them, is read by the day (a part of a month
would read its whole columns), and hardly anything comes later."""
WORTH_IT: Final = 0.25
"""Columns of a month are deflated when a quarter is left: inflating was a third of the time of a question to a year."""
MOST_ROWS: Final = 1_000_000
"""A month of more stays in days: the worker has all columns of a month in memory, some 200 MB of these."""
GROWN_BY: Final = 32
MOST_BESIDE: Final = 8
"""A merged month is merged again when days of a 32nd of its rows, or so many days, stand beside it."""
MOST_AT_ONCE: Final = 500
ROUNDS: Final = 40
PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Kind:
    packs: str
    merged: str
    keys: tuple[str, ...]
    """What tells packs of one day or month apart."""
    texts: tuple[str, ...]


DETAILS: Final = Kind("billing_detail_pack", "billing_detail_month_pack", ("workspace_id",), TEXTS)
VALUES: Final = Kind(DAY.packs, str(DAY.months), ("workspace_id", "dimension"), ("value",))
Key = tuple[Any, ...]
"""The values of a kind's keys, the workspace first."""


def merge_due(now: datetime, *, rounds: int = ROUNDS) -> int:
    """Merge the months that ended long enough ago; answers how many. Those whose writer was at work are tried again."""
    merged = 0
    border = (now.astimezone(UTC) - CLOSED_FOR).date().replace(day=1)
    for kind in (DETAILS, VALUES):
        for _ in range(rounds):
            with tenancy.every_workspace(REASON), connection.cursor() as cursor:
                never = [[str(name) for name in NO_MONTHS]] if "dimension" in kind.keys else []
                cursor.execute(_due(kind), [border, *never])
                due = cursor.fetchall()
            if not due:
                break
            done = sum(merge(kind, tuple(key), month) for *key, month in due)
            merged += done
            if not done:
                time.sleep(PAUSE_S)
    return merged


def merge(kind: Kind, key: Key, month: date) -> bool:
    """Move the packs of a month's days into the month's; not now when the writer of the partition is at work."""
    following = (month + timedelta(days=32)).replace(day=1)
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        if not locked(cursor, partition_of(key[0])):
            return False
        taken = read(_take(kind), [*key, month, following])
        if not taken:
            return False
        before = read(_before(kind), [*key, month])
        days, texts, measures = _joined(
            [_of_day(kind, row) for row in taken] + [_of_month(kind, row) for row in before]
        )
        sums = [int(measures[MEASURES.index(name)].sum()) for name in ("cost_nano", "assumed_nano", "attempts")]
        expected = [sum(column) for column in zip(*(row[1:4] for row in (*taken, *before)), strict=True)]
        if sums != expected:
            raise ArithmeticError(f"{kind.merged} {key} {month}: packs came to {expected}, merged to {sums}")
        begins = np.flatnonzero(np.append(True, days[1:] != days[:-1]))
        ends = np.append(begins[1:], len(days))
        packed = [pack_numbers(days[begins]), pack_numbers(ends), *(one.packed(WORTH_IT) for one in texts)]
        cursor.execute(
            _keep(kind), [*key, month, len(days), *sums, *packed, *(pack_numbers(one, WORTH_IT) for one in measures)]
        )
    return True


_Columns = tuple[Numbers, list[Texts], list[Numbers]]
"""The day of each row since 1970; texts; measures."""


def _of_day(kind: Kind, row: Sequence[Any]) -> _Columns:
    texts, measures = _unpacked(kind, row[4:])
    return np.full(len(measures[0]), row[0].toordinal() - EPOCH, np.int64), texts, measures


def _of_month(kind: Kind, row: Sequence[Any]) -> _Columns:
    days, ends, *columns = row[4:]
    return np.repeat(unpack_numbers(days), np.diff(unpack_numbers(ends), prepend=0)), *_unpacked(kind, columns)


def _unpacked(kind: Kind, columns: Sequence[Any]) -> tuple[list[Texts], list[Numbers]]:
    split = len(kind.texts)
    return [unpack_texts(one) for one in columns[:split]], [unpack_numbers(one) for one in columns[split:]]


def _joined(parts: Sequence[_Columns]) -> _Columns:
    """One row a day and combination, in the order of days and within them in the one that repeats most: the columns of few values first."""
    days = np.concatenate([part[0] for part in parts])
    texts = [_below(column) for column in zip(*(part[1] for part in parts), strict=True)]
    telling = sorted((one for one in texts if len(one.digests) > 1), key=lambda one: -len(one.digests))
    order = np.lexsort([*(one.codes for one in telling), days])
    starts = np.zeros(len(order), dtype=bool)
    starts[0] = True
    for column in (days, *(one.codes for one in telling)):
        ordered = column[order]
        starts[1:] |= ordered[1:] != ordered[:-1]
    first = np.flatnonzero(starts)
    measures = [
        np.add.reduceat(np.concatenate(column)[order], first)
        for column in zip(*(part[2] for part in parts), strict=True)
    ]
    kept = order[first]
    return days[kept], [one.with_codes(one.codes[kept]) for one in texts], measures


def _below(columns: Sequence[Texts]) -> Texts:
    """Columns one below the other; their distinct texts in order, since neighbours are then alike and deflate well."""
    digests, first, places = np.unique(
        np.concatenate([one.digests for one in columns]), return_index=True, return_inverse=True
    )
    names: list[str] = []
    for one in columns:
        names += one.values() if len(one.digests) else []
    distinct = [names[place] for place in first.tolist()]
    order = sorted(range(len(distinct)), key=distinct.__getitem__)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    ends = np.cumsum([len(one.digests) for one in columns])
    codes = [rank[places[end - len(one.digests) : end]][one.codes] for one, end in zip(columns, ends, strict=True)]
    return of_digests([distinct[place] for place in order], digests[order], np.concatenate(codes))


# Every name below is one of ours. --------------------------------------------------------------------------------------
_SUMS: Final = ("sum_cost_nano", "sum_assumed_nano", "sum_attempts")


def _due(kind: Kind) -> str:
    own = ", ".join(f"p.{name}" for name in kind.keys)
    same = " AND ".join(f"m.{name} = p.{name}" for name in kind.keys)
    only = "AND p.dimension <> ALL(%s)" if "dimension" in kind.keys else ""
    return (
        f"SELECT {own}, date_trunc('month', p.day)::date FROM {kind.packs} AS p "  # noqa: S608
        f"LEFT JOIN {kind.merged} AS m ON {same} AND m.day = date_trunc('month', p.day)::date WHERE p.day < %s {only} "
        f"GROUP BY {own}, date_trunc('month', p.day), m.rows HAVING sum(p.rows) + coalesce(m.rows, 0) <= {MOST_ROWS} "
        f"AND CASE WHEN m.rows IS NULL THEN count(*) > 1 ELSE count(*) >= {MOST_BESIDE} OR sum(p.rows) * {GROWN_BY} >= m.rows END "
        f"ORDER BY 1 LIMIT {MOST_AT_ONCE}"
    )


def _where(kind: Kind) -> str:
    return " AND ".join(f"{name} = %s" for name in kind.keys)


def _take(kind: Kind) -> str:
    columns = ", ".join(("day", *_SUMS, *kind.texts, *MEASURES))
    return f"DELETE FROM {kind.packs} WHERE {_where(kind)} AND day >= %s AND day < %s RETURNING {columns}"  # noqa: S608


def _before(kind: Kind) -> str:
    columns = ", ".join(("day", *_SUMS, "days", "ends", *kind.texts, *MEASURES))
    return f"SELECT {columns} FROM {kind.merged} WHERE {_where(kind)} AND day = %s FOR UPDATE"  # noqa: S608


def _keep(kind: Kind) -> str:
    key, written = (*kind.keys, "day"), ("rows", *_SUMS, "days", "ends", *kind.texts, *MEASURES)
    return (
        f"INSERT INTO {kind.merged} ({', '.join((*key, *written))}) VALUES ({', '.join(['%s'] * (len(key) + len(written)))}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in written)}"
    )
