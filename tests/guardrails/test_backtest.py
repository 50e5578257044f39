"""The past under a budget that was not there: nothing is lost, nothing passes the cap, and a larger cap never blocks more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from billing.ledger import partitions
from billing.models import RollupDay, RollupHour
from guardrails import drafts
from guardrails.domain.backtest import Bucket, merged, outlook, replay
from guardrails.domain.budgets import Budget, Scope, Strategy
from guardrails.domain.periods import Era, Period
from tests.cast import Cast
from tests.rig.effort import examples
from workspaces import tenancy

HOUR = 3_600_000
DAY = 24 * HOUR
START = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp() * 1000)


def rule(cap: int, period: Period = Period.DAY, **more: Any) -> Budget:
    return Budget("0198c0de-0000-7000-8000-000000000001", "b", cap, period, (Era("Europe/Berlin"),), **more)


def hours(*amounts: int, first: int = 0, calls: int = 10) -> list[Bucket]:
    return [
        Bucket(START + (first + n) * HOUR, START + (first + n + 1) * HOUR, amount, calls)
        for n, amount in enumerate(amounts)
    ]


pasts = st.dictionaries(st.integers(0, 24 * 40), st.tuples(st.integers(0, 500), st.integers(1, 50)), max_size=30).map(
    lambda found: [Bucket(START + hour * HOUR, START + (hour + 1) * HOUR, *found[hour]) for hour in sorted(found)]
)
unhurried = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
throttles = st.one_of(st.none(), st.integers(50, 100))


@unhurried
@given(
    pasts,
    st.integers(1, 3000),
    st.sampled_from([Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH]),
    throttles,
    st.integers(0, 5),
)
def test_whatever_was_used_is_allowed_slowed_or_blocked_and_never_more_than_the_cap_is_allowed(
    past: list[Bucket], cap: int, period: Period, throttle: int | None, per_minute: int
) -> None:
    budget = rule(cap, period, throttle_percent=throttle, throttle_per_minute=per_minute)
    found = replay(budget, past)
    assert sum(one.used for one in found) == sum(bucket.amount for bucket in past)
    assert all(one.allowed <= cap and one.slowed >= 0 and one.blocked >= 0 for one in found)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(found))
    for one in found:
        assert (one.kill_ms is not None) == (one.blocked > 0)
        assert one.blocked_calls <= sum(bucket.calls for bucket in past)
    if throttle is None:
        for one in found:
            used = sum(bucket.amount for bucket in past if one.start_ms <= bucket.start_ms < one.end_ms)
            assert one.blocked == max(0, used - cap), "without a throttle the cap alone decides, to the last unit"


@unhurried
@given(pasts, st.integers(1, 2000), st.integers(0, 2000), st.sampled_from([Period.DAY, Period.MONTH]))
def test_a_larger_cap_never_blocks_more(past: list[Bucket], cap: int, more: int, period: Period) -> None:
    assert merged(replay(rule(cap + more, period), past)).blocked <= merged(replay(rule(cap, period), past)).blocked


def test_the_moment_is_the_hour_in_which_a_stage_began_and_the_next_day_starts_anew() -> None:
    found = replay(rule(100), hours(30, 30, 30, 30, 30, first=4) + hours(10, first=28))
    assert len(found) == 2
    first = found[0]
    assert (first.allowed, first.blocked, first.blocked_calls) == (100, 50, 17)
    assert (first.alert_ms, first.kill_ms) == (START + 6 * HOUR, START + 7 * HOUR)
    assert (found[1].allowed, found[1].blocked, found[1].alert_ms) == (10, 0, None)


def test_a_budget_that_only_tells_blocks_nothing() -> None:
    [found] = replay(rule(100, strategy=Strategy.ALERT_ONLY), hours(90, 90))
    assert (found.allowed, found.blocked, found.alert_ms) == (180, 0, START)


def test_a_throttle_with_a_set_rate_lets_that_many_calls_through() -> None:
    [found] = replay(rule(1000, throttle_percent=50, throttle_per_minute=1), hours(500, 120, calls=120))
    assert (found.allowed, found.slowed, found.throttle_ms) == (560, 60, START)


def test_the_pace_of_the_last_week_says_on_which_day_each_stage_begins() -> None:
    noon = START + 12 * HOUR
    budget = rule(31_00, Period.MONTH, throttle_percent=90)
    found = outlook(budget, used=0, pace_amount=7 * 200, pace_ms=7 * DAY, now_ms=noon)
    assert found.alert_ms is not None
    assert (found.alert_ms - noon) / DAY == pytest.approx(21_70 / 200)
    assert (found.kill_ms or 0) - noon == 15 * DAY + 12 * HOUR
    slow = outlook(budget, used=0, pace_amount=7 * 50, pace_ms=7 * DAY, now_ms=noon)
    assert (slow.alert_ms, slow.kill_ms) == (None, None)
    assert outlook(budget, used=40_00, pace_amount=0, pace_ms=7 * DAY, now_ms=noon).kill_ms == noon


# --- On rollups -------------------------------------------------------------------------------------------------------
CENT = 10**7
MEASURES = (
    "calls", "attempts", "errors", "voids", "cost_nano", "assumed_nano", "unpriced_calls", "input_tokens", "cache_read_tokens",
    "cache_write_tokens", "output_tokens", "duration_ms", "timed", "first_byte_ms", "first_bytes", "overhead_us",
)  # fmt: skip


def _past(cast: Cast, spent: dict[tuple[str, int], int], now: datetime) -> None:
    """{(customer, days ago): cents spent at noon of that day}, in the rollups of hours and days."""
    hour_rows, day_rows = [], []
    for (customer, ago), cents in spent.items():
        at = (now - timedelta(days=ago)).replace(hour=12, minute=0, second=0, microsecond=0)
        numbers = dict.fromkeys(MEASURES, 0) | {"cost_nano": cents * CENT, "calls": cents, "attempts": cents}
        for dimension, value in (("customer", customer), ("", "")):
            common = {"workspace_id": cast.acme.pk, "dimension": dimension, "value": value}
            hour_rows.append(RollupHour(**common, hour=at, **numbers))
            day_rows.append(RollupDay(**common, day=at.date(), **numbers))
    with connection.cursor() as cursor:
        partitions.ensure(
            cursor, {("billing_rollup_hour", partitions.month_of(row.hour.timestamp())) for row in hour_rows}
        )
    with tenancy.entered(cast.acme):
        for model, rows, names in ((RollupHour, hour_rows, ["hour"]), (RollupDay, day_rows, ["day"])):
            added: dict[Any, Any] = {}
            for row in rows:
                key = (row.dimension, row.value, getattr(row, names[0]))
                if key in added:
                    for measure in MEASURES:
                        setattr(added[key], measure, getattr(added[key], measure) + getattr(row, measure))
                else:
                    added[key] = row
            model.objects.bulk_create(added.values())


@pytest.mark.django_db
def test_each_value_is_replayed_on_its_own_and_the_sums_are_over_all_of_them(cast: Cast) -> None:
    now = timezone.now().replace(hour=18)
    _past(cast, {("initech", 3): 500, ("initech", 2): 150, ("hooli", 3): 120, ("umbrella", 3): 20}, now)
    found = drafts.run_backtest(
        cast.acme, replace(rule(100 * CENT), eras=(Era("UTC"),), scope=Scope("customer", None)), now
    )
    assert (found.value_count, found.stopped_count, found.resolution) == (3, 2, "hour")
    assert found.total.blocked == (400 + 50 + 20) * CENT
    assert (found.total.blocked_calls, found.total.used) == (470, 790 * CENT)
    assert [(one.value, one.replayed.blocked // CENT) for one in found.values] == [("initech", 450), ("hooli", 20)]
    whole = drafts.run_backtest(cast.acme, replace(rule(600 * CENT), eras=(Era("UTC"),)), now)
    assert (whole.total.blocked, len(whole.periods)) == (40 * CENT, 1)
    assert datetime.fromtimestamp((whole.periods[0].kill_ms or 0) / 1000, UTC).hour == 12


@pytest.mark.django_db
def test_a_draft_is_tried_out_through_the_api_and_nothing_is_written(cast: Cast, api: Any) -> None:
    now = timezone.now().replace(hour=18)
    _past(cast, {("initech", ago): 100 for ago in range(1, 8)}, now)
    client: APIClient = api("alice")
    address = "/api/v1/workspaces/acme/budgets/"
    before = client.get(address).json()
    draft = {"cap": "0.60", "period": "day", "scope": "customer", "value": None}
    answer = client.post(address + "backtest/", draft | {"days": 10}, format="json")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["total"]["blocked"], answer.json()["stopped_count"]) == ("2.8", 1)
    assert answer.json()["values"][0]["value"] == "initech"
    preview = client.post(address + "preview/", {"cap": "10", "period": "total"}, format="json").json()
    assert preview["full"] is None
    assert preview["running"]["kill_at"] is not None
    made = client.post(address, {"cap": "3", "period": "month"}, format="json").json()
    changed = client.post(f"{address}{made['id']}/backtest/", {"cap": "5"}, format="json").json()
    assert changed["total"]["used"] != "0"
    assert client.post(f"{address}{made['id']}/preview/", {}, format="json").json()["used"] == "0"
    assert client.delete(f"{address}{made['id']}/").status_code == 204
    assert client.get(address).json() == before
    for wrong, field in (
        ({"days": 0}, "days"),
        ({"days": "٣"}, "days"),
        ({"cap": "NaN"}, "cap"),
        ({"kill_percent": 101}, "kill_percent"),
    ):
        refused = client.post(address + "backtest/", draft | wrong, format="json")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, field)
    by_hour = {"cap": "1", "period": "hour", "scope": "user", "value": None}
    assert client.post(address + "backtest/", by_hour, format="json").status_code == 400
