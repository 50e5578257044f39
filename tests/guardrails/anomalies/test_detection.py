"""How well the detectors find what is labelled in synthetic traffic: precision and recall, measured and printed (`pytest -s`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from guardrails.domain.anomalies import minutes
from guardrails.domain.anomalies.kinds import Series
from tests.guardrails.anomalies import other_traces, traces
from tests.guardrails.anomalies.measuring import RULES, measured_for
from tests.guardrails.anomalies.traces import poisson


def rates(seen: dict[str, Counter[str]], name: str) -> tuple[float, float]:
    """Precision and recall, printed."""
    right, wrong, labels = seen["told"]["right"], seen["told"]["wrong"], seen["labels"].total()
    precision, recall = right / (right + wrong), right / labels
    print(
        f"\n{name}: precision {precision:.3f} ({right} of {right + wrong}), recall {recall:.3f} ({right} of {labels})"
    )
    for label, count in sorted(seen["labels"].items()):
        print(f"  {label}: {seen['hits'][label]} of {count}")
    return precision, recall


def test_most_of_what_is_told_is_labelled_and_most_of_what_is_labelled_is_told() -> None:
    precision, recall = rates(measured_for(traces.labelled, range(12)), "hours")
    assert precision >= 0.9
    assert recall >= 0.9


def test_so_it_is_in_companies_of_another_hand() -> None:
    """Time zones, night jobs, weekly launches, ramps, holidays (`other_traces`). The seeds were not looked at while the detectors were made."""
    precision, recall = rates(measured_for(other_traces.labelled, range(1000, 1024)), "hours, other companies")
    assert precision >= 0.75
    assert recall >= 0.85


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
