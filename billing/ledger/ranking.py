"""Sums of one dimension's values over a range: whole months from monthly rows, days from packs and rows. What is shown is ranked first.

Of ten thousand customers fifty are shown. A value's sum over some days is at most its sum over the months that hold them, and months are few rows.
So the values that are first by months are added up by days; when the last one wanted has at least what the next one left out can have, the answer
is exact (Fagin's threshold). Otherwise, and for what months are not kept of, every value is added up. All measures are sums of what is never
negative: a correction books where its charge stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from django.db import connection

from billing.ledger.asking import Days, Row, Totals

CANDIDATES_EACH: Final = 8
"""Values looked at for each one wanted."""
FEW_DAYS: Final = 40
"""So few days are read as days, in one statement, also where they hold a whole month."""
LISTED_DAYS: Final = 400
"""How far back is looked for a word."""


def days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


@dataclass(frozen=True, slots=True)
class Range:
    """A range as it is read: whole months from monthly rows, the days at both ends."""

    months: tuple[date, ...]
    """First days."""
    spans: tuple[tuple[date, date], ...]
    """Of days, both ends included."""

    @property
    def ends(self) -> tuple[date, date]:
        """The first and the last day that the range can hold."""
        last = [span[1] for span in self.spans]
        if self.months:
            last.append(_after(self.months[-1]) - timedelta(days=1))
        return min([*self.months, *(span[0] for span in self.spans)]), max(last)


def of(
    workspace_id: int, asked: Range, dimension: str, values: Sequence[str], measures: Sequence[str]
) -> dict[str, Totals]:
    """What some values come to; those that are there."""
    found = _of_months(workspace_id, asked.months, dimension, values, measures) if asked.months and values else {}
    if asked.spans and values:
        adding, of_values = _packed()
        chosen = of_values.of_days(workspace_id, dimension, asked.spans, measures, values)
        _add(found, adding.of(chosen, [(value,) for value in values], measures))
    return found


def charted(
    workspace_id: int,
    days: Days,
    dimension: str,
    *,
    limit: int,
    rank_by: Sequence[str],
    measures: Sequence[str],
    charted: int,
    period_of: Callable[[date], Any],
) -> tuple[list[Row], list[tuple[date, str, Totals]]]:
    """As `dearest` does, and the first `charted` values over time, from days alone: where these are read for the chart, months would be dearer."""
    _, of_values = _packed()
    found: tuple[list[Row], list[tuple[date, str, Totals]]] = of_values.answered(
        workspace_id, dimension, (days.first, days.last), limit=limit, rank_by=rank_by, measures=measures, charted=charted, period_of=period_of
    )  # fmt: skip
    return found


def dearest(
    workspace_id: int,
    asked: Range,
    dimension: str,
    *,
    limit: int,
    rank_by: Sequence[str],
    measures: Sequence[str],
    today: date,
) -> list[Row]:
    """The values whose sum of the measures `rank_by` is largest, largest first, and what they come to."""
    adding, of_values = _packed()
    first, last = asked.ends
    if asked.spans and (last - first).days < FEW_DAYS:
        asked = Range((), ((first, last),))
    if not asked.spans:
        bounds = _by_months(workspace_id, asked.months, asked.months, dimension, rank_by, measures, limit)
        return [Row((one.value,), one.whole) for one in bounds if one.whole is not None]
    read = tuple(dict.fromkeys((*measures, *rank_by)))
    chosen = of_values.of_days(workspace_id, dimension, asked.spans, read)
    if not asked.months:
        return list(adding.of(chosen, adding.ranked(chosen, rank_by, limit), measures))
    found = _by_threshold(workspace_id, asked, dimension, chosen, limit, rank_by, read, today)
    if found is None:
        values = _of_all(workspace_id, asked, dimension, chosen, limit, rank_by)
        sums = _of_months(workspace_id, asked.months, dimension, values, measures)
        _add(sums, adding.of(chosen, [(value,) for value in values], measures))
        found = [Row((value,), sums[value]) for value in values]
    return found


def _by_threshold(
    workspace_id: int,
    asked: Range,
    dimension: str,
    chosen: Any,
    limit: int,
    rank_by: Sequence[str],
    measures: Sequence[str],
    today: date,
) -> list[Row] | None:
    """The first values, where months can tell them."""
    first, last = asked.ends
    if 2 * ((last - first).days + 1) < (min(_after(last), today + timedelta(days=1)) - first.replace(day=1)).days:
        return None  # a week of a month says too little about who spent most of it
    adding, _ = _packed()
    wanted = CANDIDATES_EACH * limit + 1
    covering = sorted({day.replace(day=1) for day in days_between(first, last)})
    bounds = _by_months(workspace_id, covering, asked.months, dimension, rank_by, measures, wanted)
    sums = {one.value: one.whole for one in bounds[: wanted - 1] if one.whole is not None}
    _add(sums, adding.of(chosen, [(one.value,) for one in bounds[: wanted - 1]], measures))
    best = sorted(sums, key=lambda value: (-_amount(sums[value], rank_by), value))[:limit]
    if len(bounds) < wanted or (len(best) == limit and _amount(sums[best[-1]], rank_by) >= bounds[-1].most):
        return [Row((value,), sums[value]) for value in best]
    return None


def _of_all(
    workspace_id: int, asked: Range, dimension: str, chosen: Any, limit: int, rank_by: Sequence[str]
) -> list[str]:
    _, of_values = _packed()
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT value, sum({' + '.join(rank_by)})::bigint FROM billing_rollup_month "  # noqa: S608 - names of ours
            "WHERE workspace_id = %s AND dimension = %s AND month = ANY(%s) GROUP BY value",
            [workspace_id, dimension, list(asked.months)],
        )
        sums: dict[str, int] = dict(cursor.fetchall())
    for row in of_values.every(chosen, rank_by):
        sums[row.value] = sums.get(row.value, 0) + _amount(row.totals, rank_by)
    return sorted(sums, key=lambda value: (-sums[value], value))[:limit]


def _amount(totals: Totals, rank_by: Sequence[str]) -> int:
    return sum(getattr(totals, name) for name in rank_by)


class _Bound(NamedTuple):
    value: str
    most: int
    """What it can come to."""
    whole: Totals | None
    """What it comes to in whole months; None: it is not in them."""


def _by_months(
    workspace_id: int,
    months: Sequence[date],
    whole: Sequence[date],
    dimension: str,
    rank_by: Sequence[str],
    measures: Sequence[str],
    limit: int,
) -> list[_Bound]:
    """The values that come to most over `months`, and what they come to over the months `whole`."""
    sums = ", ".join(f"sum({name})::bigint" for name in measures)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH bounds AS MATERIALIZED (SELECT value, sum({' + '.join(rank_by)})::bigint AS most FROM billing_rollup_month "  # noqa: S608 - names of ours
            "WHERE workspace_id = %s AND dimension = %s AND month = ANY(%s) GROUP BY value ORDER BY most DESC, value LIMIT %s) "
            # OFFSET keeps the planner from making one join of it, which reads all values.
            f"SELECT b.value, b.most, r.* FROM bounds AS b CROSS JOIN LATERAL (SELECT count(*), {sums} FROM billing_rollup_month "
            "WHERE workspace_id = %s AND dimension = %s AND month = ANY(%s) AND value = b.value OFFSET 0) AS r ORDER BY b.most DESC, b.value",
            [workspace_id, dimension, list(months), limit, workspace_id, dimension, list(whole)],
        )
        return [
            _Bound(value, most, Totals(**dict(zip(measures, numbers, strict=True))) if there else None)
            for value, most, there, *numbers in cursor.fetchall()
        ]


def _of_months(
    workspace_id: int, months: Sequence[date], dimension: str, values: Sequence[str], measures: Sequence[str]
) -> dict[str, Totals]:
    sums = ", ".join(f"sum({name})::bigint" for name in measures)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT value, {sums} FROM billing_rollup_month WHERE workspace_id = %s AND dimension = %s AND month = ANY(%s) "  # noqa: S608
            "AND value = ANY(%s) GROUP BY value",
            [workspace_id, dimension, list(months), list(values)],
        )
        return {value: Totals(**dict(zip(measures, numbers, strict=True))) for value, *numbers in cursor.fetchall()}


def _add(found: dict[str, Totals], rows: Sequence[Row]) -> None:
    for row in rows:
        before = found.get(row.value)
        found[row.value] = row.totals if before is None else before + row.totals


def _after(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _packed() -> Any:
    """Imported when it is first asked: a gateway never does, and shall not carry numpy's 20 MB."""
    from billing.ledger.packs import adding, of_values

    return adding, of_values
