"""The look by the minute, every few seconds: loops and error storms, from the minutes that the ledger writer keeps.

One statement over all workspaces finds the series that fire enough to be asked about; only their workspaces are entered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.cache import cache
from django.db import connection, transaction

from billing.domain.keys import value_digest
from billing.ledger.rollups import zone
from guardrails.anomalies import incidents, reading
from guardrails.anomalies.models import Incident
from guardrails.domain.anomalies import minutes
from guardrails.domain.anomalies.baseline import slot_of
from guardrails.domain.anomalies.causes import Cause, Line, Told, causes, shares_of
from guardrails.domain.anomalies.kinds import Deviation, Kind, Response, Series
from guardrails.domain.anomalies.minutes import LEAST_ATTEMPTS, LEAST_ERRORS, Habit, Pace
from guardrails.rounds import go_round
from workspaces import tenancy
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "series of all workspaces that fire fast are found in their last minutes"
AT_ONCE: Final = 200
HABIT_S: Final = 600
"""How long a series' habit is remembered."""
ERRORS_OVER: Final = timedelta(minutes=5)
QUIET: Final = timedelta(minutes=5)
"""After so long without its sign an incident has ended."""
MOST_PACES: Final = 60
"""Series of one workspace that are looked into at once: those that fire most."""

_FAST: Final = """
SELECT workspace_id, dimension, value,
    coalesce(sum(attempts) FILTER (WHERE minute >= %(loops)s), 0)::bigint, coalesce(sum(errors) FILTER (WHERE minute >= %(loops)s), 0)::bigint,
    coalesce(sum(cost_nano) FILTER (WHERE minute >= %(loops)s), 0)::bigint,
    sum(attempts)::bigint, sum(errors)::bigint, sum(cost_nano)::bigint
FROM billing_minute WHERE minute >= %(errors)s
GROUP BY 1, 2, 3
HAVING sum(attempts) FILTER (WHERE minute >= %(loops)s) >= %(attempts)s OR sum(errors) >= %(failed)s
"""


def watch(now: datetime) -> int:
    """Look at the last minutes of every workspace in which something fires. Answers how many incidents began."""
    this_minute = now.replace(second=0, microsecond=0)
    windows = {"loops": this_minute - timedelta(minutes=1), "errors": this_minute - ERRORS_OVER}
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(_FAST, {**windows, "attempts": LEAST_ATTEMPTS, "failed": LEAST_ERRORS})
        rows = cursor.fetchall()
        cursor.execute("SELECT DISTINCT workspace_id FROM anomalies_incident WHERE ended_at IS NULL AND by_minute")
        going_on = [row[0] for row in cursor.fetchall()]
    fast: dict[int, list[Any]] = {workspace_id: [] for workspace_id in going_on}
    for workspace_id, *row in rows:
        fast.setdefault(workspace_id, []).append(row)
    # Where more fire than can be asked about at once, another choice at each look.
    chosen = sorted(fast, key=lambda pk: hash((pk, int(now.timestamp()))))[:AT_ONCE]
    return go_round(
        chosen,
        lambda workspace: _look_at(workspace, fast[workspace.pk], windows, now),
        what="a look at the last minutes",
    )


def _look_at(workspace: Workspace, rows: Sequence[Any], windows: dict[str, datetime], now: datetime) -> int:
    with transaction.atomic(), tenancy.entered(workspace):
        if workspace.state == WorkspaceState.DELETING or not incidents.alone(workspace):
            return 0
        _go_on(workspace, now)
        found = _Minutes(workspace, windows, now).causes(rows)
        return sum(incidents.begin(workspace, cause, clock=None, now=now) for cause in found)


class _Minutes:
    """One look at one workspace."""

    def __init__(self, workspace: Workspace, windows: dict[str, datetime], now: datetime) -> None:
        self.workspace, self.windows, self.now = workspace, windows, now
        wishes = reading.wishes_of(workspace)
        self.rules = reading.rules_of(wishes)
        self.off = {kind for kind, response in wishes.responses.items() if response == Response.OFF}
        self.slot = slot_of(reading.hour_of(now, zone(workspace.time_zone)))
        self._lines: list[Line] | None = None
        self._expected: reading.Expected | None = None
        self.lately = list(
            Incident.objects.filter(
                workspace_id=workspace.pk, last_seen_at__gte=now - timedelta(hours=3), by_minute=True
            )
        )

    def causes(self, rows: Sequence[Any]) -> list[Cause]:
        found: list[Deviation] = []
        rows = sorted(rows, key=lambda row: -row[2])[:MOST_PACES]
        for dimension, value, attempts, errors, cost, all_attempts, all_errors, all_cost in rows:
            series = Series(dimension, value)
            if attempts >= LEAST_ATTEMPTS and dimension and Kind.LOOP not in self.off:
                found += self._loop(self._pace(series, "loops", attempts, errors, cost))
            if all_errors >= LEAST_ERRORS and Kind.ERROR_STORM not in self.off:
                found += self._storm(self._pace(series, "errors", all_attempts, all_errors, all_cost))
        if not found:
            return []
        told = [
            Told(
                Series(one.dimension, one.value), int(one.started_at.timestamp()) - 300, int(one.last_seen_at.timestamp()) + 300, 0,
            )
            for one in self.lately
            if one.ended_at is None or _just_ended(one.ended_at, self.now)
        ]  # fmt: skip
        loops = [one for one in found if one.kind is Kind.LOOP]
        storms = [one for one in found if one.kind is Kind.ERROR_STORM]
        made = causes(loops, lambda *_: self.lines, told)
        # A loop whose attempts fail is one thing, and it is a loop.
        told += [Told(one.driver, one.deviation.start, one.deviation.end, 0) for one in made]
        return [*made, *causes(storms, lambda *_: self.lines, told)]

    def _pace(self, series: Series, over: str, attempts: int, errors: int, cost: int) -> Pace:
        start = self.windows[over]
        return Pace(series, int(start.timestamp()), (self.now - start).total_seconds(), attempts, errors, cost)

    def _loop(self, pace: Pace) -> list[Deviation]:
        habit = self._habit(pace.series)
        found = minutes.loop(pace, habit, self.rules, slot=self.slot)
        if found is None or self._is_many(pace.series):
            return []
        taught = self.expected.of(pace.series, self._around(pace.series))
        found = minutes.loop(pace, habit, self.rules, taught, slot=self.slot) if taught else found
        return [] if found is None else [found]

    def _storm(self, pace: Pace) -> list[Deviation]:
        habit = self._habit(pace.series)
        taught = self.expected.of(pace.series, ())
        found = minutes.error_storm(pace, habit, self.rules, taught, slot=self.slot)
        return [] if found is None else [found]

    def _is_many(self, series: Series) -> bool:
        """Whether the calls come from many callers. An agent may begin a session at every turn: for it only people count."""
        by = ("user", "customer") if series.dimension in ("agent", "session") else ("session", "user", "customer")
        return any(minutes.is_many(shares_of(self.lines, series, name)) for name in by if name != series.dimension)

    def _around(self, series: Series) -> list[Series]:
        return [
            Series(name, value)
            for line in self.lines
            if line.dims.get(series.dimension) == series.value
            for name, value in line.dims.items()
            if value and name != series.dimension
        ]

    @property
    def lines(self) -> list[Line]:
        """What was called in the last minutes. Attempts are kept by their beginning, minutes by their end: a while longer is read."""
        if self._lines is None:
            start = self.windows["errors"] - timedelta(minutes=2)
            self._lines = reading.lines(self.workspace, start, self.now + timedelta(minutes=1))
        return self._lines

    @property
    def expected(self) -> reading.Expected:
        if self._expected is None:
            self._expected = reading.Expected(self.workspace)
        return self._expected

    def _habit(self, series: Series) -> Habit:
        """What is usual for a series, read at most every ten minutes: the hours of the week that are like this one, and its busiest minute."""
        name = f"anomalies:habit:{self.workspace.pk}:{series.dimension}:{value_digest(series.value)}"
        known = cache.get(name)
        if known is None:
            known = self._read_habit(series)
            cache.set(name, known, timeout=HABIT_S)
        return Habit(*known)

    def _read_habit(self, series: Series) -> tuple[float, float, float, bool]:
        before = self.windows["loops"]
        without = [(one.started_at, one.last_seen_at) for one in self.lately if not one.feedback]
        busiest = float(reading.busiest_minute(self.workspace, series, before, without))
        if series.dimension in reading.FLEETING:
            return 0.0, busiest, 0.0, True
        if not reading.since_yesterday(self.workspace, series, self.now):
            return 0.0, busiest, 0.0, False
        clock = zone(self.workspace.time_zone)
        (history,) = reading.histories(self.workspace, series.dimension, [series.value], self.now).values()
        hour = reading.hour_of(self.now, clock)
        return history.busy_attempts(hour) / 60, busiest, history.error_share(hour), True


def _just_ended(ended_at: datetime, now: datetime) -> bool:
    return now - ended_at < QUIET


def _go_on(workspace: Workspace, now: datetime) -> None:
    """Add up what open incidents cost until now, and end those that went quiet."""
    this_minute = now.replace(second=0, microsecond=0)
    for one in Incident.objects.select_for_update().filter(workspace_id=workspace.pk, ended_at=None, by_minute=True):
        series = Series(one.seen_dimension, one.seen_value)
        rows = reading.minutes_of(workspace, series, one.counted_to or one.started_at)
        whole, running = [row for row in rows if row.at < this_minute], [row for row in rows if row.at >= this_minute]
        kept = one.facts.get("counted", {"cost_nano": 0, "calls": 0})
        kept = {
            "cost_nano": kept["cost_nano"] + _cost(one, whole),
            "calls": kept["calls"] + sum(row.attempts for row in whole),
        }
        one.facts = one.facts | {"counted": kept}
        one.cost_nano = kept["cost_nano"] + _cost(one, running)
        one.calls = kept["calls"] + sum(row.attempts for row in running)
        one.counted_to = this_minute
        if one.kind == Kind.LOOP:
            one.observed = max([one.observed, *(float(row.attempts) for row in whole)])
        sign = [row for row in rows if _goes_on(one, row.attempts, row.errors)]
        if sign:
            one.last_seen_at = min(now, sign[-1].at + timedelta(minutes=1))
        if now - one.last_seen_at > QUIET:
            one.ended_at = one.last_seen_at
        one.save(update_fields=["facts", "cost_nano", "calls", "counted_to", "observed", "last_seen_at", "ended_at"])


def _cost(one: Incident, rows: Sequence[reading.MinuteSeen]) -> int:
    """What minutes cost above habit; of failing attempts, their share."""
    attempts, cost = sum(row.attempts for row in rows), sum(row.cost_nano for row in rows)
    if not attempts:
        return 0
    failed = sum(row.errors for row in rows)
    share = failed / attempts if one.kind == Kind.ERROR_STORM else max(0.0, 1 - one.usual * len(rows) / attempts)
    return round(cost * share)


def _goes_on(one: Incident, attempts: int, errors: int) -> bool:
    """Whether a minute still shows it: a third of what it began with, above what is usual."""
    if one.kind == Kind.ERROR_STORM:
        return errors >= 2 and errors / attempts >= max(one.observed / 3, 2 * one.usual)
    return attempts >= max(LEAST_ATTEMPTS / 6, one.observed / 3, 1.5 * one.usual)
