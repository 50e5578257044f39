"""Periods tile time in every zone: no gap, no overlap, boundaries where the wall clock first reaches them (F24)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.domain.periods import Bounds, Era, Period, UnknownZone, bounds_at, changed, zone_of

ZONES = [
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "America/St_Johns",
    "UTC",
]
CALENDARS = [Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH]


def ms(*date: int, zone: str = "UTC") -> int:
    return int(datetime(*date, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[arg-type]


MOMENTS = st.integers(ms(1990, 1, 1), ms(2060, 1, 1))
RESETS = {
    Period.HOUR: st.just(1),
    Period.DAY: st.just(1),
    Period.WEEK: st.integers(1, 7),
    Period.MONTH: st.integers(1, 31),
}


@given(zone=st.sampled_from(ZONES), period=st.sampled_from(CALENDARS), at=MOMENTS, data=st.data())
def test_every_moment_is_in_exactly_one_period_and_its_neighbours_touch_it(
    zone: str, period: Period, at: int, data: st.DataObject
) -> None:
    eras = (Era(zone, data.draw(RESETS[period])),)
    bounds = bounds_at(period, eras, at)
    assert bounds.holds(at)
    for inside in (bounds.start_ms, bounds.end_ms - 1, (bounds.start_ms + bounds.end_ms) // 2):
        assert bounds_at(period, eras, inside) == bounds
    assert bounds_at(period, eras, bounds.end_ms).start_ms == bounds.end_ms
    assert bounds_at(period, eras, bounds.start_ms - 1).end_ms == bounds.start_ms


@given(zone=st.sampled_from(ZONES), at=MOMENTS)
def test_a_day_begins_when_the_wall_clock_first_shows_its_date(zone: str, at: int) -> None:
    bounds = bounds_at(Period.DAY, (Era(zone),), at)
    tz = ZoneInfo(zone)
    first = datetime.fromtimestamp(bounds.start_ms / 1000, tz)
    before = datetime.fromtimestamp(bounds.start_ms / 1000 - 1, tz)
    assert before.date() < first.date()
    if first.date() != datetime(2011, 12, 31).date():
        assert first.date() - before.date() == timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
        ("Asia/Kathmandu", (2026, 6, 1), 24),
        ("America/Sao_Paulo", (2018, 11, 4), 23),  # midnight does not exist: the day begins at 01:00
        ("Pacific/Apia", (2011, 12, 31), 24),  # the 30th was skipped
        ("America/St_Johns", (2006, 10, 29), 25),  # set back over midnight at 00:01
    ],
)
def test_days_have_the_length_that_the_zone_gives_them(zone: str, day: tuple[int, int, int], hours: float) -> None:
    noon = ms(*day, 12, zone=zone)
    bounds = bounds_at(Period.DAY, (Era(zone),), noon)
    assert (bounds.end_ms - bounds.start_ms) / 3_600_000 == hours


def test_the_skipped_day_of_apia_has_no_period() -> None:
    last = bounds_at(Period.DAY, (Era("Pacific/Apia"),), ms(2011, 12, 29, 12, zone="Pacific/Apia"))
    following = bounds_at(Period.DAY, (Era("Pacific/Apia"),), last.end_ms)
    assert (
        datetime.fromtimestamp(following.start_ms / 1000, ZoneInfo("Pacific/Apia")).date().isoformat() == "2011-12-31"
    )


def test_kathmandus_hours_begin_a_quarter_past_by_utc() -> None:
    bounds = bounds_at(Period.HOUR, (Era("Asia/Kathmandu"),), ms(2026, 1, 1, 12, 20))
    assert datetime.fromtimestamp(bounds.start_ms / 1000, UTC).minute == 15


@pytest.mark.parametrize(
    ("reset", "at", "start", "end"),
    [
        (31, (2026, 2, 15), (2026, 1, 31), (2026, 2, 28)),
        (31, (2028, 2, 29), (2028, 2, 29), (2028, 3, 31)),
        (15, (2026, 1, 14), (2025, 12, 15), (2026, 1, 15)),
        (1, (2026, 12, 31), (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_a_reset_day_beyond_the_month_is_its_last_day(
    reset: int, at: tuple[int, ...], start: tuple[int, ...], end: tuple[int, ...]
) -> None:
    assert bounds_at(Period.MONTH, (Era("UTC", reset),), ms(*at, 12)) == Bounds(ms(*start), ms(*end))


@given(
    before=st.sampled_from(ZONES),
    after=st.sampled_from(ZONES),
    period=st.sampled_from(CALENDARS),
    at=MOMENTS,
    later=st.integers(0, 3 * 10**9),
)
def test_another_zone_applies_from_the_next_period_on_without_gap_or_overlap(
    before: str, after: str, period: Period, at: int, later: int
) -> None:
    old = (Era(before),)
    running = bounds_at(period, old, at)
    eras = changed(period, old, zone=after, reset_day=1, at_ms=at)
    assert bounds_at(period, eras, at) == running
    moment = at + later
    bounds = bounds_at(period, eras, moment)
    assert bounds.holds(moment)
    assert bounds_at(period, eras, bounds.end_ms).start_ms == bounds.end_ms
    assert bounds_at(period, eras, bounds.start_ms - 1).end_ms == bounds.start_ms or bounds.start_ms == running.start_ms


def test_moving_back_and_forth_within_a_period_changes_nothing() -> None:
    at = ms(2026, 5, 5)
    there = changed(Period.DAY, (Era("UTC"),), zone="Asia/Tokyo", reset_day=1, at_ms=at)
    back = changed(Period.DAY, there, zone="UTC", reset_day=1, at_ms=at)
    assert bounds_at(Period.DAY, back, at + 5 * 86_400_000) == bounds_at(Period.DAY, (Era("UTC"),), at + 5 * 86_400_000)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "x" * 5000, "Europe/Berlin\0"]
)
def test_an_unknown_zone_is_named_as_such(name: str) -> None:
    with pytest.raises(UnknownZone, match="time zone"):
        zone_of(name)


def test_a_budget_in_total_has_one_period() -> None:
    assert bounds_at(Period.TOTAL, (Era("UTC"),), 0) == bounds_at(Period.TOTAL, (Era("UTC"),), ms(2059, 1, 1))
