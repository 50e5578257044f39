"""Sums of one dimension's values over a range: whole months from monthly rows, days from packs and rows. What is shown is ranked first.

Of ten thousand customers fifty are shown. A value's sum over some days is at most its sum over the months that hold them, and months are few rows.
So the values that are first by months are added up by days; when the last one wanted has at least what the next one left out can have, the answer
is exact (Fagin's threshold). Otherwise, and for what months are not kept of, every value is added up. All measures are sums of what is never
negative: a correction books where its charge stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from django.db import connection

from billing.ledger.asking import Row, Totals

CANDIDATES_EACH: Final = 8
"""Values looked at for each one wanted."""
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
    if not asked.spans:
        values = [value for value, *_ in _by_months(workspace_id, asked.months, (), dimension, rank_by, limit)]
        found = _of_months(workspace_id, asked.months, dimension, values, measures)
        return [Row((value,), found[value]) for value in values]
    chosen = of_values.of_days(workspace_id, dimension, asked.spans, tuple(dict.fromkeys((*measures, *rank_by))))
    if not asked.months:
        return list(adding.of_ranked(adding.ranked(chosen, rank_by, limit), measures))
    told = _by_threshold(workspace_id, asked, dimension, chosen, limit, rank_by, today)
    values = _of_all(workspace_id, asked, dimension, chosen, limit, rank_by) if told is None else told
    found = _of_months(workspace_id, asked.months, dimension, values, measures)
    _add(found, adding.of(chosen, [(value,) for value in values], measures))
    return [Row((value,), found[value]) for value in values]


def _by_threshold(
    workspace_id: int, asked: Range, dimension: str, chosen: Any, limit: int, rank_by: Sequence[str], today: date
) -> list[str] | None:
    """The first values, where months can tell them."""
    first, last = asked.ends
    if 2 * ((last - first).days + 1) < (min(_after(last), today + timedelta(days=1)) - first.replace(day=1)).days:
        return None  # a week of a month says too little about who spent most of it
    adding, _ = _packed()
    wanted = CANDIDATES_EACH * limit + 1
    covering = sorted({day.replace(day=1) for day in days_between(first, last)})
    bounds = _by_months(workspace_id, covering, asked.months, dimension, rank_by, wanted)
    candidates = bounds[: wanted - 1]
    sums = {value: int(whole) for value, _, whole in candidates if whole is not None}
    for row in adding.of(chosen, [(value,) for value, *_ in candidates], rank_by):
        sums[row.value] = sums.get(row.value, 0) + _amount(row.totals, rank_by)
    best = sorted(sums, key=lambda value: (-sums[value], value))[:limit]
    if len(bounds) < wanted or (len(best) == limit and sums[best[-1]] >= bounds[-1][1]):
        return best
    return None


def _of_all(
    workspace_id: int, asked: Range, dimension: str, chosen: Any, limit: int, rank_by: Sequence[str]
) -> list[str]:
    _, of_values = _packed()
    sums = {value: int(most) for value, most, _ in _by_months(workspace_id, asked.months, (), dimension, rank_by, None)}
    for row in of_values.every(chosen, rank_by):
        sums[row.value] = sums.get(row.value, 0) + _amount(row.totals, rank_by)
    return sorted(sums, key=lambda value: (-sums[value], value))[:limit]


def _amount(totals: Totals, rank_by: Sequence[str]) -> int:
    return sum(getattr(totals, name) for name in rank_by)


def _by_months(
    workspace_id: int,
    months: Sequence[date],
    whole: Sequence[date],
    dimension: str,
    rank_by: Sequence[str],
    limit: int | None,
) -> list[tuple[str, int, int | None]]:
    """(value, its sum over `months`, of it that over the months `whole`), largest first."""
    measure = " + ".join(rank_by)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT value, sum({measure}) AS most, sum({measure}) FILTER (WHERE month = ANY(%s::date[])) FROM billing_rollup_month "  # noqa: S608 - names of ours
            "WHERE workspace_id = %s AND dimension = %s AND month = ANY(%s) GROUP BY value ORDER BY most DESC, value LIMIT %s",
            [list(whole), workspace_id, dimension, list(months), limit],
        )
        found: list[tuple[str, int, int | None]] = cursor.fetchall()
        return found


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
