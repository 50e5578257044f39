"""Which values of a dimension come first, without adding all of them up: of ten thousand customers fifty are shown.

A value's sum over some days is at most its sum over the months that hold them, and months are few rows. So the values that are first by months
are added up by days; when the last one wanted has at least what the next one left out can have, the answer is exact (Fagin's threshold).
Otherwise, and for what months are not kept of, every value is added up. All measures are sums of what is never negative: a correction books
where its charge stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

from django.db import connection

from billing.ledger.rollups import NO_MONTHS

CANDIDATES_EACH: Final = 8
"""Values looked at for each one wanted."""
FEW_DAYS: Final = 3
"""So few days are added up as they are."""
LISTED_DAYS: Final = 400
"""Days that are named one by one: the index is then probed for each day and value instead of read through."""


def days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


Tables = Sequence[tuple[str, str, date, date]]
"""The rollups that a range is read from: (table, column of time, first, last) each."""


def months_can_tell(tables: Tables, today: date) -> bool:
    """Whether it is worth while to rank by months: a week of a month says too little about who spent most of it."""
    if all(column == "month" for _, column, _, _ in tables):
        return True
    first, last = min(table[2] for table in tables), max(table[3] for table in tables)
    after = (last.replace(day=1) + timedelta(days=32)).replace(day=1)
    length = (last - first).days + 1
    return length <= FEW_DAYS or 2 * length >= (min(after, today + timedelta(days=1)) - first.replace(day=1)).days


def by_threshold(workspace_id: int, tables: Tables, dimension: str, *, limit: int, measure: str) -> list[str] | None:
    """The values whose `measure` (an SQL expression of ours) is largest; None where months cannot tell.

    Of few days all values are added up at once.
    """
    length = sum((last - first).days + 1 for _, column, first, last in tables if column == "day")
    if length <= FEW_DAYS:
        return added(workspace_id, tables, dimension, limit=limit, measure=measure)
    if dimension in NO_MONTHS:
        return None
    wanted = CANDIDATES_EACH * limit + 1
    first = min(table[2] for table in tables).replace(day=1)
    last = max(table[3] for table in tables)
    found, params = _sums(workspace_id, tables, dimension, measure, "AND value = b.value")
    query = (
        f"WITH bounds AS MATERIALIZED (SELECT value, sum({measure}) AS most FROM billing_rollup_month "  # noqa: S608 - names of ours
        "WHERE workspace_id = %s AND dimension = %s AND month = ANY(%s) GROUP BY value ORDER BY most DESC, value LIMIT %s) "
        "SELECT b.value, r.measure, (SELECT count(*) FROM bounds), (SELECT min(most) FROM bounds) "
        "FROM (SELECT value FROM bounds ORDER BY most DESC, value LIMIT %s) AS b "
        # OFFSET keeps the planner from making one join of it, which reads all values of the days.
        f"CROSS JOIN LATERAL (SELECT sum(measure) AS measure FROM ({found}) AS parts OFFSET 0) AS r "
        "WHERE r.measure IS NOT NULL ORDER BY r.measure DESC, b.value LIMIT %s"
    )
    months = sorted({day.replace(day=1) for day in days_between(first, last)})
    with connection.cursor() as cursor:
        cursor.execute(query, [workspace_id, dimension, months, wanted, wanted - 1, *params, limit])
        rows = cursor.fetchall()
    if not rows:
        return []
    _, _, candidates, left_out_at_most = rows[0]
    is_all = candidates < wanted
    if is_all or (len(rows) == limit and rows[-1][1] >= left_out_at_most):
        return [name for name, *_ in rows]
    return None


def added(
    workspace_id: int,
    tables: Tables,
    dimension: str,
    *,
    limit: int,
    measure: str,
    values: Sequence[str] | None = None,
) -> list[str]:
    """The values whose sum is largest, from the sums of all of them (or of `values`)."""
    parts, params = _sums(workspace_id, tables, dimension, measure, "" if values is None else "AND value = ANY(%s)", values)  # fmt: skip
    query = f"SELECT value, sum(measure) FROM ({parts}) AS r GROUP BY value ORDER BY sum(measure) DESC, value LIMIT %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(query, [*params, limit])
        return [name for name, _ in cursor.fetchall()]


def _sums(
    workspace_id: int, tables: Tables, dimension: str, measure: str, own: str, values: Sequence[str] | None = None
) -> tuple[str, list[Any]]:
    """Rows (value, measure) of all tables, as SQL. `own`: which values. Then days are named, so that each is one look at the index."""
    parts: list[str] = []
    params: list[Any] = []
    for table, column, first, last in tables:
        when, moments = f"{column} BETWEEN %s AND %s", [first, last]
        if own and column == "day" and (last - first).days < LISTED_DAYS:
            when, moments = "day = ANY(%s)", [days_between(first, last)]  # type: ignore[list-item]
        elif own and column == "month":
            when = "month = ANY(%s)"
            moments = [sorted({day.replace(day=1) for day in days_between(first, last)})]  # type: ignore[list-item]
        parts.append(
            f"SELECT value, {measure} AS measure FROM {table} WHERE workspace_id = %s AND dimension = %s AND {when} {own}"  # noqa: S608 - names of ours
        )
        params += [workspace_id, dimension, *moments, *([list(values)] if values is not None else [])]
    return " UNION ALL ".join(parts), params
