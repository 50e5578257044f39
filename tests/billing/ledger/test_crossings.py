"""Crossings are told against the cap in force, once a cap, and again only when they are news; and old ones leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.domain.events import CallContext, Charge, Kind, StreamEvent
from billing.ledger import crossings, retention
from billing.ledger.lines import line_of
from billing.models import BudgetLine, BudgetTotal, Crossing
from tests.rig.effort import examples
from workspaces import tenancy
from workspaces.ids import uuid7

pytestmark = pytest.mark.django_db

WS = 42
START_MS = 1_761_955_200_000
"""Of the period that everything happens in: November 2025."""
END_MS = START_MS + 30 * 86_400_000
HOUR_MS = 3_600_000
THRESHOLDS = (50, 75, 90, 100)


class Story:
    """One budget's counter in the database, and a clock."""

    def __init__(self, cap: int = 100) -> None:
        self.budget, self.now_ms, self.cap = uuid4(), START_MS + HOUR_MS, cap
        self.counter = f"b:{self.budget}:{START_MS}"
        self.raises: list[list[int]] = []
        self._write()

    def spend(self, amount: int) -> None:
        event = StreamEvent(
            "1-1", Kind.SETTLE if amount >= 0 else Kind.ADJUST, WS, 1, str(uuid7(self.now_ms)), self.now_ms, amount, 0,
            (Charge(self.counter, "nano", amount),), CallContext(call="", key="", provider="p", model="m", endpoint="/"), None,
        )  # fmt: skip
        with tenancy.every_workspace("tests"), connection.cursor() as cursor:
            crossings.add_to_totals(cursor, [line_of(event)])

    def set_cap(self, cap: int) -> None:
        self.cap = cap
        self._write()

    def grant(self, amount: int, hours: int) -> None:
        until = self.now_ms + hours * HOUR_MS
        self.raises.append([amount, START_MS, START_MS if until < END_MS else END_MS, until])
        self._write()

    def wait(self, hours: int) -> None:
        self.now_ms += hours * HOUR_MS

    def recheck(self) -> int:
        return crossings.recheck(datetime.fromtimestamp(self.now_ms / 1000, UTC))

    @property
    def in_force(self) -> int:
        return self.cap + sum(amount for amount, _, _, until in self.raises if self.now_ms < until)

    @property
    def told(self) -> list[tuple[int, int]]:
        """(threshold, cap), in the order they were told."""
        with tenancy.every_workspace("tests"):
            rows = Crossing.objects.filter(budget_id=self.budget).order_by("id")
            return list(rows.values_list("threshold", "cap"))

    def _write(self) -> None:
        """As guardrails does with each change."""
        with tenancy.every_workspace("tests"):
            BudgetLine.objects.bulk_create(
                [
                    BudgetLine(
                        budget_id=self.budget, workspace_id=WS, name="b", unit="nano", cap=self.cap, cap_before=self.cap,
                        thresholds=list(THRESHOLDS), raises=self.raises, recheck_start_ms=START_MS,
                        recheck_at=datetime.fromtimestamp(self.now_ms / 1000, UTC),
                    )
                ],
                update_conflicts=True, unique_fields=["budget_id"], update_fields=["cap", "raises", "recheck_at", "recheck_start_ms"],
            )  # fmt: skip


def test_after_a_raise_ninety_percent_of_the_raised_cap_is_told_again_and_what_is_still_crossed_is_not() -> None:
    story = Story(cap=100)
    story.spend(95)
    story.grant(20, hours=48)  # 95 of 120: 79%
    story.recheck()
    story.spend(10)  # 87%
    story.spend(5)  # 91%
    assert story.told == [(50, 100), (75, 100), (90, 100), (90, 120)]


def test_when_a_raise_ends_above_the_cap_itself_it_is_told_although_no_call_follows() -> None:
    story = Story(cap=100)
    story.grant(100, hours=2)
    story.recheck()
    story.spend(130)
    story.wait(1)
    assert story.recheck() == 0
    story.wait(1)
    story.recheck()
    assert sorted(story.told) == [(50, 200), (75, 100), (90, 100), (100, 100)]
    assert story.recheck() == 0


def test_a_cap_lowered_below_what_was_spent_is_told_although_no_call_follows() -> None:
    story = Story(cap=100)
    story.spend(40)
    story.set_cap(40)
    story.recheck()
    assert sorted(threshold for threshold, cap in story.told if cap == 40) == [50, 75, 90, 100]


def test_a_raise_until_the_end_of_the_period_counts_for_its_late_calls_too() -> None:
    story = Story(cap=100)
    story.grant(100, hours=29 * 24 + 23)
    story.spend(95)
    story.now_ms = END_MS + HOUR_MS
    story.spend(10)
    assert story.told == [(50, 200)]


@settings(
    max_examples=examples(15, one_in=3), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("spend"), st.integers(-30, 60).filter(bool)),
            st.tuples(st.just("set_cap"), st.sampled_from((40, 100, 105, 250))),
            st.tuples(st.just("grant"), st.sampled_from((10, 100)), st.integers(1, 5)),
            st.tuples(st.just("wait"), st.integers(1, 4)),
        ),
        max_size=12,
    )
)
def test_crossings_are_those_of_the_definition_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    """A crossing is a threshold that is passed and was not a step before; once for each cap in force."""
    story, settled = Story(), 0
    expected: list[tuple[int, int]] = []
    passed = dict.fromkeys(THRESHOLDS, False)
    for name, *arguments in steps:
        getattr(story, name)(*arguments)
        story.recheck()
        settled += arguments[0] if name == "spend" else 0
        for threshold in THRESHOLDS:
            is_passed = settled * 100 >= story.in_force * threshold
            news = (threshold, story.in_force)
            if is_passed and not passed[threshold] and news not in expected:
                expected.append(news)
            passed[threshold] = is_passed
    assert sorted(story.told) == sorted(expected)
    with tenancy.every_workspace("tests, between examples"):
        Crossing.objects.all().delete()


def test_totals_and_crossings_of_long_ended_periods_leave_and_those_that_never_end_stay() -> None:
    now = datetime.now(UTC)
    budget, digest = uuid4(), "0" * 32
    ages = {0: None, 40: None, 100: None, 390: None, 400: None}
    with tenancy.every_workspace("tests"):
        for days in ages:
            start = now - timedelta(days=days)
            _total(budget, start, "")
            _total(budget, start, digest)
        _total(budget, datetime(1970, 1, 1, tzinfo=UTC), "")
        _total(budget, datetime(1970, 1, 1, tzinfo=UTC), digest)
    assert retention.retire(now, batch=2) == retention.Retired(4, 4)
    with tenancy.every_workspace("tests"):
        left = list(BudgetTotal.objects.values_list("counter", flat=True))
        assert len(left) == Crossing.objects.count() == 8
    assert all(retention.is_kept(counter, now) for counter in left)
    assert retention.retire(now) == retention.Retired()


def _total(budget: UUID, start: datetime, digest: str) -> None:
    counter = f"b:{budget}:{int(start.timestamp() * 1000)}" + (f":{digest}" if digest else "")
    common: dict[str, Any] = {"workspace_id": WS, "counter": counter, "budget_id": budget, "period_start": start}
    BudgetTotal.objects.create(**common, unit="nano", settled=5)
    Crossing.objects.create(**common, threshold=50, at=start, settled=5, cap=10, recorded_at=start)
