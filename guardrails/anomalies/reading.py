"""From the books to the detectors' plain values: hours and minutes of a series, what was called in a time, what was called expected.

Everything is read inside the entered workspace. Hours are numbers on its own clock (`guardrails.domain.anomalies.baseline`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Q

from billing.domain.dimensions import Dimension
from billing.ledger import queries as books
from billing.ledger import values as kept
from billing.ledger.queries import Days
from billing.ledger.rollups import zone
from billing.models import Minute, RollupMonth
from guardrails.anomalies.models import Expectation, Wishes
from guardrails.domain.anomalies.baseline import Cell, History
from guardrails.domain.anomalies.causes import Line
from guardrails.domain.anomalies.hours import Mix
from guardrails.domain.anomalies.kinds import DEVIATIONS, Kind, Rules, Sensitivity, Series, Taught
from workspaces.models import Workspace

HISTORY: Final = timedelta(days=29)
MOST_LINES: Final = 20_000
"""Attempts of a time that are read one by one; of more, the latest stand for all."""
MOST_COMBINATIONS: Final = 3_000
MOST_HISTORY: Final = 40
"""Series of a dimension whose hours are read at once: those that cost most."""
FLEETING: Final = ("session", "user")
_NO_END: Final = datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall time: of every zone
_NAMES: Final = (
    "session",
    "user",
    "agent",
    "customer",
    "virtual_key",
    "feature",
    "member",
    "model",
    "department",
    "provider",
    "environment",
)


# --- The workspace's clock --------------------------------------------------------------------------------------------
def hour_of(moment: datetime, clock: ZoneInfo) -> int:
    """The number of the hour on a wall clock."""
    local = moment.astimezone(clock).replace(tzinfo=None)
    return int((local - _EPOCH).total_seconds() // 3600)


def moment_of(hour: int, clock: ZoneInfo) -> datetime:
    """When that hour began."""
    return (_EPOCH + timedelta(hours=hour)).replace(tzinfo=clock).astimezone(UTC)


# --- Wishes -----------------------------------------------------------------------------------------------------------
def wishes_of(workspace: Workspace) -> Wishes:
    return Wishes.objects.filter(workspace_id=workspace.pk).first() or Wishes(workspace_id=workspace.pk)


def rules_of(wishes: Wishes) -> Rules:
    return Rules(least_nano=wishes.least_nano, deviations=DEVIATIONS[Sensitivity(wishes.sensitivity)])


class Expected:
    """What was called expected in a workspace, by series."""

    def __init__(self, workspace: Workspace) -> None:
        self._rows = list(Expectation.objects.filter(workspace_id=workspace.pk).order_by("created_at"))

    def of(self, series: Series, within: Iterable[Series] = ()) -> list[Taught]:
        """`within`: the series that a session or user is part of."""
        around = {(one.dimension, one.value) for one in within}
        return [
            Taught(
                Kind(row.kind), row.per_hour_nano, row.per_call_nano, row.per_minute, frozenset(row.slots),
            )
            for row in self._rows
            if row.dimension == series.dimension
            and (row.value == series.value or (not row.value and row.dimension in FLEETING))
            and (not row.within_dimension or (row.within_dimension, row.within_value) in around)
        ]  # fmt: skip


# --- Hours ------------------------------------------------------------------------------------------------------------
def dear_series(
    workspace: Workspace, dimensions: Sequence[str], since: datetime, least_nano: int
) -> dict[str, list[str]]:
    """By dimension, the values that cost at least so much since then, the dearest first."""
    found = {}
    for dimension, spent in kept.summed(workspace.pk, kept.HOUR, dimensions, since, _NO_END, ("cost_nano",)).items():
        dear = [value for value, (cost,) in spent.items() if cost >= least_nano]
        if dear:
            found[dimension] = dear[:MOST_HISTORY]
    return found


def histories(workspace: Workspace, dimension: str, values: Sequence[str], since: datetime) -> dict[Series, History]:
    """The hours of some series since then and from before, as far as habits reach."""
    clock = zone(workspace.time_zone)
    first = since - HISTORY
    cells: dict[str, dict[int, Cell]] = {value: {} for value in values}
    measures = ("calls", "attempts", "errors", "cost_nano")
    rows = kept.over_time(workspace.pk, kept.HOUR, dimension, first, _NO_END, measures, values)
    for hour, value, calls, attempts, errors, cost in rows:
        at = hour_of(hour, clock)
        was = cells[value].get(at, Cell())  # where clocks are set back an hour comes twice
        cells[value][at] = Cell(was.calls + calls, was.attempts + attempts, was.errors + errors, was.cost_nano + cost)
    begin = hour_of(first, clock)
    return {Series(dimension, value): History(known, begin) for value, known in cells.items()}


def mix(workspace: Workspace, series: Series, start: datetime, end: datetime) -> Mix:
    """The models that a series called on the days of a time: model -> (calls, cost)."""
    clock = zone(workspace.time_zone)
    days = Days(start.astimezone(clock).date(), end.astimezone(clock).date())
    filters = {series.dimension: series.value} if series.dimension else {}
    rows = books.by_value(workspace, days, Dimension.MODEL, filters=filters)
    return {row.value: (row.totals.calls, row.totals.cost_nano) for row in rows}


def mix_of_lines(lines: Iterable[Line], series: Series) -> Mix:
    found: dict[str, tuple[int, int]] = {}
    for line in lines:
        if not series.dimension or line.dims.get(series.dimension) == series.value:
            was = found.get(line.dims["model"], (0, 0))
            found[line.dims["model"]] = (was[0] + line.attempts, was[1] + line.cost_nano)
    return found


_LINES: Final = """
WITH seen AS (
    SELECT session, end_user, customer, caller_id, leg, cost_nano, failed
    FROM billing_entry WHERE workspace_id = %(workspace)s AND at >= %(start)s AND at < %(end)s ORDER BY at DESC LIMIT %(most)s
)
SELECT session, end_user, agent, customer, virtual_key, feature, member, model, department, provider, environment,
    count(*) FILTER (WHERE leg = 0), count(*) FILTER (WHERE leg = 0 AND failed), sum(cost_nano)::bigint, sum(count(*)) OVER ()
FROM seen JOIN billing_caller AS c ON c.id = seen.caller_id GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ORDER BY count(*) DESC LIMIT %(combinations)s
"""


def lines(workspace: Workspace, start: datetime, end: datetime) -> list[Line]:
    """What was called in a time, by all dimensions. Of more than `MOST_LINES` the latest, weighed as all of them."""
    with connection.cursor() as cursor:
        given = {
            "workspace": workspace.pk,
            "start": start,
            "end": end,
            "most": MOST_LINES,
            "combinations": MOST_COMBINATIONS,
        }
        cursor.execute(_LINES, given)
        rows = cursor.fetchall()
        scale = 1.0
        if rows and rows[0][-1] >= MOST_LINES:
            cursor.execute(
                "SELECT coalesce(sum(attempts), 0) FROM billing_rollup_hour WHERE workspace_id = %s AND dimension = '' AND hour >= %s AND hour < %s",
                [workspace.pk, start - timedelta(minutes=59), end],
            )
            scale = max(1.0, float(cursor.fetchone()[0]) / MOST_LINES)
    return [
        Line(
            dict(zip(_NAMES, row[:11], strict=True)),
            round(row[11] * scale),
            round(row[12] * scale),
            round(row[13] * scale),
        )
        for row in rows
    ]


# --- Days -------------------------------------------------------------------------------------------------------------
def first_days(workspace: Workspace, dimension: str, values: Sequence[str]) -> dict[str, Any]:
    """The first day on which each value was seen; of those seen before last month, the first day of a month by then."""
    since = _months_first(datetime.now(UTC) - timedelta(days=31)).date()
    found: dict[str, Any] = {}
    rows = kept.over_time(workspace.pk, kept.DAY, dimension, since, _NO_END.date(), ("attempts",), values)
    for day, value, _ in rows:
        found.setdefault(value, day)
    before = RollupMonth.objects.filter(
        workspace_id=workspace.pk, dimension=dimension, value__in=values, month__lt=since
    )
    return found | dict(before.order_by("-month").values_list("value", "month"))


def _months_first(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def day_costs(workspace: Workspace, dimension: str, value: str, first: Any) -> dict[Any, int]:
    rows = kept.over_time(workspace.pk, kept.DAY, dimension, first, _NO_END.date(), ("cost_nano",), [value])
    return {day: cost for day, _, cost in rows}


def usual_days(workspace: Workspace, dimension: str, first: Any, last: Any) -> list[int]:
    """What the values of a dimension cost on an average day of a time."""
    days = max(1, (last - first).days + 1)
    spent = kept.summed(workspace.pk, kept.DAY, [dimension], first, last, ("cost_nano",))[dimension]
    return [(2 * cost + days) // (2 * days) for (cost,) in spent.values()][:2000]


# --- Minutes ----------------------------------------------------------------------------------------------------------
class MinuteSeen(NamedTuple):
    at: datetime
    attempts: int
    errors: int
    cost_nano: int


def minutes_of(workspace: Workspace, series: Series, since: datetime) -> list[MinuteSeen]:
    """The minutes of a series, oldest first; those without a call are left out."""
    rows = Minute.objects.filter(
        workspace_id=workspace.pk, dimension=series.dimension, value=series.value, minute__gte=since
    )
    found = rows.order_by("minute").values_list("minute", "attempts", "errors", "cost_nano")
    return [MinuteSeen(*row) for row in found]


def busiest_minute(
    workspace: Workspace, series: Series, before: datetime, without: Sequence[tuple[datetime, datetime]]
) -> int:
    """The attempts of a series' busiest minute of the last hours, times of incidents left out. Of a session or user: of nearly all others."""
    odd = Q()
    for start, end in without:
        odd |= Q(minute__gte=start - timedelta(minutes=1), minute__lte=end)
    rows = Minute.objects.filter(workspace_id=workspace.pk, dimension=series.dimension, minute__lt=before)
    if series.dimension not in FLEETING:
        rows = rows.filter(value=series.value).exclude(odd) if without else rows.filter(value=series.value)
        return max(rows.values_list("attempts", flat=True), default=0)
    # Each session's busiest minute; the hundredth that fires most is not what is usual, and neither is a session that looped.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(percentile_disc(0.95) WITHIN GROUP (ORDER BY most), 0) FROM (SELECT max(attempts) AS most FROM billing_minute "
            "WHERE workspace_id = %s AND dimension = %s AND value <> %s AND minute < %s GROUP BY value) AS r",
            [workspace.pk, series.dimension, series.value, before],
        )
        return int(cursor.fetchone()[0])


def since_yesterday(workspace: Workspace, series: Series, now: datetime) -> bool:
    """Whether a series was there before today's last 24 hours: whether it can have a habit."""
    end = now - timedelta(hours=24, microseconds=1)
    long_ago = _months_first(now - HISTORY)
    for since in (now - timedelta(hours=48), long_ago):  # nearly every series was there yesterday
        if kept.over_time(workspace.pk, kept.HOUR, series.dimension, since, end, ("attempts",), [series.value]):
            return True
    return RollupMonth.objects.filter(
        workspace_id=workspace.pk, dimension=series.dimension, value=series.value, month__lt=long_ago.date()
    ).exists()
