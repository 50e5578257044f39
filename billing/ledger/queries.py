"""Reading the books: sums from rollups, calls from the ledger, and how far the books lag behind the gate.

Every function is called inside the workspace (`tenancy.entered`) and says so if it is not: row-level security would answer with
silent zeros. Days, weeks and months are those of the workspace's own clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform

from billing.domain.dimensions import MAX_TAG_KEY_CHARS, Dimension
from billing.domain.keys import partition_of
from billing.ledger import ranking
from billing.ledger.rollups import MEASURES, NO_HOURS, NO_MONTHS, zone
from billing.ledger.stream import MoneyStream
from billing.models import (
    DeadLetter,
    Entry,
    OpenAttempt,
    RollupDay,
    RollupDetail,
    RollupHour,
    RollupMonth,
    SequenceMark,
    StreamOffset,
)
from workspaces.errors import Invalid
from workspaces.ids import made_at_ms
from workspaces.models import Workspace

TAG: Final = "tag:"
MOST_DAYS: Final = 366 * 10
MOST_DAYS_BY_HOUR: Final = 62
MOST_TAGS_SHOWN: Final = 30


class CannotAnswer(Invalid):
    """The question is malformed or beyond what rollups keep. The message says what to ask instead."""


class Granularity(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over calls; see `models.Measures`. `cost_nano` includes `assumed_nano`, which is an unconfirmed upper bound."""

    calls: int = 0
    attempts: int = 0
    errors: int = 0
    voids: int = 0
    cost_nano: int = 0
    assumed_nano: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    duration_ms: int = 0
    timed: int = 0
    first_byte_ms: int = 0
    first_bytes: int = 0
    overhead_us: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, name) + getattr(other, name) for name in MEASURES))

    def __sub__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, name) - getattr(other, name) for name in MEASURES))

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + self.output_tokens

    @property
    def cost_per_call_nano(self) -> int | None:
        return self.cost_nano // self.calls if self.calls else None

    @property
    def mean_duration_ms(self) -> int | None:
        return self.duration_ms // self.timed if self.timed else None

    @property
    def mean_first_byte_ms(self) -> int | None:
        return self.first_byte_ms // self.first_bytes if self.first_bytes else None

    @property
    def error_share(self) -> float | None:
        """0 to 1."""
        return self.errors / self.attempts if self.attempts else None


if tuple(field.name for field in fields(Totals)) != MEASURES:
    raise TypeError("Totals must have the measures of the rollups, in their order")


@dataclass(frozen=True, slots=True)
class Days:
    """Whole days of the workspace's calendar, both ends included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise CannotAnswer("the range ends before it begins")
        if (self.last - self.first).days > MOST_DAYS:
            raise CannotAnswer("a range can be at most ten years")

    def before(self) -> Days:
        """As many days just before: the previous period."""
        length = self.last - self.first + timedelta(days=1)
        return Days(self.first - length, self.last - length)


@dataclass(frozen=True, slots=True)
class Row:
    """One value (or pair of values) of the dimensions grouped by. An empty value: calls without one."""

    values: tuple[str, ...]
    totals: Totals

    @property
    def value(self) -> str:
        return self.values[0]


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a series. `start` is a date, or for hours a moment."""

    start: date | datetime
    value: str
    totals: Totals


Filters = Mapping[str, str]
"""Dimension (or "tag:<key>") -> the value it must have."""
NO_FILTERS: Final[Filters] = {}


def today(workspace: Workspace, now: datetime) -> date:
    return now.astimezone(zone(workspace.time_zone)).date()


def month_to_date(workspace: Workspace, now: datetime) -> Days:
    last = today(workspace, now)
    return Days(last.replace(day=1), last)


def check_dimension(name: str) -> str:
    """A dimension's name, or "tag:<key>". Raises CannotAnswer naming the ones there are."""
    if name in _DIMENSIONS or (name.startswith(TAG) and 0 < len(name) - len(TAG) <= MAX_TAG_KEY_CHARS):
        return name
    raise CannotAnswer(f"unknown dimension {name[:40]!r}: use one of {', '.join(_DIMENSIONS)} or tag:<key>")


_DIMENSIONS: Final = tuple(dimension.value for dimension in Dimension)


# --- Sums -------------------------------------------------------------------------------------------------------------
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
    _inside(workspace)
    _check(dimensions, filters)
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
    _inside(workspace)
    _check(dimensions, filters)
    _check_rank(rank_by)
    single = _single(dimensions, filters)
    if single is None:
        return [
            tuple(v or "" for v in one) for one in _ranked_details(workspace, days, dimensions, filters, limit, rank_by)
        ]
    segments = list(_calendar(days, monthly=single not in NO_MONTHS))
    return [(value,) for value in _dearest(workspace, segments, single, filters, limit, rank_by)]


@dataclass(frozen=True, slots=True)
class Mover:
    """A value whose spend changed, and by how much."""

    dimension: str
    value: str
    now_nano: int
    before_nano: int

    @property
    def change_nano(self) -> int:
        return self.now_nano - self.before_nano


def movers(workspace: Workspace, days: Days, dimensions: Sequence[str], *, limit: int = 8) -> list[Mover]:
    """The values whose spend differs most from that of as many days before, of any of the dimensions."""
    _inside(workspace)
    _check((), dict.fromkeys(dimensions, ""))
    before = days.before()
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVERS,
            {
                "workspace": workspace.pk, "dimensions": list(dimensions), "first": days.first, "limit": limit,
                "months": sorted({day.replace(day=1) for day in ranking.days_between(before.first, days.last)}),
                "days": ranking.days_between(before.first, days.last), "candidates": MOVER_CANDIDATES,
            },
        )  # fmt: skip
        return [Mover(name, value, int(now or 0), int(was or 0)) for name, value, now, was in cursor.fetchall()]


MOVER_CANDIDATES: Final = 400
"""The values of each dimension that are looked at: those that spent most in the months concerned. Who is not among them moved less than
the last of them spent."""
_MOVERS: Final = """
WITH candidates AS (
    SELECT dimension, value FROM (
        SELECT dimension, value, row_number() OVER (PARTITION BY dimension ORDER BY sum(cost_nano) DESC) AS place
        FROM billing_rollup_month
        WHERE workspace_id = %(workspace)s AND dimension = ANY(%(dimensions)s) AND month = ANY(%(months)s)
        GROUP BY dimension, value
    ) AS ranked WHERE place <= %(candidates)s
)
SELECT r.dimension, r.value, sum(r.cost_nano) FILTER (WHERE r.day >= %(first)s), sum(r.cost_nano) FILTER (WHERE r.day < %(first)s)
FROM unnest(%(days)s::date[]) AS d(day)
CROSS JOIN candidates AS c
JOIN billing_rollup_day AS r ON r.workspace_id = %(workspace)s AND r.dimension = c.dimension AND r.day = d.day AND r.value = c.value
GROUP BY r.dimension, r.value
ORDER BY abs(sum(CASE WHEN r.day >= %(first)s THEN r.cost_nano ELSE -r.cost_nano END)) DESC, r.dimension, r.value LIMIT %(limit)s
"""


def hours_so_far(workspace: Workspace, now: datetime) -> tuple[Totals, Totals]:
    """Today until now, and yesterday until the same time on the clock: a fair comparison for a day that is not over. Whole hours of
    the rollup, so yesterday's running hour counts as far as it is a whole one."""
    _inside(workspace)
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
    _inside(workspace)
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
    _inside(workspace)
    dimensions = (dimension,) if dimension else ()
    _check(dimensions, filters)
    single = _single(dimensions, filters)
    if granularity is Granularity.HOUR:
        if single is None or single in NO_HOURS:
            raise CannotAnswer("hours are kept for one dimension at a time, not for users or sessions: ask by day")
        if (days.last - days.first).days >= MOST_DAYS_BY_HOUR:
            raise CannotAnswer(f"ask for at most {MOST_DAYS_BY_HOUR} days by the hour")
        first, end = _moments(workspace, days)
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


def _check(dimensions: Sequence[str], filters: Filters) -> None:
    if len(dimensions) > 2 or len(set(dimensions)) < len(dimensions):
        raise CannotAnswer("group by at most two different dimensions")
    for name in (*dimensions, *filters):
        check_dimension(name)


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


def _moments(workspace: Workspace, days: Days) -> tuple[datetime, datetime]:
    """First moment of the range and the first after it."""
    clock = zone(workspace.time_zone)
    first = datetime.combine(days.first, time(), clock)
    end = datetime.combine(days.last + timedelta(days=1), time(), clock)
    return first.astimezone(UTC), end.astimezone(UTC)


def moments(workspace: Workspace, days: Days) -> tuple[datetime, datetime]:
    """First moment of the range and the first after it, for queries of the entered workspace elsewhere in billing."""
    _inside(workspace)
    return _moments(workspace, days)


def _inside(workspace: Workspace) -> None:
    entered: str = connection.schema_name  # type: ignore[attr-defined]  # django-tenants' connection
    if entered != workspace.schema_name:
        raise RuntimeError(f"not inside workspace {workspace}: its rows are hidden from {entered}")


# --- Calls ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LoggedCall:
    """An attempt as the call log shows it: its charge, and its corrections in their order."""

    charge: Entry
    corrections: tuple[Entry, ...] = ()

    @property
    def correction(self) -> Entry | None:
        """The last one."""
        return self.corrections[-1] if self.corrections else None

    @property
    def cost_nano(self) -> int:
        return self.charge.cost_nano + sum(correction.cost_nano for correction in self.corrections)

    @property
    def latest(self) -> Entry:
        """The line that knows most: the last correction, if any. Its tokens are those it added: ask `told` for the attempt's."""
        return self.correction or self.charge

    @property
    def told(self) -> Entry:
        """The line that the answer itself made: the charge, or the truth that corrected it. Later ones only changed the price."""
        return next((line for line in self.corrections if line.leg == 1), self.charge)

    @property
    def basis(self) -> str:
        return self.latest.basis

    @property
    def cursor(self) -> str:
        """Where this call stands in the log, for `recent_calls(after=...)`."""
        return str(self.charge.rid)


def recent_calls(
    workspace: Workspace,
    *,
    limit: int = 50,
    after: UUID | None = None,
    filters: Filters = NO_FILTERS,
    failed: bool | None = None,
    days: Days | None = None,
) -> list[LoggedCall]:
    """The call log, newest first. `after`: the cursor of the last call of the page before."""
    _inside(workspace)
    rows: QuerySet[Entry] = Entry.objects.filter(workspace_id=workspace.pk, leg=0, call_id__isnull=False)
    if days is not None:
        first, end = _moments(workspace, days)
        rows = rows.filter(at__gte=first, at__lt=end)
    for name, value in filters.items():
        check_dimension(name)
        rows = rows.filter(**{f"tags__{name.removeprefix(TAG)}" if name.startswith(TAG) else name: value})
    if failed is not None:
        broken = Q(http_status__gte=400) | ~Q(error="")
        rows = rows.filter(broken if failed else ~broken)
    if after is not None:
        try:
            at = datetime.fromtimestamp(made_at_ms(after) / 1000, UTC)
        except ValueError:
            raise CannotAnswer("not a cursor of the call log") from None
        rows = rows.filter(Q(at__lt=at) | Q(at=at, rid__lt=after))
        rows = rows.filter(at__lte=at)  # says the same to the planner, which then reads the index from there
    return _with_corrections(workspace, list(rows.order_by("-at", "-rid")[:limit]))


def attempts_of(workspace: Workspace, call_id: UUID) -> list[LoggedCall]:
    """All attempts of one call, first one first; none when there is no such call here."""
    _inside(workspace)
    try:
        made = datetime.fromtimestamp(made_at_ms(call_id) / 1000, UTC)
    except ValueError:
        return []
    # A call's attempts are admitted soon after its id is made: the index finds them without one on call_id.
    window = (made - timedelta(seconds=10), made + timedelta(hours=1))
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__range=window, call_id=call_id, leg=0)
    return _with_corrections(workspace, list(rows.order_by("attempt", "at")))


def _with_corrections(workspace: Workspace, charges: list[Entry]) -> list[LoggedCall]:
    if not charges:
        return []
    times = [charge.at for charge in charges]
    rows = Entry.objects.filter(
        workspace_id=workspace.pk,
        leg__gt=0,
        at__range=(min(times), max(times)),
        rid__in=[charge.rid for charge in charges],
    )
    corrections: dict[UUID, list[Entry]] = {}
    for row in rows.order_by("leg"):
        corrections.setdefault(row.rid, []).append(row)
    return [LoggedCall(charge, tuple(corrections.get(charge.rid, ()))) for charge in charges]


def call_of(workspace: Workspace, given: UUID) -> UUID | None:
    """The call that an id names: its own, or one of its attempts'. None where the books have neither."""
    _inside(workspace)
    try:
        made = datetime.fromtimestamp(made_at_ms(given) / 1000, UTC)
    except ValueError:
        return None
    window = (made - timedelta(seconds=10), made + timedelta(hours=1))
    rows = Entry.objects.filter(workspace_id=workspace.pk, at__range=window, leg=0)
    return rows.filter(Q(call_id=given) | Q(rid=given)).values_list("call_id", flat=True).first()


def dimensions_with(workspace: Workspace, value: str) -> list[str]:
    """The dimensions that a call ever had this value in, as far as the months' rollup knows (sessions: the days')."""
    _inside(workspace)
    names = [name for name in _DIMENSIONS if name not in NO_MONTHS]
    rows = RollupMonth.objects.filter(workspace_id=workspace.pk, dimension__in=names, value=value)
    found = set(rows.values_list("dimension", flat=True).distinct())
    if not found:
        kept = RollupDay.objects.filter(workspace_id=workspace.pk, dimension__in=list(NO_MONTHS), value=value)
        found = set(kept.values_list("dimension", flat=True)[:1])
    return [name for name in _SEARCHED if name in found]


_SEARCHED: Final = (
    "customer", "feature", "agent", "model", "user", "session", "member", "department", "virtual_key", "environment", "provider",
)  # fmt: skip
"""Where a word that fits several dimensions is meant first."""


def open_attempts(workspace: Workspace) -> int:
    """Calls that are held and not ended, as far as the books know."""
    _inside(workspace)
    return OpenAttempt.objects.filter(workspace_id=workspace.pk).count()


# --- How far the books can be trusted ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Trust:
    """What a page says beside its numbers."""

    lag_s: float
    """Age of the oldest event of the workspace's partition that is not booked yet; 0: none waits."""
    quarantined: int
    """Events set aside."""
    missing: int
    """Numbers of events never seen."""


def trust(workspace: Workspace, stream: MoneyStream, now: datetime) -> Trust:
    _inside(workspace)
    gaps = SequenceMark.objects.filter(workspace_id=workspace.pk).values_list("gaps", flat=True).first() or []
    return Trust(
        lag_s=lag_s(stream, partition_of(workspace.pk), now),
        quarantined=DeadLetter.objects.filter(workspace_id=workspace.pk).count(),
        missing=sum(last - first + 1 for first, last in gaps),
    )


def lag_s(stream: MoneyStream, partition: int, now: datetime) -> float:
    """Seconds that the oldest unbooked event of a partition has waited."""
    last_id = StreamOffset.objects.filter(partition=partition).values_list("last_id", flat=True).first() or ""
    waiting = [entry for entry in stream.read_from(partition, last_id, 2) if entry.id != last_id]
    if not waiting:
        return 0.0
    return max(0.0, now.timestamp() - int(waiting[0].id.partition("-")[0]) / 1000)
