"""What a question to the books consists of: days, dimensions, filters; and the sums that answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from operator import add, attrgetter, sub
from typing import Final

from django.db import connection

from billing.domain.dimensions import MAX_TAG_KEY_CHARS, Dimension
from billing.ledger.rollups import MEASURES, zone
from workspaces import narrowing
from workspaces.errors import Invalid
from workspaces.models import Workspace

TAG: Final = "tag:"
MOST_DAYS: Final = 366 * 10


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
        return Totals(*map(add, _numbers(self), _numbers(other)))

    def __sub__(self, other: Totals) -> Totals:
        return Totals(*map(sub, _numbers(self), _numbers(other)))

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


_numbers: Final = attrgetter(*MEASURES)

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


def check_grouping(dimensions: Sequence[str], filters: Filters) -> None:
    if len(dimensions) > 2 or len(set(dimensions)) < len(dimensions):
        raise CannotAnswer("group by at most two different dimensions")
    for name in (*dimensions, *filters):
        check_dimension(name)


def moments(workspace: Workspace, days: Days) -> tuple[datetime, datetime]:
    """First moment of the range and the first after it, on the workspace's clock."""
    clock = zone(workspace.time_zone)
    first = datetime.combine(days.first, time(), clock)
    end = datetime.combine(days.last + timedelta(days=1), time(), clock)
    return first.astimezone(UTC), end.astimezone(UTC)


def narrowed(filters: Filters) -> Filters:
    """The filters, and a lead's department among them. Raises CannotAnswer for another department."""
    own = narrowing.department()
    if own is None:
        return filters
    if filters.get(Dimension.DEPARTMENT, own) != own:
        raise CannotAnswer("You see your own department only.", field=Dimension.DEPARTMENT)
    return {**filters, Dimension.DEPARTMENT.value: own}


def inside(workspace: Workspace) -> None:
    entered: str = connection.schema_name  # type: ignore[attr-defined]  # django-tenants' connection
    if entered != workspace.schema_name:
        raise RuntimeError(f"not inside workspace {workspace}: its rows are hidden from {entered}")
