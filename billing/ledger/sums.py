"""Sums from the rollups: of a range, by one or two dimensions, over time. The dearest are ranked before the others are added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial, reduce
from operator import or_
from typing import Any, Final

from django.db.models import DateField, DateTimeField, F, Q, QuerySet, Sum, Value
from django.utils import timezone

from billing.ledger import ranking
from billing.ledger import values as kept
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
MOST_READ_ONCE: Final = 6
"""Measures of one dimension that are ranked and charted from one read of its days. With more of them a year's days are too much to read, and
months rank."""


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
    if not single:
        whole = _whole(workspace, days)
        return [] if whole is None else [Row((), whole)]
    return _of_one(workspace, days, single, dimensions, filters, limit, rank_by, only, MEASURES)


def _whole(workspace: Workspace, days: Days) -> Totals | None:
    """The workspace's total, which is never packed."""
    found = None
    asked = _range(workspace, days, "")
    parts: list[tuple[Any, str, Any, Any]] = [(RollupDay, "day", *span) for span in asked.spans]
    if asked.months:
        parts.append((RollupMonth, "month", asked.months[0], asked.months[-1]))
    reads = [
        _values(model, column, workspace, "", first, last).order_by().values("dimension").annotate(**_sums()).values_list(*_SUM_NAMES)
        for model, column, first, last in parts
    ]  # fmt: skip
    for numbers in reads[0].union(*reads[1:], all=True) if len(reads) > 1 else reads[0]:
        found = _totals(numbers) if found is None else found + _totals(numbers)
    return found


def _of_one(
    workspace: Workspace,
    days: Days,
    dimension: str,
    dimensions: Sequence[str],
    filters: Filters,
    limit: int,
    rank_by: str,
    only: Sequence[tuple[str, ...]] | None,
    measures: Sequence[str],
) -> list[Row]:
    asked = _range(workspace, days, dimension)
    if dimension in filters or only is not None:
        values = [filters[dimension]] if dimension in filters else []
        if dimensions and only is not None:
            values = [value for (value,) in only if filters.get(dimension, value) == value]
        found = ranking.of(workspace.pk, asked, dimension, values, measures)
        return [Row((value,) if dimensions else (), found[value]) for value in values if value in found]
    by = RANKS[rank_by].split(" + ")
    today_ = today(workspace, timezone.now())
    return ranking.dearest(workspace.pk, asked, dimension, limit=limit, rank_by=by, measures=measures, today=today_)


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
    rank = tuple(RANKS[rank_by].split(" + "))
    return [row.values for row in _of_one(workspace, days, single, dimensions, filters, limit, rank_by, None, rank)]


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
            only=only, period_of=partial(_bucket, granularity=granularity),
        )  # fmt: skip
        return found.rows, _bucketed(found.by_day, granularity)
    single = _single(dimensions, narrow)
    rank = RANKS[rank_by].split(" + ")
    if (
        single
        and not narrow
        and only is None
        and charted
        and granularity is not Granularity.HOUR
        and len(measures) <= MOST_READ_ONCE
    ):
        rows, lines = ranking.charted(
            workspace.pk, days, single, limit=limit, rank_by=rank, measures=measures, charted=charted,
            period_of=partial(_bucket, granularity=granularity),
        )  # fmt: skip
        return rows, series(workspace, days, granularity, measures=measures) + _bucketed(lines, granularity)
    rows = []
    if only is None or only:
        if single:
            rows = _of_one(workspace, days, single, dimensions, narrow, limit, rank_by, only, measures)
        else:
            rows = grouped(workspace, days, dimensions, filters=filters, limit=limit, rank_by=rank_by, only=only)
    points = series(workspace, days, granularity, filters=filters, measures=measures)
    values = [value for value in dict.fromkeys(row.value for row in rows) if value][:charted]
    if values:
        points += series(
            workspace, days, granularity, dimension=dimensions[0], filters=filters, values=values, measures=measures
        )
    return rows, points


def days_and_hours_so_far(
    workspace: Workspace, days: Days, now: datetime, besides: Sequence[date]
) -> tuple[dict[date, Totals], Totals, list[Totals]]:
    """(the totals of each day, today until now, each of the days `besides` until the same time on the clock: fair comparisons for a day that is
    not over), in one read. Whole hours of the rollup, so the running hour counts as far as it is a whole one."""
    inside(workspace)
    clock = zone(workspace.time_zone)
    local = now.astimezone(clock)
    spans = [
        tuple(datetime.combine(day, at, clock).astimezone(UTC) for at in (time(), local.time()))
        for day in (local.date(), *besides)
    ]
    filters = narrowed(NO_FILTERS)
    single = _single((), filters) or ""
    rows: list[tuple[Any, ...]]
    if single:  # a lead's department
        own = [filters[single]]
        of_days = kept.over_time(workspace.pk, kept.DAY, single, days.first, days.last, MEASURES, own)
        rows = [(day, None, *numbers) for day, _, *numbers in of_days]
        for first, last in spans:
            of_hours = kept.over_time(workspace.pk, kept.HOUR, single, first, last, MEASURES, own)
            rows += [(None, hour, *numbers) for hour, _, *numbers in of_hours]
    else:
        wanted = ("of_day", "of_hour", *MEASURES)
        by_day = _values(RollupDay, "day", workspace, "", days.first, days.last)
        within = reduce(or_, (Q(hour__gte=first, hour__lte=last) for first, last in spans))
        by_hour = RollupHour.objects.filter(within, workspace_id=workspace.pk, dimension="")
        of_day = by_day.annotate(of_day=F("day"), of_hour=Value(None, DateTimeField())).values_list(*wanted)
        of_hour = by_hour.annotate(of_day=Value(None, DateField()), of_hour=F("hour")).values_list(*wanted)
        rows = list(of_day.union(of_hour, all=True))
    found: dict[date, Totals] = {}
    sums = [Totals()] * len(spans)
    for day, hour, *numbers in rows:
        if day is not None:
            found[day] = found.get(day, Totals()) + Totals(*numbers)
            continue
        for n, (first, last) in enumerate(spans):
            if first <= hour < last or hour == last == now:  # the hour that begins this very moment runs already
                sums[n] += Totals(*numbers)
    return found, sums[0], sums[1:]


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
    measures: Sequence[str] = MEASURES,
) -> list[Point]:
    """Sums over time, oldest first; per value of one dimension if asked, only of `values` if given. Empty buckets are left out.
    Other measures than `measures` may be 0.

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
    if single is None:
        return _detailed_series(workspace, days, granularity, dimensions, filters, values)
    if single:
        own = [filters[single]] if single in filters else values
        if single in filters and dimension and values is not None and filters[single] not in values:
            return []
        rows = _over_time(workspace, days, granularity, single, own, measures)
    else:
        rows = _whole_over_time(workspace, days, granularity)
    merged: dict[tuple[Any, str], Totals] = {}
    for start, value, sums in rows:
        key = (_bucket(start, granularity), value if dimension else "")
        before = merged.get(key)
        merged[key] = sums if before is None else before + sums
    return _points(merged)


def _over_time(
    workspace: Workspace,
    days: Days,
    granularity: Granularity,
    dimension: str,
    values: Sequence[str] | None,
    measures: Sequence[str],
) -> list[tuple[Any, str, Totals]]:
    grain: kept.Grain = kept.DAY
    spans: Sequence[tuple[Any, Any]] = [(days.first, days.last)]
    found: list[tuple[Any, ...]] = []
    if granularity is Granularity.HOUR:
        grain, (first, end) = kept.HOUR, moments(workspace, days)
        spans = [(first, end - timedelta(microseconds=1))]
    elif granularity is Granularity.MONTH:
        asked = _range(workspace, days, dimension)
        spans = asked.spans
        of_months = RollupMonth.objects.filter(workspace_id=workspace.pk, dimension=dimension, month__in=asked.months)
        of_months = of_months if values is None else of_months.filter(value__in=values)
        found = list(of_months.values_list("month", "value", *measures)) if asked.months else []
    for span in spans:
        found += kept.over_time(workspace.pk, grain, dimension, *span, measures, values)
    return [(start, value, Totals(**dict(zip(measures, numbers, strict=True)))) for start, value, *numbers in found]


def _whole_over_time(workspace: Workspace, days: Days, granularity: Granularity) -> list[tuple[Any, str, Totals]]:
    if granularity is Granularity.HOUR:
        first, end = moments(workspace, days)
        rows = _values(RollupHour, "hour", workspace, "", first, end - timedelta(microseconds=1))
        column = "hour"
    else:
        rows, column = _values(RollupDay, "day", workspace, "", days.first, days.last), "day"
    return [(start, "", Totals(*numbers)) for start, *numbers in rows.values_list(column, *MEASURES)]


def _detailed_series(
    workspace: Workspace,
    days: Days,
    granularity: Granularity,
    dimensions: Sequence[str],
    filters: Filters,
    values: Sequence[str] | None,
) -> list[Point]:
    period_of = partial(_bucket, granularity=granularity)
    return _bucketed(_combinations().by_day(workspace.pk, days, dimensions, filters, values, period_of), granularity)


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


def _range(workspace: Workspace, days: Days, dimension: str) -> ranking.Range:
    """A range as whole months from monthly rows and the days at both ends. Until today, this month is a whole one: nothing comes after it."""
    first_month = days.first if days.first.day == 1 else _next_month(days.first)
    is_over = (days.last + timedelta(days=1)).day == 1 or days.last >= today(workspace, timezone.now())
    after = _next_month(days.last) if is_over else days.last.replace(day=1)
    if first_month >= after or dimension in NO_MONTHS:
        return ranking.Range((), ((days.first, days.last),))
    spans = []
    if days.first < first_month:
        spans.append((days.first, first_month - timedelta(days=1)))
    if after <= days.last:
        spans.append((after, days.last))
    months = [first_month]
    while (following := _next_month(months[-1])) < after:
        months.append(following)
    return ranking.Range(tuple(months), tuple(spans))


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _values(model: Any, column: str, workspace: Workspace, dimension: str, first: Any, last: Any) -> QuerySet[Any]:
    rows: QuerySet[Any] = model.objects.filter(
        workspace_id=workspace.pk, dimension=dimension, **{f"{column}__gte": first, f"{column}__lte": last}
    )
    return rows


_SUM_NAMES: Final = tuple(f"sum_{name}" for name in MEASURES)


def _sums() -> dict[str, Sum]:
    return {f"sum_{name}": Sum(name) for name in MEASURES}


def _totals(numbers: Sequence[Any]) -> Totals:
    """PostgreSQL sums bigints as numeric; an empty set's sum is null."""
    return Totals(*(int(number or 0) for number in numbers))
