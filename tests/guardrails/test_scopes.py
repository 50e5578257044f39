"""Budgets and rate limits as values: on every scope, for one value or each; their stages, strategies and units."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.dimensions import Dimension
from guardrails.domain.budgets import MAX_CAP, Budget, Kind, Matcher, Raised, Scope, Stage, Strategy, Unit
from guardrails.domain.periods import Era, Period, bounds_at
from guardrails.domain.rates import Metric, RateLimit, matching
from guardrails.limiter.wire import ShortRequest
from guardrails.met import Meetings

SCOPES = [*(dimension.value for dimension in Dimension), "tag:team", "tag:a.b-c_d"]
DAY_MS = 86_400_000


def budget(name: str = "b", cap: int = 100, period: Period = Period.DAY, **more: Any) -> Budget:
    return Budget(str(uuid5(NAMESPACE_OID, name)), name, cap, period, (Era("UTC"),), **more)


def call(by: str, value: str) -> tuple[dict[str, str], dict[str, str]]:
    """The dimensions and tags of a call that has this value on this scope."""
    return ({}, {by[4:]: value}) if by.startswith("tag:") else ({by: value}, {})


# --- Scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", SCOPES)
def test_a_budget_on_any_scope_meets_its_value_or_each_value_and_no_other_call(by: str) -> None:
    one, each = budget("one", scope=Scope(by, "acme")), budget("each", scope=Scope(by, None))
    matcher = Matcher([one, each])

    def met(by: str, value: str) -> list[tuple[str, str]]:
        return [(match.budget.name, match.value) for match in matcher.matches(*call(by, value))]

    assert met(by, "acme") == [("one", ""), ("each", "acme")]
    assert met(by, "never seen before") == [("each", "never seen before")]
    assert met(by, "") == []
    assert matcher.matches({}, {}) == []
    elsewhere = next(scope for scope in SCOPES if scope != by)
    assert met(elsewhere, "acme") == []


def test_one_call_meets_the_budgets_of_all_its_scopes_at_once_each_with_a_counter_of_its_own() -> None:
    budgets = [budget("workspace")]
    budgets += [budget(f"{by} {kind}", scope=Scope(by, value)) for by in SCOPES for kind, value in (("one", "v"), ("each", None))]  # fmt: skip
    dims = {by: "v" for by in SCOPES if not by.startswith("tag:")}
    tags = {by[4:]: "v" for by in SCOPES if by.startswith("tag:")}
    meetings = Meetings(Matcher(budgets), [], lambda one, at_ms: one.bounds_at(at_ms))
    met = meetings.of(dims, tags, DAY_MS)
    assert {match.budget.name for match in met.matches} == {one.name for one in budgets}
    assert len({ask.suffix for _, ask in met.asks}) == len(budgets) == 2 * len(SCOPES) + 1


def test_a_scope_that_is_none_cannot_be_made() -> None:
    for by in ("planet", "tags", "Customer", "tag"):
        with pytest.raises(ValueError, match="a budget cannot be on"):
            Scope(by, "x")


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("by", ["virtual_key", "member", "agent", "customer", "tag:team"])
def test_a_rate_limit_of_every_kind_counts_each_value_apart(by: str, metric: Metric) -> None:
    limits = [RateLimit("1" * 36, "each", Scope(by, None), metric, 5), RateLimit("2" * 36, "one", Scope(by, "ann"), metric, 3)]  # fmt: skip
    assert [(found.rate.name, found.value) for found in matching(limits, *call(by, "ann"))] == [
        ("each", "ann"),
        ("one", ""),
    ]
    assert [(found.rate.name, found.value) for found in matching(limits, *call(by, "ben"))] == [("each", "ben")]
    assert matching(limits, {}, {}) == []


@pytest.mark.parametrize("by", ["virtual_key", "member", "agent", "customer"])
def test_each_value_of_a_rate_limit_has_a_state_of_its_own(by: str) -> None:
    limits = [
        RateLimit(f"00000000-0000-7000-8000-00000000000{n}", "", Scope(by, None), metric, 5)
        for n, metric in enumerate(Metric)
    ]
    meetings = Meetings(Matcher([]), limits, lambda one, at_ms: one.bounds_at(at_ms))
    ann, ben = (meetings.of({by: value}, {}, 0) for value in ("ann", "ben"))
    assert len(ann.rate_asks) == len(Metric)
    assert not {ask.suffix for ask in ann.rate_asks} & {ask.suffix for ask in ben.rate_asks}
    assert [ask.kind for ask in ann.rate_asks] == ["c" if metric is Metric.CONCURRENCY else "g" for metric in Metric]


def test_a_call_that_lasts_longer_than_its_request_takes_no_slot() -> None:
    limits = [RateLimit(f"00000000-0000-7000-8000-00000000000{n}", "", Scope(), m, 5) for n, m in enumerate(Metric)]
    meetings = Meetings(Matcher([]), limits, lambda one, at_ms: one.bounds_at(at_ms))
    assert {ask.kind for ask in meetings.of({}, {}, 0, lasting=True).rate_asks} == {"g"}


# --- Stages -----------------------------------------------------------------------------------------------------------


def stages(one: Budget) -> list[str]:
    return [one.stage_at(used, 0).value for used in (0, 69, 70, 89, 90, 99, 100, 150)]


def test_stages_begin_at_their_thresholds_and_each_can_be_switched_off() -> None:
    n, a, t, k = "normal", "alert", "throttle", "kill"
    assert stages(budget(throttle_percent=90)) == [n, n, a, a, t, t, k, k]
    assert stages(budget(throttle_percent=None)) == [n, n, a, a, a, a, k, k]
    assert stages(budget(throttle_percent=90, alert_percent=None)) == [n, n, n, n, t, t, k, k]
    assert stages(budget(throttle_percent=90, kill_percent=None)) == [n, n, a, a, t, t, t, t]
    assert stages(budget(alert_percent=None, kill_percent=None)) == [n] * 8
    assert stages(budget(alert_percent=70, throttle_percent=70, kill_percent=70)) == [n, n, k, k, k, k, k, k]


def test_the_strategy_says_what_a_budget_may_do_at_most() -> None:
    soft, slow, hard = (budget(strategy=strategy, throttle_percent=90) for strategy in Strategy)
    assert stages(soft) == ["normal"] * 2 + ["alert"] * 6
    assert stages(slow) == ["normal"] * 2 + ["alert"] * 2 + ["throttle"] * 4
    assert stages(hard)[-1] == "kill"
    assert [(one.hard, one.limit_at(0), one.throttle_from(0)) for one in (soft, slow, hard)] == [
        (False, None, None),
        (False, None, 90),
        (True, 100, 90),
    ]


@given(cap=st.integers(1, MAX_CAP), kill=st.integers(1, 100), used=st.integers(0, MAX_CAP))
def test_a_limit_is_never_above_the_cap_and_the_kill_stage_begins_exactly_there(cap: int, kill: int, used: int) -> None:
    one = budget(cap=cap, kill_percent=kill, alert_percent=None)
    limit = one.limit_at(0)
    assert limit is not None
    assert limit <= cap
    assert (one.stage_at(used, 0) is Stage.KILL) == (used >= limit)


def test_a_raise_lifts_cap_and_thresholds_until_it_ends_and_never_beyond_what_is_exact() -> None:
    one = budget(raises=(Raised(50, 1000), Raised(MAX_CAP, 500)), throttle_percent=90)
    assert [one.cap_at(at) for at in (0, 500, 999, 1000)] == [MAX_CAP, 150, 150, 100]
    assert (one.throttle_from(999), one.throttle_from(1000)) == (135, 90)


def test_what_holds_under_a_raise_is_worked_out_anew_when_it_ends() -> None:
    one = budget(raises=(Raised(50, DAY_MS + 1000),))
    meetings = Meetings(Matcher([one]), [], lambda budget, at_ms: budget.bounds_at(at_ms))
    limits = [meetings.of({}, {}, at_ms).asks[0][1].limit for at_ms in (DAY_MS, DAY_MS + 999, DAY_MS + 1000, DAY_MS)]
    assert limits == [150, 150, 100, 150]


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("period", list(Period))
def test_every_unit_and_period_is_counted_in_its_own_amount_and_bounds(unit: Unit, period: Period) -> None:
    one = budget(unit=unit, period=period, kind=Kind.BUDGET)
    met = Meetings(Matcher([one]), [], lambda budget, at_ms: budget.bounds_at(at_ms)).of({}, {}, DAY_MS)
    (ask,) = ShortRequest("", "", "", 0, 0, 0, 7, 0, "", met.packed, [], tokens=5).whole().budgets
    assert (ask.unit, ask.amount) == {Unit.USD: ("nano", 7), Unit.TOKENS: ("tokens", 5), Unit.CALLS: ("calls", 1)}[unit]
    bounds = bounds_at(period, one.eras, DAY_MS)
    assert (ask.start_ms, ask.end_ms) == (bounds.start_ms, bounds.end_ms)
