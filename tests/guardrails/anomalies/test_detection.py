"""How well the detectors find what is labelled in synthetic traffic: precision and recall, measured and printed (`pytest -s`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

import pytest

from guardrails.domain.anomalies import hours, minutes, newcomers
from guardrails.domain.anomalies.causes import Cause, causes
from guardrails.domain.anomalies.kinds import Deviation, Rules, Series
from tests.guardrails.anomalies import traces
from tests.guardrails.anomalies.traces import FIRST, HOURS, JUDGED, Trace, poisson

RULES = Rules(least_nano=5_000_000_000)


def found_in(trace: Trace) -> list[Cause]:
    last = FIRST + HOURS - 1
    first = last - JUDGED + 1
    deviations: list[Deviation] = []
    for series, history in trace.histories.items():
        for one in hours.deviations(series, history, first, last, RULES):
            before, now = (mix(trace, series, *span) for span in ((one.start - 336, one.start), (one.start, one.end)))
            deviations.append(hours.by_mix(one, before, now))
    return causes([*deviations, *new_ones(trace)], trace.lines)


def mix(trace: Trace, series: Series, start: int, end: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for line in trace.lines(start, end):
        if not series.dimension or line.dims[series.dimension] == series.value:
            calls, cost = found.get(line.dims["model"], (0, 0))
            found[line.dims["model"]] = (calls + line.attempts, cost + line.cost_nano)
    return found


def new_ones(trace: Trace) -> list[Deviation]:
    today = (FIRST + HOURS - 1) // 24
    by_day = {
        series: {day: sum(history.at(hour).cost_nano for hour in range(day * 24, day * 24 + 24)) for day in range(FIRST // 24, today + 1)}
        for series, history in trace.histories.items()
        if series.dimension in ("", "customer", "model")
    }  # fmt: skip
    found = []
    for series, days in by_day.items():
        first_day = min(day for day, cost in days.items() if cost)
        others = [
            sorted(one.values())[len(one) // 2]
            for other, one in by_day.items()
            if other.dimension == series.dimension and other != series
        ]
        for seen in range(
            first_day, min(first_day + newcomers.NEW_DAYS, today + 1)
        ):  # a look on each of its first days
            one = newcomers.newcomer(
                series, [days[day] for day in range(first_day, seen + 1)], first_day=first_day, today=seen,
                workspace_days=[by_day[Series()][day] for day in range(max(FIRST // 24, seen - 14), seen)], others=others, rules=RULES,
            )  # fmt: skip
            if one is not None and series.dimension:
                found.append(one)
                break
    return found


def measured_for(seeds: Iterable[int]) -> dict[str, Counter[str]]:
    seen: dict[str, Counter[str]] = {"labels": Counter(), "hits": Counter(), "told": Counter()}
    for seed in seeds:
        trace = traces.labelled(seed)
        told = found_in(trace)
        small = [one for one in trace.labels if one.cost_nano < 1.2 * RULES.least_nano]
        open_labels = [one for one in trace.labels if one not in small]
        told = [cause for cause in told if not any(matches(cause, one) for one in small)]
        for label in open_labels:
            seen["labels"][label.name] += 1
        for cause in told:
            match = next((one for one in open_labels if matches(cause, one)), None)
            if match is None:
                seen["told"]["wrong"] += 1
                one = cause.deviation
                print(f"seed {seed}: not labelled: {one.kind} of {cause.driver}, ${one.excess_nano / 1e9:.2f}")
            else:
                open_labels.remove(match)
                seen["told"]["right"] += 1
                seen["hits"][match.name] += 1
        for label in open_labels:
            print(f"seed {seed}: missed {label.name}")
    return seen


@pytest.fixture(scope="module")
def measured() -> dict[str, Counter[str]]:
    return measured_for(range(12))


def matches(cause: Cause, label: traces.Label) -> bool:
    one = cause.deviation
    return (
        one.kind in label.kind
        and cause.driver in label.drivers
        and one.start < label.end + 2
        and label.start < one.end + 2
    )


def test_most_of_what_is_told_is_labelled_and_most_of_what_is_labelled_is_told(
    measured: dict[str, Counter[str]],
) -> None:
    right, wrong = measured["told"]["right"], measured["told"]["wrong"]
    labels = measured["labels"].total()
    precision, recall = right / (right + wrong), right / labels
    print(f"\nhours: precision {precision:.3f} ({right} of {right + wrong}), recall {recall:.3f} ({right} of {labels})")
    for name, count in sorted(measured["labels"].items()):
        print(f"  {name}: {measured['hits'][name]} of {count}")
    assert precision >= 0.9
    assert recall >= 0.9


# --- Minutes ----------------------------------------------------------------------------------------------------------
def test_loops_are_flagged_within_a_minute_and_busy_minutes_are_not() -> None:
    """Sessions, agents and keys by the second: bursts of people and batches of habit beside loops, looked at every five seconds."""
    chance = Random(7)
    right = wrong = missed = 0
    delays = []
    for number in range(400):
        is_loop = number % 2 == 0
        habit, pace = fast_or_busy(is_loop, chance)
        begins = 60 + chance.random() * 60
        flagged = None
        for look in range(int(begins), int(begins) + 125, 5):
            window = look // 60 * 60 - 60
            attempts = sum(poisson(pace(second), chance) for second in range(max(window, int(begins)), look))
            attempts += poisson(habit.per_minute / 60 * max(0, min(look, int(begins)) - window), chance)
            seen = minutes.Pace(Series("agent", "x"), window, look - window, attempts, 0, attempts * 2_000_000)
            if minutes.loop(seen, habit, RULES) is not None:
                flagged = look - begins
                break
        if is_loop and flagged is not None:
            right += 1
            delays.append(flagged)
        missed += is_loop and flagged is None
        wrong += not is_loop and flagged is not None
    delays.sort()
    precision, recall = right / (right + wrong), right / (right + missed)
    late = delays[int(len(delays) * 0.95)]
    print(
        f"\nminutes: precision {precision:.3f}, recall {recall:.3f}, flagged after {delays[len(delays) // 2]:.0f} s (95%: {late:.0f} s)"
    )
    assert precision >= 0.93
    assert recall >= 0.95
    assert late <= 60


def fast_or_busy(is_loop: bool, chance: Random) -> tuple[minutes.Habit, Callable[[int], float]]:
    """A series' habit, and what it does from its beginning on, in attempts a second."""
    kind = chance.choice(("session", "agent", "key"))
    usual = {"session": 0.0, "agent": chance.uniform(0.2, 8), "key": chance.uniform(5, 120)}[kind]
    busiest = {"session": chance.randint(4, 14), "agent": usual * 2 + 6, "key": usual * 1.6 + 10}[kind]
    habit = minutes.Habit(usual, busiest)
    if is_loop:
        rate = max(1.0, 6 * usual / 60, 3 * busiest / 60) * chance.uniform(0.8, 4)
    else:
        rate = max(usual, busiest * chance.uniform(0.5, 1.7)) / 60
    return habit, lambda second: rate


def test_a_key_without_a_habit_gets_more_room() -> None:
    pace = minutes.Pace(Series("virtual_key", "k"), 0, 90.0, 80, 0, 80 * 2_000_000)
    assert minutes.loop(pace, minutes.Habit(), RULES) is not None
    assert minutes.loop(pace, minutes.Habit(is_known=False), RULES) is None


def test_a_share_of_failures_that_is_usual_is_no_storm() -> None:
    pace = minutes.Pace(Series("model", "m"), 0, 300.0, 100, 40, 0)
    assert minutes.error_storm(pace, minutes.Habit(error_share=0.02), RULES) is not None
    assert minutes.error_storm(pace, minutes.Habit(error_share=0.35), RULES) is None
