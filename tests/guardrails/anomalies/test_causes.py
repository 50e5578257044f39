"""One incident a cause, what counts as a habit, and what was taught. Plain values."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from guardrails.domain.anomalies import hours, newcomers
from guardrails.domain.anomalies.baseline import Cell, History, mixes, slot_of
from guardrails.domain.anomalies.causes import Line, Told, causes, key_of
from guardrails.domain.anomalies.kinds import Deviation, Kind, Rules, Series, Taught

RULES = Rules(least_nano=5_000_000_000)
USD = 1_000_000_000
NOW = 490_000
"""An hour number."""


def line(attempts: int, cost: int = 0, errors: int = 0, **dims: str) -> Line:
    return Line(dims, attempts, errors, cost or attempts * 10_000_000)


def loop(dimension: str, value: str, excess: int = 10 * USD) -> Deviation:
    return Deviation(Kind.LOOP, Series(dimension, value), 100, 160, excess, 60.0, 1.0, ongoing=True)


def test_the_same_loop_seen_as_agent_key_and_workspace_is_one_cause_its_session() -> None:
    lines = [
        line(90, session="run", agent="scout", virtual_key="k"),
        line(20, session="other", agent="bot", virtual_key="k"),
    ]
    seen = [loop("", ""), loop("virtual_key", "k"), loop("agent", "scout")]
    (cause,) = causes(seen, lambda *_: lines)
    assert cause.driver == Series("session", "run")
    assert Series("agent", "scout") in cause.beside
    assert key_of(lines, cause.driver) == "k"


def test_two_loops_at_once_are_two_causes_and_their_common_key_is_none() -> None:
    lines = [line(90, session="a", agent="one", virtual_key="k"), line(80, session="b", agent="two", virtual_key="k")]
    seen = [loop("virtual_key", "k"), loop("agent", "one"), loop("agent", "two")]
    assert {cause.driver.value for cause in causes(seen, lambda *_: lines)} == {"a", "b"}


def test_what_is_told_already_is_not_told_from_further_away() -> None:
    lines = [line(90, session="run", agent="scout")]
    assert causes([loop("agent", "scout")], lambda *_: lines, [Told(Series("session", "run"), 50, 120, 0)]) == []
    assert len(causes([loop("agent", "scout")], lambda *_: lines, [Told(Series("session", "run"), 5, 20, 0)])) == 1


@given(st.permutations(["", "virtual_key:k", "agent:scout", "model:m"]))
def test_the_order_of_deviations_makes_no_difference(names: list[str]) -> None:
    lines = [
        line(90, session="run", agent="scout", virtual_key="k", model="m"),
        line(9, agent="x", virtual_key="k", model="m"),
    ]
    seen = [loop(*(name.split(":") if name else ("", ""))) for name in names]
    assert [cause.driver for cause in causes(seen, lambda *_: lines)] == [Series("session", "run")]


# --- Hours ------------------------------------------------------------------------------------------------------------
def steady(cost: int = USD, calls: int = 100, **odd: Cell) -> History:
    cells = {hour: Cell(calls, calls, 0, cost) for hour in range(NOW - 28 * 24, NOW + 1)}
    return History(cells | {int(name[1:]): cell for name, cell in odd.items()}, NOW - 28 * 24)


def test_the_same_every_hour_is_nothing_and_ten_times_is_a_spike_with_its_excess() -> None:
    assert hours.deviations(Series("agent", "a"), steady(), NOW - 100, NOW, RULES) == []
    odd = steady(**{f"h{NOW - 5}": Cell(1000, 1000, 0, 10 * USD)})
    (one,) = hours.deviations(Series("agent", "a"), odd, NOW - 100, NOW, RULES)
    assert (one.kind, one.start, one.end, one.ongoing) == (Kind.VOLUME, NOW - 5, NOW - 4, False)
    assert one.excess_nano == 9 * USD


def test_the_same_calls_at_ten_times_the_price_are_dearer_calls_and_a_shift_where_models_changed() -> None:
    odd = steady(**{f"h{NOW}": Cell(100, 100, 0, 10 * USD)})
    (one,) = hours.deviations(Series("agent", "a"), odd, NOW, NOW, RULES)
    assert (one.kind, one.ongoing) == (Kind.COST_PER_CALL, True)
    shifted = hours.by_mix(one, {"mini": (1000, 10 * USD)}, {"mini": (10, USD // 10), "large": (90, 99 * USD // 10)})
    assert (shifted.kind, shifted.facts["model"]) == (Kind.MODEL_MIX, "large")
    assert hours.by_mix(one, {"mini": (1000, 10 * USD)}, {"mini": (100, 10 * USD)}) == one


def test_a_busy_hour_of_every_monday_is_habit_and_the_same_on_a_sunday_is_not() -> None:
    monday = next(hour for hour in range(NOW, NOW - 168, -1) if slot_of(hour) == 10)
    batch = {f"h{monday - 168 * week}": Cell(1000, 1000, 0, 10 * USD) for week in range(5)}
    batch |= {
        f"h{monday - 168 * week + beside}": Cell(1000, 1000, 0, 10 * USD) for week in range(5) for beside in (-1, 1)
    }
    assert hours.deviations(Series(), steady(**batch), monday, monday, RULES) == []
    sunday = steady(**{f"h{monday - 24}": Cell(1000, 1000, 0, 10 * USD)}, **batch)
    assert hours.deviations(Series(), sunday, monday - 24, monday - 24, RULES)


def test_what_was_taught_is_allowed_at_its_time_and_not_much_more() -> None:
    odd = steady(**{f"h{NOW}": Cell(1000, 1000, 0, 10 * USD)})
    any_time = [Taught(Kind.VOLUME, per_hour_nano=9 * USD)]
    assert hours.deviations(Series(), odd, NOW, NOW, RULES, any_time) == []
    elsewhere = [Taught(Kind.VOLUME, per_hour_nano=9 * USD, slots=frozenset({(slot_of(NOW) + 12) % 168}))]
    assert len(hours.deviations(Series(), odd, NOW, NOW, RULES, elsewhere)) == 1
    more = steady(**{f"h{NOW}": Cell(3000, 3000, 0, 30 * USD)})
    assert len(hours.deviations(Series(), more, NOW, NOW, RULES, any_time)) == 1


@given(st.integers(0, 2**32), st.integers(80, 400), st.integers(1, 60))
def test_nothing_is_ever_told_below_the_least_dollars_or_of_a_series_without_habit(
    seed: int, length: int, least_usd: int
) -> None:
    chance = Random(seed)
    costs = [round(USD * chance.lognormvariate(0, 1.5)) for _ in range(length)]
    cells = {NOW - place: Cell(10, 10, 0, cost) for place, cost in enumerate(costs)}
    rules = Rules(least_nano=least_usd * USD)
    found = hours.deviations(Series(), History(cells, min(cells)), NOW - len(costs), NOW, rules)
    assert all(one.excess_nano >= rules.least_nano and one.start - min(cells) >= 72 for one in found)


def test_models_that_keep_their_shares_explain_nothing() -> None:
    dearer, mixed, _ = mixes({"a": (10, 100), "b": (10, 200)}, {"a": (20, 400), "b": (20, 800)})
    assert (dearer, mixed) == (15.0, 0.0)


# --- Newcomers --------------------------------------------------------------------------------------------------------
def test_a_customer_of_yesterday_that_spends_like_the_largest_is_told_and_not_in_a_young_workspace() -> None:
    given = {"first_day": 99, "today": 100, "others": [USD] * 20, "rules": RULES}
    days = [2 * USD, 30 * USD]
    one = newcomers.newcomer(Series("customer", "new"), days, workspace_days=[100 * USD] * 14, **given)
    assert one is not None
    assert one.excess_nano == 32 * USD
    assert newcomers.newcomer(Series("customer", "new"), days, workspace_days=[100 * USD] * 5, **given) is None
    assert newcomers.newcomer(Series("customer", "new"), [USD], workspace_days=[100 * USD] * 14, **given) is None
