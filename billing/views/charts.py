"""Charts drawn on the server as SVG, from plain numbers; beside each stands a table of the same ones. Pure presentation, no query.

Across, everything is in percent of the drawing's width, up and down in pixels: so a chart fits any width without a script, and its text
keeps its size. Colours are classes (`tone-1` ... `tone-8`), because the content policy allows no inline style.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor, log10
from typing import Any, Final

HEIGHT: Final = 220
_TOP: Final = 10
_BOTTOM: Final = 24
"""Room for the labels below."""
_PLOT: Final = HEIGHT - _TOP - _BOTTOM
TONES: Final = 8
REST_TONE: Final = 9
"""Of what is left over beside the named series."""
MOST_LABELS: Final = 10

Shown = Callable[[float], str]
"""A value -> how a person reads it."""


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    values: Sequence[float | None]
    tone: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """One place along the axis of time."""

    label: str
    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """What `parts/chart.html` draws."""

    name: str
    summary: str
    columns: list[dict[str, Any]]
    grid: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    legend: list[dict[str, Any]]
    lines: list[dict[str, Any]] = field(default_factory=list)
    twin: dict[str, Any] = field(default_factory=dict)
    """The same numbers as a table: {"head": [...], "rows": [{"title", "url", "values"}]}."""
    height: int = HEIGHT
    base: int = HEIGHT - _BOTTOM
    axis_width: int = 56


def stacked(
    name: str,
    buckets: Sequence[Bucket],
    series: Sequence[Series],
    *,
    shown: Shown,
    axis: Shown | None = None,
    summary: str = "",
    before: Sequence[float | None] = (),
    before_name: str = "Period before",
) -> Chart:
    """Columns over time, the series on top of each other; `before` is a dashed line of totals to compare with."""
    totals = [sum(one.values[place] or 0 for one in series) for place in range(len(buckets))]
    scale = _Scale(max([*totals, *(value or 0 for value in before)], default=0))
    width = 100 / max(1, len(buckets))
    bar = width * (0.72 if len(buckets) > 12 else 0.5 if len(buckets) > 4 else 0.3)
    columns = []
    for place, bucket in enumerate(buckets):
        floor_y = float(HEIGHT - _BOTTOM)
        bars = []
        tip: list[list[Any]] = []
        for one in series:
            value = one.values[place] or 0
            if value <= 0:
                continue
            height = scale.height(value)
            floor_y -= height
            gap = 1 if height > 3 else 0
            bars.append({"y": _px(floor_y), "height": _px(max(height - gap, 0.5)), "tone": one.tone})
            tip.append([one.tone, one.name, shown(value)])
        tip.reverse()
        if len(tip) > 1:
            tip.append([0, "Total", shown(totals[place])])
        if before and before[place] is not None:
            tip.append([0, before_name, shown(before[place] or 0)])
        columns.append(_column(bucket, place, width, bar, bars, tip))
    lines = [{"tone": "before", "segments": _segments(before, width, scale)}] if any(before) else []
    return Chart(
        name=name,
        summary=summary,
        columns=columns,
        grid=scale.grid(axis or shown),
        labels=_labels(buckets, width),
        legend=[{"name": one.name, "tone": one.tone} for one in series]
        + ([{"name": before_name, "tone": "before"}] if lines else []),
        lines=lines,
        twin=_twin(buckets, [*series, *([Series("Total", totals, 0)] if len(series) != 1 else [])], shown),
    )


def lined(
    name: str,
    buckets: Sequence[Bucket],
    series: Sequence[Series],
    *,
    shown: Shown,
    axis: Shown | None = None,
    summary: str = "",
    most: float | None = None,
) -> Chart:
    """Lines over time, for what does not add up (a latency, a share). Gaps where there is no value. `most`: the top of the scale."""
    known = [value for one in series for value in one.values if value is not None]
    scale = _Scale(max(known, default=0) if most is None else most)
    width = 100 / max(1, len(buckets))
    columns = []
    for place, bucket in enumerate(buckets):
        tip = [[one.tone, one.name, shown(value)] for one in series if (value := one.values[place]) is not None]
        columns.append(_column(bucket, place, width, width, [], tip))
    return Chart(
        name=name,
        summary=summary,
        columns=columns,
        grid=scale.grid(axis or shown),
        labels=_labels(buckets, width),
        legend=[{"name": one.name, "tone": one.tone} for one in series],
        lines=[
            {"tone": one.tone, "segments": _segments(one.values, width, scale), "dots": _dots(one.values, width, scale)}
            for one in series
        ],
        twin=_twin(buckets, series, shown),
    )


def _twin(buckets: Sequence[Bucket], series: Sequence[Series], shown: Shown) -> dict[str, Any]:
    rows = []
    for place, bucket in enumerate(buckets):
        values = [one.values[place] for one in series]
        rows.append(
            {
                "title": bucket.title,
                "url": bucket.url,
                "values": ["–" if value is None else shown(value) for value in values],
            }
        )
    return {"head": [one.name for one in series], "rows": rows}


def _column(
    bucket: Bucket, place: int, width: float, bar: float, bars: list[dict[str, Any]], tip: list[list[Any]]
) -> dict[str, Any]:
    return {
        "x": _pc(place * width),
        "width": _pc(width),
        "bar_x": _pc(place * width + (width - bar) / 2),
        "bar_width": _pc(bar),
        "middle": _pc((place + 0.5) * width),
        "bars": bars,
        "url": bucket.url,
        "title": bucket.title,
        "tip": json.dumps(tip, ensure_ascii=False),
    }


def _labels(buckets: Sequence[Bucket], width: float) -> list[dict[str, Any]]:
    """Every so many, so that they do not run into each other; every second of those only where there is room."""
    step = max(1, -(-len(buckets) // MOST_LABELS))
    shown = []
    for number, place in enumerate(range(0, len(buckets), step)):
        shown.append({"x": _pc((place + 0.5) * width), "text": buckets[place].label, "wide": number % 2 == 1})
    return shown


def _segments(values: Sequence[float | None], width: float, scale: _Scale) -> list[dict[str, str]]:
    segments = []
    for place in range(1, len(values)):
        left, right = values[place - 1], values[place]
        if left is None or right is None:
            continue
        segments.append(
            {
                "x1": _pc((place - 0.5) * width),
                "x2": _pc((place + 0.5) * width),
                "y1": _px(scale.y(left)),
                "y2": _px(scale.y(right)),
            }
        )
    return segments


def _dots(values: Sequence[float | None], width: float, scale: _Scale) -> list[dict[str, str]]:
    """Where a value stands alone, or there are few."""
    few = len(values) <= 31
    dots = []
    for place, value in enumerate(values):
        alone = (place == 0 or values[place - 1] is None) and (place + 1 == len(values) or values[place + 1] is None)
        if value is not None and (few or alone):
            dots.append({"x": _pc((place + 0.5) * width), "y": _px(scale.y(value))})
    return dots


class _Scale:
    """From nothing to a round number above the largest value."""

    def __init__(self, most: float) -> None:
        self.step = _round_step(most / 4) if most > 0 else 0.0
        self.top = self.step * max(1, -(-most // self.step)) if self.step else 1.0
        self.empty = most <= 0

    def height(self, value: float) -> float:
        return _PLOT * value / self.top

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - self.height(value)

    def grid(self, axis: Shown) -> list[dict[str, Any]]:
        if self.empty:
            return [{"y": _px(HEIGHT - _BOTTOM), "text": axis(0)}]
        count = round(self.top / self.step)
        return [{"y": _px(self.y(self.step * n)), "text": axis(self.step * n)} for n in range(count + 1)]


def _round_step(rough: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, at least `rough`."""
    power: float = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999999)


def _pc(value: float) -> str:
    return f"{value:.3f}%"


def _px(value: float) -> str:
    return f"{value:.1f}"
