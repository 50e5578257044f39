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


def dearest(
    workspace_id: int,
    segments: Sequence[tuple[str, str, date, date]],
    dimension: str,
    *,
    limit: int,
    measure: str,
    value: str | None = None,
) -> list[str]:
    """The values whose `measure` (an SQL expression of ours) is largest over the segments: (table, column of time, first, last) each.

    `value`: only that one, if it is there.
    """
    length = sum((last - first).days + 1 for _, column, first, last in segments if column == "day")
    if value is None and length > FEW_DAYS and dimension not in NO_MONTHS:
        found = _by_threshold(workspace_id, segments, dimension, limit, measure)
        if found is not None:
            return found
    return [
        name
        for name, _ in _added(workspace_id, segments, dimension, limit, measure, None if value is None else [value])
    ]


def _by_threshold(
    workspace_id: int, segments: Sequence[tuple[str, str, date, date]], dimension: str, limit: int, measure: str
) -> list[str] | None:
    wanted = CANDIDATES_EACH * limit + 1
    first = min(segment[2] for segment in segments).replace(day=1)
    last = max(segment[3] for segment in segments)
    bounds = _added(workspace_id, [("billing_rollup_month", "month", first, last)], dimension, wanted, measure, None)
    names = [name for name, _ in bounds]
    if not names:
        return []
    found = _added(workspace_id, segments, dimension, limit, measure, names[: wanted - 1])
    if len(names) < wanted:  # those are all there are
        return [name for name, _ in found]
    left_out_at_most = bounds[-1][1]
    if len(found) == limit and found[-1][1] >= left_out_at_most:
        return [name for name, _ in found]
    return None


def _added(
    workspace_id: int,
    segments: Sequence[tuple[str, str, date, date]],
    dimension: str,
    limit: int,
    measure: str,
    values: Sequence[str] | None,
) -> list[tuple[str, int]]:
    parts: list[str] = []
    params: list[Any] = []
    for table, column, first, last in segments:
        when, moments = f"{column} BETWEEN %s AND %s", [first, last]
        only: list[Any] = []
        own = ""
        if values is not None:
            own, only = " AND value = ANY(%s)", [list(values)]
            if column == "day" and (last - first).days < LISTED_DAYS:
                when, moments = "day = ANY(%s)", [days_between(first, last)]  # type: ignore[list-item]
        parts.append(
            f"SELECT value, {measure} AS measure FROM {table} WHERE workspace_id = %s AND dimension = %s AND {when}{own}"  # noqa: S608 - names of ours
        )
        params += [workspace_id, dimension, *moments, *only]
    query = f"SELECT value, sum(measure) FROM ({' UNION ALL '.join(parts)}) AS r GROUP BY value ORDER BY sum(measure) DESC, value LIMIT %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(query, [*params, limit])
        return [(name, int(amount)) for name, amount in cursor.fetchall()]
