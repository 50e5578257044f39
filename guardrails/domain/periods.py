"""Budget periods: bounds computed once, here, as UTC milliseconds. Periods tile time: no gap and no overlap, in every zone.

A period begins when the wall clock of its zone *first reaches* its boundary (midnight, Monday, the reset day ...). So a day whose
midnight does not exist begins when the clock jumps over it, a midnight that comes twice counts once, and a skipped day has no period.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

FOREVER_MS = 253_402_300_799_000
"""The end of a period that never ends (the year 9999)."""


class Period(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class UnknownZone(ValueError):
    """Not a time zone of the IANA database."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """One period: from `start_ms` up to, not including, `end_ms`."""

    start_ms: int
    end_ms: int

    def holds(self, at_ms: int) -> bool:
        return self.start_ms <= at_ms < self.end_ms


@dataclass(frozen=True, slots=True)
class Era:
    """A calendar and when it came into force. A change of zone or reset day applies from the next period on, so it opens a new era there."""

    zone: str
    reset_day: int = 1
    """Month: day 1..31 (the last day where the month is shorter). Week: 1 Monday .. 7 Sunday."""
    since_ms: int = 0


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """The zone of a name. Raises UnknownZone; a name is never a path."""
    try:
        if not name or name.startswith(("/", ".")) or ".." in name:
            raise ValueError(name)
        return ZoneInfo(name)
    except (
        ValueError,
        KeyError,
        OSError,
    ) as error:  # ZoneInfoNotFoundError is a KeyError, a directory's name an OSError
        raise UnknownZone(f"{name[:64]!r} is not a known time zone; write one like Europe/Berlin") from error


def bounds_at(period: Period, eras: Sequence[Era], at_ms: int) -> Bounds:
    """The period that holds the moment. `eras` are in order of `since_ms`, the first since 0."""
    if period is Period.TOTAL:
        return Bounds(0, FOREVER_MS)
    current = max((i for i, era in enumerate(eras) if era.since_ms <= at_ms), default=0)
    found = _bounds(period, eras[current].zone, eras[current].reset_day, at_ms)
    start = max(found.start_ms, eras[current].since_ms)
    end = min(found.end_ms, eras[current + 1].since_ms) if current + 1 < len(eras) else found.end_ms
    return Bounds(start, end)


def changed(period: Period, eras: Sequence[Era], *, zone: str, reset_day: int, at_ms: int) -> tuple[Era, ...]:
    """The eras after somebody set another zone or reset day at a moment: in force when the running period ends."""
    zone_of(zone)
    running = [era for era in eras if era.since_ms <= at_ms] or list(eras[:1])
    if (running[-1].zone, running[-1].reset_day) == (zone, reset_day):
        return tuple(running[-1:])
    end = bounds_at(period, running, at_ms).end_ms
    return (running[-1], Era(zone, reset_day, end))


def _bounds(period: Period, zone: str, reset_day: int, at_ms: int) -> Bounds:
    tz = zone_of(zone)
    wall = datetime.fromtimestamp(at_ms // 1000, tz).replace(tzinfo=None, fold=0)
    mark = _mark(period, wall, reset_day)
    start, end = _reached_ms(mark, tz), _reached_ms(_next(period, mark, reset_day), tz)
    while start > at_ms:  # the clock was set back over the boundary: it had been reached before
        mark = _mark(period, mark - timedelta(seconds=1), reset_day)
        start, end = _reached_ms(mark, tz), start
    while end <= at_ms:
        mark = _next(period, mark, reset_day)
        start, end = end, _reached_ms(_next(period, mark, reset_day), tz)
    return Bounds(start, end)


def _mark(period: Period, wall: datetime, reset_day: int) -> datetime:
    """The boundary on the wall clock at or before `wall`."""
    if period is Period.HOUR:
        return wall.replace(minute=0, second=0, microsecond=0)
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return midnight
    if period is Period.WEEK:
        return midnight - timedelta(days=(midnight.isoweekday() - reset_day) % 7)
    mark = _reset(midnight.year, midnight.month, reset_day)
    if mark > midnight:
        last_month = midnight.replace(day=1) - timedelta(days=1)
        mark = _reset(last_month.year, last_month.month, reset_day)
    return mark


def _next(period: Period, mark: datetime, reset_day: int) -> datetime:
    if period is Period.HOUR:
        return mark + timedelta(hours=1)
    if period is Period.DAY:
        return mark + timedelta(days=1)
    if period is Period.WEEK:
        return mark + timedelta(days=7)
    next_month = mark.replace(day=1) + timedelta(days=32)
    return _reset(next_month.year, next_month.month, reset_day)


def _reset(year: int, month: int, reset_day: int) -> datetime:
    day = date(year, month, min(reset_day, monthrange(year, month)[1]))
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - wall-clock time, no zone yet


@lru_cache(maxsize=8192)
def _reached_ms(wall: datetime, tz: ZoneInfo) -> int:
    """When a zone's wall clock first reaches a time. In a gap: the moment of the jump."""
    first = wall.replace(tzinfo=tz, fold=0).astimezone(UTC)
    if first.astimezone(tz).replace(tzinfo=None) == wall:
        return int(first.timestamp()) * 1000
    low, high = int(wall.replace(tzinfo=tz, fold=1).astimezone(UTC).timestamp()) - 1, int(first.timestamp())
    while high - low > 1:  # the first second whose wall clock is at or past `wall`
        middle = (low + high) // 2
        if _wall(middle, tz) >= wall:
            high = middle
        else:
            low = middle
    return high * 1000


def _wall(at_s: int, tz: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_s, tz).replace(tzinfo=None)
