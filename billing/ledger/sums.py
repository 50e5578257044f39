"""Sums from the rollups: of a range, by one or two dimensions, over time. The dearest are ranked before the others are added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db.models import DateField, DateTimeField, F, QuerySet, Sum, Value
from django.utils import timezone

from billing.domain.dimensions import Dimension
from billing.ledger import ranking
from billing.ledger.asking import (
    NO_FILTERS,
    TAG,
    CannotAnswer,
    Days,
    Filters,
    Granularity,
    Point,
    Row,
    Totals,
    check_grouping,
    inside,
    moments,
    narrowed,
    today,
)
from billing.ledger.rollups import MEASURES, NO_HOURS, NO_MONTHS, zone
from billing.models import RollupDay, RollupHour, RollupMonth
from workspaces import narrowing
from workspaces.models import Workspace

MOST_DAYS_BY_HOUR: Final = 62
MOST_TAGS_SHOWN: Final = 30
MOST_RANKED_BY_COMBINATIONS: Final = 1_000
"""An export wants every value: those are read from its own rollup."""


def totals(workspace: Workspace, days: Days, filters: Filters = NO_FILTERS) -> Totals:
    rows = grouped(workspace, days, (), filters=filters)
    return rows[0].totals if rows else Totals()


RANKS: Final[Mapping[str, str]] = {
    **{name: name for name in MEASURES},
    "tokens": "input_tokens + cache_read_tokens + cache_write_tokens + output_tokens",
}
"""What groups can be ranked by -> the expression of its measure."""


def by_value(
    workspace: Workspace,
    days: Days,
    dimension: str,
    *,
    filters: Filters = NO_FILTERS,
    limit: int = 100,
    rank_by: str = "cost_nano",
) -> list[Row]:
    """The values of one dimension that spent most. Calls without a value are not among them: `totals` less their sum."""
    return grouped(workspace, days, (dimension,), filters=filters, limit=limit, rank_by=rank_by)


def grouped(
    workspace: Workspace,
    days: Days,
    dimensions: Sequence[str],
    *,
    filters: Filters = NO_FILTERS,
    limit: int = 100,
    rank_by: str = "cost_nano",
    only: Sequence[tuple[str, ...]] | None = None,
) -> list[Row]:
    """Sums by no, one or two dimensions, largest first; or of the groups `only`, in their order, those that are there.

    What concerns one dimension reads its own rollup (whole months from monthly rows); everything else the daily combinations.
    """
    inside(workspace)
    filters = narrowed(filters)
    check_grouping(dimensions, filters)
    _check_rank(rank_by)
    single = _single(dimensions, filters)
    if single is None:
        rows: list[Row] = _combinations().grouped(
            workspace.pk, days, dimensions, filters, limit=limit, rank_by=RANKS[rank_by].split(" + "), only=only
        )
        return rows
    segments = _segments(workspace, days, single)
    values = None
    if dimensions:
        dearest = only is None
        values = (
            _dearest(workspace, segments, single, filters, limit, rank_by)
            if dearest
            else [value for (value,) in only or ()]
        )
    parts = []
    for model, column, first, last in segments:
        read = _values(model, column, workspace, single, first, last, filters)
        by = "dimension"  # one value: no group
        if values is not None:
            read, by = _only_values(read, column, first, last, values), "value"
        parts.append(read.order_by().values(by).annotate(**_sums()).values_list(by, *_SUM_NAMES))
    merged: dict[str, Totals] = {}
    for group, *numbers in parts[0].union(*parts[1:], all=True) if len(parts) > 1 else parts[0]:
        sums, before = _totals(numbers), merged.get(group)
        merged[group] = sums if before is None else before + sums
    if values is None:
        return [Row((), sums) for sums in merged.values()]
    return [Row((value,), merged[value]) for value in values if value in merged]


def ranked(
    workspace: Workspace,
    days: Days,
    dimensions: Sequence[str],
    *,
    filters: Filters = NO_FILTERS,
    limit: int,
    rank_by: str = "cost_nano",
) -> list[tuple[str, ...]]:
    """The groups of one or two dimensions, largest first, without their sums: what an export then reads piece by piece (`grouped(only=)`)."""
    inside(workspace)
    filters = narrowed(filters)
    check_grouping(dimensions, filters)
    _check_rank(rank_by)
    single = _single(dimensions, filters)
    if single is None:
        groups: list[tuple[str, ...]] = _combinations().dearest(
            workspace.pk, days, dimensions, filters, limit=limit, rank_by=RANKS[rank_by].split(" + ")
        )
        return groups
    segments = _segments(workspace, days, single)
    return [(value,) for value in _dearest(workspace, segments, single, filters, limit, rank_by)]


def answered(
    workspace: Workspace,
    days: Days,
    dimensions: Sequence[str],
    granularity: Granularity,
    *,
    filters: Filters = NO_FILTERS,
    limit: int = 100,
    rank_by: str = "cost_nano",
    measures: Sequence[str] = MEASURES,
    charted: int = 0,
    only: Sequence[tuple[str, ...]] | None = None,
) -> tuple[list[Row], list[Point]]:
    """(the rows of `grouped`; over time the whole, value "", and the first `charted` values of the first dimension). Combinations are read
    once for both, and only `measures` of them: the others may be 0."""
    inside(workspace)
    narrow = narrowed(filters)
    check_grouping(dimensions, narrow)
    _check_rank(rank_by)
    if _single(dimensions, narrow) is None and granularity is not Granularity.HOUR:
        found = _combinations().answered(
            workspace.pk, days, dimensions, narrow, limit=limit, rank_by=RANKS[rank_by].split(" + "), measures=measures, charted=charted,
            only=only,
        )  # fmt: skip
        return found.rows, _bucketed(found.by_day, granularity)
    rows = [] if only is not None and not only else grouped(
        workspace, days, dimensions, filters=filters, limit=limit, rank_by=rank_by, only=only
    )  # fmt: skip
    points = series(workspace, days, granularity, filters=filters)
    values = [value for value in dict.fromkeys(row.value for row in rows) if value][:charted]
    if values:
        points += series(workspace, days, granularity, dimension=dimensions[0], filters=filters, values=values)
    return rows, points


def days_and_hours_so_far(workspace: Workspace, days: Days, now: datetime) -> tuple[dict[date, Totals], Totals, Totals]:
    """(the totals of each day, today until now, yesterday until the same time on the clock: a fair comparison for a day that is not over), in
    one read. Whole hours of the rollup, so yesterday's running hour counts as far as it is a whole one."""
    inside(workspace)
    clock = zone(workspace.time_zone)
    local = now.astimezone(clock)
    midnight = datetime.combine(local.date(), time(), clock)
    day_before = datetime.combine(local.date() - timedelta(days=1), time(), clock)
    until = datetime.combine(local.date() - timedelta(days=1), local.time(), clock)
    filters = narrowed(NO_FILTERS)
    single = _single((), filters) or ""
    by_day = _values(RollupDay, "day", workspace, single, days.first, days.last, filters)
    by_hour = _values(RollupHour, "hour", workspace, single, day_before, now, filters)
    wanted = ("of_day", "of_hour", *MEASURES)
    of_days = by_day.annotate(of_day=F("day"), of_hour=Value(None, DateTimeField())).values_list(*wanted)
    of_hours = by_hour.annotate(of_day=Value(None, DateField()), of_hour=F("hour")).values_list(*wanted)
    found: dict[date, Totals] = {}
    today_sums, yesterday = Totals(), Totals()
    for day, hour, *numbers in of_days.union(of_hours, all=True):
        if day is not None:
            found[day] = found.get(day, Totals()) + Totals(*numbers)
        elif hour >= midnight:
            today_sums += Totals(*numbers)
        elif hour < until.astimezone(UTC):
            yesterday += Totals(*numbers)
    return found, today_sums, yesterday


def known_tags(workspace: Workspace, days: Days) -> list[str]:
    """The tags that calls of the range had, as dimensions ("tag:plan"), by name; none for a lead, to whom they may be others'."""
    inside(workspace)
    if narrowing.department() is not None:
        return []
    rows = RollupMonth.objects.filter(
        workspace_id=workspace.pk,
        dimension__gt=TAG,
        dimension__lt=TAG[:-1] + ";",
        month__gte=days.first.replace(day=1),
        month__lte=days.last,
    )
    return sorted(set(rows.order_by("dimension").values_list("dimension", flat=True).distinct()[:MOST_TAGS_SHOWN]))


def _check_rank(rank_by: str) -> None:
    if rank_by not in RANKS:
        raise CannotAnswer(f"cannot rank by {rank_by[:40]!r}: use one of {', '.join(RANKS)}")


Segment = tuple[type[RollupDay] | type[RollupMonth], str, date, date]
"""A rollup, its column of time, and the range to read from it."""


def _dearest(
    workspace: Workspace, segments: Sequence[Segment], dimension: str, filters: Filters, limit: int, rank_by: str
) -> list[str]:
    """The values to show, ranked by one measure before the others are added up.

    Where months cannot tell (ten thousand customers that spend alike; sessions), combinations are faster than to add up all days of all values.
    """
    tables = [(model._meta.db_table, column, first, last) for model, column, first, last in segments]
    measure = RANKS[rank_by]
    if dimension in filters:
        return ranking.added(workspace.pk, tables, dimension, limit=limit, measure=measure, values=[filters[dimension]])
    found = None
    # Of users there are too many, and they spend too much alike.
    if dimension != Dimension.USER and ranking.months_can_tell(tables, today(workspace, timezone.now())):
        found = ranking.by_threshold(workspace.pk, tables, dimension, limit=limit, measure=measure)
    if found is None and not dimension.startswith(TAG) and limit <= MOST_RANKED_BY_COMBINATIONS:
        days = Days(min(first for *_, first, _ in segments), max(last for *_, last in segments))
        found = _combinations().dearest_values(workspace.pk, days, dimension, limit=limit, rank_by=measure.split(" + "))
    if found is None:
        found = ranking.added(workspace.pk, tables, dimension, limit=limit, measure=measure)
    return found


def _combinations() -> Any:
    """Imported when it is first asked: a gateway never does, and shall not carry numpy's 20 MB."""
    from billing.ledger.packs import combinations

    return combinations


def series(
    workspace: Workspace,
    days: Days,
    granularity: Granularity,
    *,
    dimension: str = "",
    filters: Filters = NO_FILTERS,
    values: Sequence[str] | None = None,
) -> list[Point]:
    """Sums over time, oldest first; per value of one dimension if asked, only of `values` if given. Empty buckets are left out.

    Hours are kept for one dimension at a time (users and sessions excepted); weeks begin on Monday.
    """
    inside(workspace)
    filters = narrowed(filters)
    dimensions = (dimension,) if dimension else ()
    check_grouping(dimensions, filters)
    single = _single(dimensions, filters)
    if granularity is Granularity.HOUR:
        if single is None or single in NO_HOURS:
            raise CannotAnswer("hours are kept for one dimension at a time, not for users or sessions: ask by day")
        if (days.last - days.first).days >= MOST_DAYS_BY_HOUR:
            raise CannotAnswer(f"ask for at most {MOST_DAYS_BY_HOUR} days by the hour")
        first, end = moments(workspace, days)
        rows = _values(RollupHour, "hour", workspace, single, first, end - timedelta(microseconds=1), filters)
        column = "hour"
    elif single is not None:
        rows = _values(RollupDay, "day", workspace, single, days.first, days.last, filters)
        column = "day"
    else:
        return _detailed_series(workspace, days, granularity, dimensions, filters, values)
    if values is not None and dimension:
        rows = _only_values(rows, column, days.first, days.last, values)
    merged: dict[tuple[Any, str], Totals] = {}
    for start, value, *numbers in rows.values_list(column, "value", *MEASURES):
        key = (_bucket(start, granularity), value if dimension else "")
        sums, before = Totals(*numbers), merged.get(key)
        merged[key] = sums if before is None else before + sums
    return _points(merged)


def _detailed_series(
    workspace: Workspace,
    days: Days,
    granularity: Granularity,
    dimensions: Sequence[str],
    filters: Filters,
    values: Sequence[str] | None,
) -> list[Point]:
    return _bucketed(_combinations().by_day(workspace.pk, days, dimensions, filters, values), granularity)


def _bucketed(by_day: Iterable[tuple[date, str, Totals]], granularity: Granularity) -> list[Point]:
    merged: dict[tuple[Any, str], Totals] = {}
    for day, value, sums in by_day:
        key = (_bucket(day, granularity), value)
        before = merged.get(key)
        merged[key] = sums if before is None else before + sums
    return _points(merged)


def _points(merged: Mapping[tuple[Any, str], Totals]) -> list[Point]:
    return [Point(start, value, sums) for (start, value), sums in sorted(merged.items())]


def _bucket(start: Any, granularity: Granularity) -> Any:
    if granularity is Granularity.WEEK:
        return start - timedelta(days=start.weekday())
    return start.replace(day=1) if granularity is Granularity.MONTH else start


def _single(dimensions: Sequence[str], filters: Filters) -> str | None:
    """The one dimension whose own rollup answers ("" for the workspace's total), or None when only combinations do."""
    names = {*dimensions, *filters}
    if len(names) > 1:
        return None
    return next(iter(names), "")


def _segments(workspace: Workspace, days: Days, dimension: str) -> list[Segment]:
    return list(_calendar(days, monthly=dimension not in NO_MONTHS, today=today(workspace, timezone.now())))


def _calendar(days: Days, *, monthly: bool, today: date) -> Iterator[Segment]:
    """A range as whole months from monthly rows and the days at both ends. Until today, this month is a whole one: nothing comes after it."""
    first_month = days.first if days.first.day == 1 else _next_month(days.first)
    is_over = (days.last + timedelta(days=1)).day == 1 or days.last >= today
    after = _next_month(days.last) if is_over else days.last.replace(day=1)
    if first_month >= after or not monthly:
        yield RollupDay, "day", days.first, days.last
        return
    if days.first < first_month:
        yield RollupDay, "day", days.first, first_month - timedelta(days=1)
    yield RollupMonth, "month", first_month, min(days.last, after - timedelta(days=1))
    if after <= days.last:
        yield RollupDay, "day", after, days.last


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _values(
    model: Any, column: str, workspace: Workspace, dimension: str, first: Any, last: Any, filters: Filters
) -> QuerySet[Any]:
    rows: QuerySet[Any] = model.objects.filter(
        workspace_id=workspace.pk, dimension=dimension, **{f"{column}__gte": first, f"{column}__lte": last}
    )
    return rows.filter(value=filters[dimension]) if dimension in filters else rows


def _only_values(rows: QuerySet[Any], column: str, first: date, last: date, values: Sequence[str]) -> QuerySet[Any]:
    """Only some values. Days are then named one by one, so that the index is probed for each instead of read through."""
    if column == "day" and (last - first).days < ranking.LISTED_DAYS:
        rows = rows.filter(day__in=ranking.days_between(first, last))
    return rows.filter(value__in=values)


_SUM_NAMES: Final = tuple(f"sum_{name}" for name in MEASURES)


def _sums() -> dict[str, Sum]:
    return {f"sum_{name}": Sum(name) for name in MEASURES}


def _totals(numbers: Sequence[Any]) -> Totals:
    """PostgreSQL sums bigints as numeric; an empty set's sum is null."""
    return Totals(*(int(number or 0) for number in numbers))
