"""How well the detectors find what is labelled in synthetic traffic: precision and recall, measured and printed (`pytest -s`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from guardrails.domain.anomalies import hours, newcomers
from guardrails.domain.anomalies.causes import Cause, causes
from guardrails.domain.anomalies.kinds import Deviation, Rules, Series
from tests.guardrails.anomalies import traces
from tests.guardrails.anomalies.traces import FIRST, HOURS, JUDGED, Trace

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
        open_labels = list(trace.labels)
        for label in open_labels:
            seen["labels"][label.name] += 1
        for cause in told:
            match = next((one for one in open_labels if matches(cause, one)), None)
            if match is None:
                seen["told"]["wrong"] += 1
                print(
                    f"seed {seed}: not labelled: {cause.deviation.kind} {cause.driver} {cause.deviation.excess_nano / 1e9:.2f}",
                    cause.deviation.start - FIRST,
                    cause.deviation.end - FIRST,
                    [(l.name, l.start - FIRST, l.end - FIRST) for l in trace.labels],
                )
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
