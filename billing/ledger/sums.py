"""Sums from the rollups: of a range, by one or two dimensions, over time. The dearest are ranked before the others are added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform

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
)
from billing.ledger.rollups import MEASURES, NO_HOURS, NO_MONTHS, zone
from billing.models import RollupDay, RollupDetail, RollupHour, RollupMonth
from workspaces.models import Workspace

MOST_DAYS_BY_HOUR: Final = 62
MOST_TAGS_SHOWN: Final = 30


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
    check_grouping(dimensions, filters)
    _check_rank(rank_by)
    single = _single(dimensions, filters)
    if single is None:
        shown = _ranked_details(workspace, days, dimensions, filters, limit, rank_by) if only is None else list(only)
        return _grouped_details(workspace, days, dimensions, filters, shown)
    segments = list(_calendar(days, monthly=single not in NO_MONTHS))
    values = None
    if dimensions:
        dearest = only is None
        values = (
            _dearest(workspace, segments, single, filters, limit, rank_by)
            if dearest
            else [value for (value,) in only or ()]
        )
    merged: dict[str, Totals] = {}
    for model, column, first, last in segments:
        rows = _values(model, column, workspace, single, first, last, filters)
        by = "dimension"  # one value: no group
        if values is not None:
            rows, by = _only_values(rows, column, first, last, values), "value"
        for group, *numbers in rows.values(by).annotate(**_sums()).values_list(by, *_SUM_NAMES):
            merged[group] = merged.get(group, Totals()) + _totals(numbers)
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
    check_grouping(dimensions, filters)
    _check_rank(rank_by)
    single = _single(dimensions, filters)
    if single is None:
        return [
            tuple(v or "" for v in one) for one in _ranked_details(workspace, days, dimensions, filters, limit, rank_by)
        ]
    segments = list(_calendar(days, monthly=single not in NO_MONTHS))
    return [(value,) for value in _dearest(workspace, segments, single, filters, limit, rank_by)]


def hours_so_far(workspace: Workspace, now: datetime) -> tuple[Totals, Totals]:
    """Today until now, and yesterday until the same time on the clock: a fair comparison for a day that is not over. Whole hours of
    the rollup, so yesterday's running hour counts as far as it is a whole one."""
    inside(workspace)
    clock = zone(workspace.time_zone)
    local = now.astimezone(clock)
    midnight = datetime.combine(local.date(), time(), clock)
    day_before = datetime.combine(local.date() - timedelta(days=1), time(), clock)
    until = datetime.combine(local.date() - timedelta(days=1), local.time(), clock)
    rows = RollupHour.objects.filter(workspace_id=workspace.pk, dimension="", hour__gte=day_before, hour__lte=now)
    today_sums, yesterday = Totals(), Totals()
    for hour, *numbers in rows.values_list("hour", *MEASURES):
        if hour >= midnight:
            today_sums += Totals(*numbers)
        elif hour < until.astimezone(UTC):
            yesterday += Totals(*numbers)
    return today_sums, yesterday


def known_tags(workspace: Workspace, days: Days) -> list[str]:
    """The tags that calls of the range had, as dimensions ("tag:plan"), by name."""
    inside(workspace)
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
    """The values to show, ranked by one measure before the others are added up."""
    tables = [(model._meta.db_table, column, first, last) for model, column, first, last in segments]
    return ranking.dearest(
        workspace.pk, tables, dimension, limit=limit, measure=RANKS[rank_by], value=filters.get(dimension)
    )


def _ranked_details(
    workspace: Workspace, days: Days, dimensions: Sequence[str], filters: Filters, limit: int, rank_by: str
) -> list[Any]:
    rows, names = _details(workspace, days, dimensions, filters)
    if not names:
        return []
    found = rows.values(*names).annotate(measure=Sum(_measure(rank_by))).order_by(F("measure").desc(), *names)
    return list(found.values_list(*names)[:limit])


def _measure(rank_by: str) -> Any:
    first, *others = RANKS[rank_by].split(" + ")
    return sum((F(name) for name in others), start=F(first))


def _grouped_details(
    workspace: Workspace, days: Days, dimensions: Sequence[str], filters: Filters, shown: Sequence[tuple[str, ...]]
) -> list[Row]:
    rows, names = _details(workspace, days, dimensions, filters)
    if not names:  # `values()` of nothing would group by everything
        whole = rows.aggregate(**_sums())
        return [Row((), _totals([whole[name] for name in _SUM_NAMES]))]
    for place, name in enumerate(names):
        wanted = {values[place] for values in shown}
        # A tag that a call does not have is NULL, which no list contains.
        absent = Q(**{f"{name}__isnull": True}) if wanted & {None, ""} and name.startswith("tag_") else Q()
        rows = rows.filter(Q(**{f"{name}__in": wanted - {None}}) | absent)
    sums = rows.values(*names).annotate(**_sums()).values_list(*names, *_SUM_NAMES)
    found: dict[tuple[str, ...], Totals] = {}
    for row in sums:
        key = tuple(value or "" for value in row[: len(names)])
        found[key] = found.get(key, Totals()) + _totals(row[len(names) :])
    plain = [tuple(value or "" for value in values) for values in shown]
    return [Row(values, found[values]) for values in dict.fromkeys(plain) if values in found]


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
        merged[key] = merged.get(key, Totals()) + Totals(*numbers)
    return _points(merged)


def _detailed_series(
    workspace: Workspace,
    days: Days,
    granularity: Granularity,
    dimensions: Sequence[str],
    filters: Filters,
    values: Sequence[str] | None,
) -> list[Point]:
    rows, names = _details(workspace, days, dimensions, filters)
    if values is not None and names:
        rows = rows.filter(**{f"{names[0]}__in": values})
    merged: dict[tuple[Any, str], Totals] = {}
    for start, *rest in rows.values("day", *names).annotate(**_sums()).values_list("day", *names, *_SUM_NAMES):
        key = (_bucket(start, granularity), (rest[0] or "") if names else "")
        merged[key] = merged.get(key, Totals()) + _totals(rest[len(names) :])
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


def _calendar(days: Days, *, monthly: bool) -> Iterator[Segment]:
    """A range as whole months from monthly rows and the days at both ends."""
    first_month = days.first if days.first.day == 1 else _next_month(days.first)
    after = _next_month(days.last) if (days.last + timedelta(days=1)).day == 1 else days.last.replace(day=1)
    if first_month >= after or not monthly:
        yield RollupDay, "day", days.first, days.last
        return
    if days.first < first_month:
        yield RollupDay, "day", days.first, first_month - timedelta(days=1)
    yield RollupMonth, "month", first_month, after - timedelta(days=1)
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


def _details(
    workspace: Workspace, days: Days, dimensions: Sequence[str], filters: Filters
) -> tuple[QuerySet[Any], list[str]]:
    """Daily combinations that pass the filters, with a column for each dimension grouped by."""
    rows: QuerySet[Any] = RollupDetail.objects.filter(
        workspace_id=workspace.pk, day__gte=days.first, day__lte=days.last
    )
    names = []
    for place, name in enumerate((*dimensions, *filters)):
        column = name
        if name.startswith(TAG):
            column = f"tag_{place}"
            rows = rows.annotate(**{column: KeyTextTransform(name.removeprefix(TAG), "tags")})
        if place < len(dimensions):
            names.append(column)
        else:
            rows = rows.filter(**{column: filters[name]})
    return rows, names


_SUM_NAMES: Final = tuple(f"sum_{name}" for name in MEASURES)


def _sums() -> dict[str, Sum]:
    return {f"sum_{name}": Sum(name) for name in MEASURES}


def _totals(numbers: Sequence[Any]) -> Totals:
    """PostgreSQL sums bigints as numeric; an empty set's sum is null."""
    return Totals(*(int(number or 0) for number in numbers))
