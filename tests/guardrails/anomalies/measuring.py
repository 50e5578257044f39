"""What the detectors tell of a labelled trace, and how much of it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from guardrails.domain.anomalies import hours, newcomers
from guardrails.domain.anomalies.causes import Cause, causes
from guardrails.domain.anomalies.kinds import Deviation, Rules, Series
from tests.guardrails.anomalies.traces import FIRST, HOURS, JUDGED, Label, Trace

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


def measured_for(labelled: Callable[[int], Trace], seeds: Iterable[int]) -> dict[str, Counter[str]]:
    """Labels and hits by name, and what was told: right or wrong. A label that cost less than is worth telling counts for nothing."""
    seen: dict[str, Counter[str]] = {"labels": Counter(), "hits": Counter(), "told": Counter()}
    for seed in seeds:
        trace = labelled(seed)
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


def matches(cause: Cause, label: Label) -> bool:
    one = cause.deviation
    return (
        one.kind in label.kind
        and cause.driver in label.drivers
        and one.start < label.end + 2
        and label.start < one.end + 2
    )
