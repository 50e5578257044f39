"""What is told alone and what together, how fast is fast, and when a mail may come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from guardrails.domain.alerting import MOST_ALONE, Crossed, Pace, minutes_until_loud, plan, wait_s

NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)
ONE, EACH = uuid4(), uuid4()


def crossed(
    budget: UUID, counter: str, threshold: int, *, cap: int = 100, settled: int = 95, at: datetime = NOON
) -> Crossed:
    return Crossed(budget, counter, threshold, at, settled, cap)


def test_of_one_counter_only_the_highest_is_told_and_after_a_raise_the_latest() -> None:
    made = plan([crossed(ONE, "a", 50), crossed(ONE, "a", 90), crossed(ONE, "a", 75)], each=[])
    assert [one.threshold for one in made.alone] == [90]
    later = crossed(ONE, "a", 50, cap=200, at=NOON + timedelta(seconds=1))
    assert plan([crossed(ONE, "a", 100), later], each=[]).alone == (later,)


def test_a_few_values_are_told_alone_and_many_together() -> None:
    few = plan([crossed(EACH, f"v{n}", 50) for n in range(3)], each=[EACH])
    assert (len(few.alone), few.of_values) == (3, ())
    many = plan([crossed(EACH, f"v{n}", 50 + n % 2) for n in range(10_000)], each=[EACH])
    assert (many.alone, len(many.of_values), len(many.of_values[0].crossed)) == ((), 1, 10_000)
    assert many.of_values[0].crossed[0].threshold == 51
    lately = plan([crossed(EACH, "v", 50)], each=[EACH], told_lately=[EACH])
    assert (lately.alone, len(lately.of_values)) == ((), 1)


def test_many_budgets_at_once_are_bounded_the_fullest_first() -> None:
    made = plan([crossed(uuid4(), f"c{n}", 50, settled=n) for n in range(100)], each=[])
    assert len(made.alone) == MOST_ALONE
    assert made.alone[0].settled == 99
    assert made.rounded_up is not None
    assert len(made.rounded_up.crossed) == 100 - MOST_ALONE


def test_a_pace_says_when_a_line_is_reached_or_that_it_is_not() -> None:
    pace = Pace(10, timedelta(hours=1))
    assert pace.per_hour == 10
    assert pace.reaches(100, 80, NOON, None) == NOON + timedelta(hours=2)
    assert pace.reaches(100, 80, NOON, NOON + timedelta(hours=1)) is None
    assert pace.reaches(100, 100, NOON, None) == NOON
    assert Pace(0, timedelta(hours=1)).reaches(100, 80, NOON, None) is None
    assert Pace(1, timedelta(days=365)).reaches(10**15, 0, NOON, None) is None


def test_quiet_hours_may_span_midnight() -> None:
    night = (22 * 60, 7 * 60)
    assert minutes_until_loud(23 * 60, *night) == 8 * 60
    assert minutes_until_loud(6 * 60 + 59, *night) == 1
    assert minutes_until_loud(7 * 60, *night) == 0
    assert minutes_until_loud(12 * 60, *night) == 0
    assert minutes_until_loud(12 * 60, None, None) == 0


def test_tries_thin_out_and_are_spread() -> None:
    assert wait_s(0, 0) == 10
    assert wait_s(600, 0) == 300
    assert wait_s(10**6, 1) == 3600 * 1.2
