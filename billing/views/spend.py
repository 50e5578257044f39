"""A cost question answered for the eye: groups with their sums, what they were before, and a chart over time. Used by overview and explorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote_plus

from django.http import HttpRequest
from django.utils.http import urlencode

from billing.ledger import queries
from billing.ledger.queries import Days, Granularity, Row, Totals
from billing.ledger.rollups import zone
from billing.views import amounts, charts
from billing.views.charts import Bucket, Chart, Series
from billing.views.naming import Names
from billing.views.question import Question, title_of
from workspaces.models import Workspace
from workspaces.roles import Action, may
from workspaces.views.frame import membership_of, url, workspace_of

CHARTED: Final = 8
CHARTED_LINES: Final = 5
ROWS: Final = 50
SHOWN: Final = ("calls", "attempts", "cost_nano", "assumed_nano", "unpriced_calls")
"""What is shown beside the metric."""


@dataclass(frozen=True, slots=True)
class Answer:
    whole: Totals
    rows: list[Row]
    rest: Totals
    """What is in no row: further groups, and calls without a value."""
    is_all: bool
    """Whether the rest is nothing but calls without a value."""
    whole_before: Totals
    before: Mapping[tuple[str, ...], Totals]
    points: Mapping[tuple[Any, str], Totals]
    """(start, value of the first dimension) -> sums; the value "" is the whole."""
    points_before: list[tuple[Any, Totals]]


def answer(workspace: Workspace, asked: Question, names: Names, *, rows: int = ROWS) -> Answer:
    """Reads what a question needs; one more row than asked for tells whether there are more."""
    filters, metric = asked.filters, asked.metric
    measures = tuple(dict.fromkeys((*metric.reads, *SHOWN)))
    found, over_time = queries.answered(
        workspace, asked.days, asked.dimensions, asked.grain, filters=filters, limit=rows + 1, rank_by=metric.rank_by, measures=measures,
        charted=_most_charted(asked),
    )  # fmt: skip
    points = {(point.start, point.value): point.totals for point in over_time}
    whole = sum((point.totals for point in over_time if not point.value), Totals())
    shown = found[:rows]
    whole_before, before, points_before = Totals(), {}, []
    if asked.compares:
        same, before_series = queries.answered(
            workspace, asked.before, asked.dimensions, asked.grain, filters=filters, rank_by=metric.rank_by, measures=measures,
            only=[row.values for row in shown],
        )  # fmt: skip
        whole_before = sum((point.totals for point in before_series), Totals())
        points_before = [(point.start, point.totals) for point in before_series]
        before = {row.values: row.totals for row in same}
    for place, name in enumerate(asked.dimensions):
        names.learn(name, {row.values[place] for row in found})
    rest = whole - sum((row.totals for row in shown), Totals())
    return Answer(whole, shown, rest, len(found) <= rows, whole_before, before, points, points_before)


def answer_by_day(
    workspace: Workspace, asked: Question, names: Names, *, rows: int, by_day: Mapping[Any, Totals] | None = None
) -> Answer:
    """`answer` for one dimension by the day and without a comparison, in two reads (three without `by_day`, the whole of each day)."""
    if by_day is None:
        by_day = {point.start: point.totals for point in queries.series(workspace, asked.days, Granularity.DAY)}
    ranked = queries.ranked(workspace, asked.days, [asked.by], limit=rows + 1, rank_by=asked.metric.rank_by)
    shown = [value for (value,) in ranked[:rows]]
    points = {(day, ""): totals for day, totals in by_day.items() if asked.days.first <= day <= asked.days.last}
    whole = sum(points.values(), Totals())
    sums = dict.fromkeys(shown, Totals())
    series = queries.series(workspace, asked.days, Granularity.DAY, dimension=asked.by, values=shown) if shown else []
    for point in series:
        points[point.start, point.value] = point.totals
        sums[point.value] += point.totals
    names.learn(asked.by, shown)
    found = [Row((value,), sums[value]) for value in shown]
    rest = whole - sum(sums.values(), Totals())
    return Answer(whole, found, rest, len(ranked) <= rows, Totals(), {}, points, [])


def _charted(asked: Question, rows: list[Row]) -> list[str]:
    """The values of the first dimension that the chart names, dearest first."""
    return [value for value in dict.fromkeys(row.values[0] for row in rows) if value][: _most_charted(asked)]


def _most_charted(asked: Question) -> int:
    return CHARTED if asked.metric.adds_up else CHARTED_LINES


# --- The chart --------------------------------------------------------------------------------------------------------
def chart(request: HttpRequest, asked: Question, found: Answer, names: Names, title: str) -> Chart:
    workspace = workspace_of(request)
    starts = _starts(workspace, asked.days, asked.grain)
    metric = asked.metric
    charted = _charted(asked, found.rows)
    drill = may(membership_of(request).role, Action.SEE_CALLS, narrows=True)
    buckets = [
        Bucket(_label(start, asked.grain), _title(start, asked.grain), _calls_url(request, asked, start) if drill else "")
        for start in starts
    ]  # fmt: skip
    summary = f"{title}, {said(asked.days)}, by {title_of(asked.by).lower()}: {metric.text(found.whole)} in all."

    def values(value: str) -> list[float | None]:
        return [metric.of(found.points.get((start, value), Totals())) for start in starts]

    whole = values("")
    series = [Series(names.of(asked.by, value), values(value), tone) for tone, value in enumerate(charted, start=1)]
    if not metric.adds_up:
        lines = [Series("All", whole, charts.REST_TONE), *series] if len(series) != 1 else series
        return charts.lined(title, buckets, lines, shown=metric.shown, axis=metric.axis, summary=summary)
    rest = [max(0, (total or 0) - sum(one.values[place] or 0 for one in series)) for place, total in enumerate(whole)]
    if any(rest):
        series.append(Series("Everything else" if series else "All", rest, charts.REST_TONE))
    before = _before(asked, found, len(starts))
    return charts.stacked(title, buckets, series, shown=metric.shown, axis=metric.axis, summary=summary, before=before)


def _before(asked: Question, found: Answer, length: int) -> list[float | None]:
    """The period before, bucket by bucket in the same places. Weeks and months are whole ones: their places are not the days'."""
    if not found.points_before or asked.grain in (Granularity.WEEK, Granularity.MONTH):
        return []
    first = asked.before.first
    values: list[float | None] = [0.0] * length
    for start, totals in found.points_before:
        if isinstance(start, datetime):
            continue
        place = (start - first).days
        if 0 <= place < length:
            values[place] = asked.metric.of(totals)
    return values if asked.grain is Granularity.DAY else []


def _starts(workspace: Workspace, days: Days, grain: Granularity) -> list[Any]:
    if grain is Granularity.HOUR:
        moment, end = queries.moments(workspace, days)
        hours = []
        while moment < end:
            hours.append(moment)
            moment += timedelta(hours=1)
        local = zone(workspace.time_zone)
        return [hour.astimezone(local) for hour in hours]
    span = [days.first + timedelta(days=number) for number in range((days.last - days.first).days + 1)]
    if grain is Granularity.WEEK:
        return sorted({day - timedelta(days=day.weekday()) for day in span})
    if grain is Granularity.MONTH:
        return sorted({day.replace(day=1) for day in span})
    return span


def _label(start: Any, grain: Granularity) -> str:
    if grain is Granularity.HOUR:
        return f"{start:%H:%M}" if start.hour else f"{start.day} {start:%b}"
    return f"{start:%b %Y}" if grain is Granularity.MONTH else f"{start.day} {start:%b}"


def _title(start: Any, grain: Granularity) -> str:
    if grain is Granularity.HOUR:
        return f"{start:%A}, {start.day} {start:%B}, {start:%H:%M}"
    if grain is Granularity.MONTH:
        return f"{start:%B %Y}"
    return f"{'Week of ' if grain is Granularity.WEEK else ''}{start:%A}, {start.day} {start:%B}"


def _calls_url(request: HttpRequest, asked: Question, start: Any) -> str:
    """The calls of a bucket."""
    first = start.date() if isinstance(start, datetime) else max(start, asked.days.first)
    last = first
    if asked.grain is Granularity.WEEK:
        last = start + timedelta(days=6)
    elif asked.grain is Granularity.MONTH:
        last = (start + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    return calls_url(request, Days(first, max(first, min(last, asked.days.last))), asked.filters)


def calls_url(request: HttpRequest, days: Days, filters: Mapping[str, str]) -> str:
    pairs = [("from", days.first.isoformat()), ("to", days.last.isoformat()), *sorted(filters.items())]
    return f"{url(request, 'calls')}?{urlencode(pairs)}"


_VALUE: Final = "\x00"
"""In an address, where a value is to stand: no value has one."""


class _Address:
    """An address as it is in every row but for the values, which stand in the order of their names: made once, not in each row."""

    def __init__(self, address: str) -> None:
        self._first, *self._others = address.split(quote_plus(_VALUE))

    def of(self, *values: str) -> str:
        return self._first + "".join(
            f"{quote_plus(value)}{other}" for value, other in zip(values, self._others, strict=True)
        )


# --- The table --------------------------------------------------------------------------------------------------------
def rows(request: HttpRequest, asked: Question, found: Answer, names: Names) -> list[dict[str, Any]]:
    """A row a group, then one of the rest. Links narrow the question down, or lead to the group's calls."""
    metric = asked.metric
    explorer = url(request, "explorer")
    drill = may(membership_of(request).role, Action.SEE_CALLS, narrows=True)
    tones = {value: tone for tone, value in enumerate(_charted(asked, found.rows), start=1)}
    narrowed = [_Address(f"{explorer}?{asked.with_filter(name, _VALUE)}") for name in asked.dimensions]
    calls = _Address(calls_url(request, asked.days, {**asked.filters, **dict.fromkeys(asked.dimensions, _VALUE)}))
    by_name = sorted(range(len(asked.dimensions)), key=lambda place: asked.dimensions[place])
    whole = metric.of(found.whole) or 0
    made = []
    for row in found.rows:
        cells = [
            names.row(name, value) | {"url": address.of(value) if value else ""}
            for name, value, address in zip(asked.dimensions, row.values, narrowed, strict=True)
        ]
        made.append(
            _row(asked, row.totals, found.before.get(row.values, Totals()), whole)
            | {
                "cells": cells,
                "tone": tones.get(row.values[0], charts.REST_TONE),
                "calls_url": calls.of(*(row.values[place] for place in by_name)) if drill and all(row.values) else "",
            }
        )
    if found.rows and (found.rest.calls > 0 or found.rest.cost_nano > 0):
        name = f"Without {_article(asked.by)}" if found.is_all else "Everything else"
        cells = [{"value": "", "name": name, "is_named": False, "url": ""}]
        cells += [{"value": "", "name": "", "is_named": False, "url": ""}] * (len(asked.dimensions) - 1)
        rest_before = found.whole_before - sum(found.before.values(), Totals())
        made.append(
            _row(asked, found.rest, rest_before, whole)
            | {"cells": cells, "tone": charts.REST_TONE, "calls_url": "", "is_rest": True}
        )
    return made


def _article(dimension: str) -> str:
    title = title_of(dimension).lower()
    return f"{'an' if title[0] in 'aeo' else 'a'} {title}"


def _row(asked: Question, totals: Totals, before: Totals, whole: float) -> dict[str, Any]:
    metric = asked.metric
    value = metric.of(totals)
    return {
        "value": metric.text(totals),
        "exact_nano": totals.cost_nano,
        "share": round((value or 0) * 10_000 / whole) if whole and metric.adds_up else 0,
        "share_text": _share(value or 0, whole) if metric.adds_up else "",
        "calls": totals.calls,
        "tokens": totals.tokens,
        "cost_nano": totals.cost_nano,
        "assumed_nano": totals.assumed_nano,
        "errors": totals.errors,
        "before": metric.text(before) if asked.compares else "",
        "change": metric_change(asked, value, metric.of(before)) if asked.compares else None,
    }


def _share(value: float, whole: float) -> str:
    if not whole:
        return ""
    share = 100 * value / whole
    return "<0.1%" if 0 < share < 0.1 else f"{share:.1f}%"


def change(now: float, before: float) -> dict[str, Any]:
    """How an amount of nano-dollars differs from an earlier one."""
    delta = round(now - before)
    return _change(
        now, before, f"{'+' if delta > 0 else '-' if delta < 0 else ''}{amounts.show(abs(delta))}", worse=True
    )


def metric_change(asked: Question, now: float | None, before: float | None) -> dict[str, Any] | None:
    if now is None or before is None:
        return None
    delta = now - before
    text = f"{'+' if delta > 0 else '-' if delta < 0 else ''}{asked.metric.shown(abs(delta))}"
    return _change(now, before, text, worse=asked.metric.more_is_worse)


def _change(now: float, before: float, text: str, *, worse: bool) -> dict[str, Any]:
    percent = 100 * (now - before) / before if before else None
    is_same = now == before or (percent is not None and abs(percent) < 0.5)
    return {
        "text": text,
        "percent": ("new" if now else "") if percent is None else _percent(abs(percent), now > before),
        "tone": "" if not worse or is_same else "bad" if now > before else "good",
        "arrow": "" if is_same or percent is None else "up" if now > before else "down",
        "before_nano": round(before),
    }


def _percent(value: float, is_more: bool) -> str:
    if is_more and value >= 1000:
        return f"{value / 100 + 1:.0f}×"
    return f"{value:.0f}%"


def said(days: Days) -> str:
    """ "12 to 18 November 2026"."""
    first, last = days.first, days.last
    if first == last:
        return _date(last)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {_date(last)}"
    return f"{first.day} {first:%B} to {_date(last)}" if first.year == last.year else f"{_date(first)} to {_date(last)}"


def _date(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
