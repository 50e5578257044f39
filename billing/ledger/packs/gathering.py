"""Moving days and hours of dimensions' values from the writer's rows into packs: of a workspace, dimension and day at a time.

As `packing` does with combinations, under the lock of the partition's writer and in one transaction. The running day is packed whenever enough has
gathered, a day that is over nearly whole; what comes later is a row beside its pack until it joins it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from billing.domain.keys import partition_of
from billing.ledger.packs.columns import Numbers, Texts, of_distinct, pack_numbers, unpack_numbers, unpack_texts
from billing.ledger.packs.of_values import QUARTER_S
from billing.ledger.rollups import MEASURES
from billing.ledger.values import DAY, HOUR, Grain
from billing.ledger.writer import locked
from workspaces import tenancy

REASON: Final = "days and hours of values are packed"
LEAST_ROWS: Final = 500
"""Of a day that goes on: fewer are as quickly read as they are."""
LEAST_OVER: Final = 4
"""Of a day that is over in every time zone: a pack takes as much as two rows."""
GROWN_BY: Final = 8
GROWN_BY_OVER: Final = 128
"""What is packed is packed again when a further eighth has come, or late a hundredth: every row is then rewritten a few times only."""
MOST_ROWS: Final = 50_000
"""Moved in one transaction."""
MOST_AT_ONCE: Final = 2_000
LOOK_BACK: Final = timedelta(days=4)
"""Where nearly all that is due lies. `LEFT_OVER` is looked through once a day."""
LEFT_OVER: Final = timedelta(days=430)
ROUNDS: Final = 200


def pack_due(now: datetime, *, since: date | None = None, most: int = MOST_AT_ONCE, least: int = LEAST_ROWS) -> int:
    """Pack what has gathered since the last time; answers how many days of dimensions. `since`: by default, the last few days."""
    first = since or (now.astimezone(UTC) - LOOK_BACK).date()
    over = now.astimezone(UTC).date() - timedelta(days=1)
    packed = 0
    for grain in (HOUR, DAY):
        with tenancy.every_workspace(REASON), connection.cursor() as cursor:
            cursor.execute(
                _due(grain), {"first": first, "over": over, "least": least, "over_least": LEAST_OVER, "most": most}
            )
            due = cursor.fetchall()
        packed += sum(pack(grain, *one) for one in due)
    return packed


def pack_left_over(now: datetime, *, rounds: int = ROUNDS) -> int:
    """Pack what lies further back, until nothing is due any more: a day after an upgrade everything is packed."""
    packed = 0
    for _ in range(rounds):
        done = pack_due(now, since=(now - LEFT_OVER).date())
        packed += done
        if not done:
            break
    return packed


def pack(grain: Grain, workspace_id: int, dimension: str, day: date) -> bool:
    """Move rows of a dimension's day into its pack; not now when the writer of its partition is at work."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    span = (day, day) if grain is DAY else (start, start + timedelta(days=1, microseconds=-1))
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        if not locked(cursor, partition_of(workspace_id)):
            return False
        cursor.execute(_take(grain), [workspace_id, dimension, *span, workspace_id, dimension, *span, MOST_ROWS])
        taken = cursor.fetchall()
        if not taken:
            return False
        columns = _columns(grain)
        cursor.execute(
            f"SELECT value, {', '.join(columns)} FROM {grain.packs} WHERE workspace_id = %s AND dimension = %s AND day = %s FOR UPDATE",  # noqa: S608
            [workspace_id, dimension, day],
        )
        texts, numbers = _joined(taken, cursor.fetchone(), keys=len(columns) - len(MEASURES))
        by_name = dict(zip(columns, numbers, strict=True))
        sums = [int(by_name[name].sum()) for name in ("cost_nano", "assumed_nano", "attempts")]
        cursor.execute(
            _keep(grain),
            [workspace_id, dimension, day, len(numbers[0]), *sums, texts.packed(), *map(pack_numbers, numbers)],
        )
    return True


def _joined(
    taken: Sequence[Sequence[Any]], pack_row: Sequence[Any] | None, *, keys: int
) -> tuple[Texts, list[Numbers]]:
    """One row a value (and hour: then the first column of numbers is a key, too), in their order."""
    names, *columns = zip(*taken, strict=True)
    numbers = [np.array(column, np.int64) for column in columns]
    old = unpack_texts(bytes(pack_row[0])) if pack_row else None
    known = old.values() if old and len(old.digests) else []
    distinct = sorted({*names, *known})
    place = {name: number for number, name in enumerate(distinct)}
    codes = np.array([place[name] for name in names], np.int64)
    if old is not None and pack_row is not None:
        codes = np.concatenate([np.array([place[name] for name in known], np.int64)[old.codes], codes])
        before = [unpack_numbers(bytes(one)) for one in pack_row[1:]]
        numbers = [np.concatenate(pair) for pair in zip(before, numbers, strict=True)]
    order = np.lexsort([*numbers[:keys], codes])
    starts = np.zeros(len(order), dtype=bool)
    starts[0] = True
    for column in (codes, *numbers[:keys]):
        starts[1:] |= column[order][1:] != column[order][:-1]
    first = np.flatnonzero(starts)
    joined = [column[order][first] for column in numbers[:keys]]
    joined += [np.add.reduceat(column[order], first) for column in numbers[keys:]]
    return of_distinct(distinct, codes[order][first]), joined


# Every name below is one of ours. --------------------------------------------------------------------------------------
def _columns(grain: Grain) -> tuple[str, ...]:
    return MEASURES if grain is DAY else ("hour", *MEASURES)


def _due(grain: Grain) -> str:
    day = "r.day" if grain is DAY else "(r.hour AT TIME ZONE 'UTC')::date"
    since = "r.day >= %(first)s" if grain is DAY else "r.hour >= %(first)s::timestamp AT TIME ZONE 'UTC'"
    return (
        f"SELECT r.workspace_id, r.dimension, r.day FROM (SELECT r.workspace_id, r.dimension, {day} AS day, count(*) AS loose "  # noqa: S608
        f"FROM {grain.rows} AS r WHERE r.dimension <> '' AND {since} GROUP BY 1, 2, 3) AS r "
        f"LEFT JOIN {grain.packs} AS p ON p.workspace_id = r.workspace_id AND p.dimension = r.dimension AND p.day = r.day "
        f"WHERE r.loose >= CASE WHEN r.day < %(over)s THEN greatest(%(over_least)s, coalesce(p.rows, 0) / {GROWN_BY_OVER}) "
        f"ELSE greatest(%(least)s, coalesce(p.rows, 0) / {GROWN_BY}) END ORDER BY r.day DESC, r.workspace_id LIMIT %(most)s"
    )


def _take(grain: Grain) -> str:
    """Hours of one day of UTC lie in one partition: a row's place is its name there."""
    where = f"workspace_id = %s AND dimension = %s AND {grain.column} BETWEEN %s AND %s"
    hour = "" if grain is DAY else f"(extract(epoch FROM hour) / {QUARTER_S})::bigint, "
    return (
        f"DELETE FROM {grain.rows} WHERE {where} AND ctid = ANY(ARRAY(SELECT ctid FROM {grain.rows} WHERE {where} LIMIT %s)) "  # noqa: S608
        f"RETURNING value, {hour}{', '.join(MEASURES)}"
    )


def _keep(grain: Grain) -> str:
    written = ("rows", "sum_cost_nano", "sum_assumed_nano", "sum_attempts", "value", *_columns(grain))
    return (
        f"INSERT INTO {grain.packs} (workspace_id, dimension, day, {', '.join(written)}) VALUES (%s, %s, %s{', %s' * len(written)}) "  # noqa: S608
        f"ON CONFLICT (workspace_id, dimension, day) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in written)}"
    )
