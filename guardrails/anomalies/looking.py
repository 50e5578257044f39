"""The look by the hour: what costs more than is usual for the hour of the week, models that shift, newcomers that spend fast.

Which workspaces: those with new events in their books since the last look (`billing_sequence_mark`); no schema is walked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from billing.domain.dimensions import OTHER
from billing.ledger.rollups import zone
from billing.models import SequenceMark
from guardrails.anomalies import incidents, reading
from guardrails.anomalies.models import Incident, Look
from guardrails.domain.anomalies import hours, newcomers
from guardrails.domain.anomalies.causes import Cause, Line, Told, causes
from guardrails.domain.anomalies.kinds import Deviation, Kind, Rules, Series
from guardrails.rounds import go_round
from workspaces import tenancy
from workspaces.audit import SYSTEM
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "workspaces with new entries since their hours were last looked at"
AGAIN: Final = timedelta(minutes=10)
AT_ONCE: Final = 25
FIRST_LOOK: Final = timedelta(days=14)
"""How far back the first look at a workspace goes."""
BACK: Final = timedelta(hours=3)
"""How far each further one reaches behind the one before: late corrections, hours that were running."""
DIMENSIONS: Final = ("agent", "virtual_key", "customer", "feature", "member", "model", "")
NEW: Final = ("customer", "model")

_DUE: Final = """
SELECT m.workspace_id FROM billing_sequence_mark m LEFT JOIN anomalies_look l ON l.workspace_id = m.workspace_id
WHERE m.seq > coalesce(l.seq, 0) AND (l.looked_at IS NULL OR l.looked_at < %(before)s)
ORDER BY l.looked_at NULLS FIRST LIMIT %(limit)s
"""
_QUIET: Final = "SELECT DISTINCT workspace_id FROM anomalies_incident WHERE ended_at IS NULL AND NOT by_minute AND last_seen_at < %(before)s"
_LIMITED: Final = (
    "SELECT DISTINCT workspace_id FROM anomalies_incident WHERE limit_id IS NOT NULL AND limit_until <= %(now)s"
)


def look(now: datetime) -> int:
    """Look at the workspaces that are due. Answers how many incidents were found."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(_DUE, {"before": now - AGAIN, "limit": AT_ONCE})
        due = [row[0] for row in cursor.fetchall()]
        cursor.execute(_QUIET, {"before": now - timedelta(hours=2)})
        quiet = [row[0] for row in cursor.fetchall()]
    return go_round(
        {*due, *quiet},
        lambda workspace: look_at(workspace, now) if workspace.pk in due else _end_quiet(workspace, now),
        what="a look at the hours",
    )


def look_at(workspace: Workspace, now: datetime) -> int:
    """Look at the hours since the last look, and before them at those of incidents that go on."""
    with transaction.atomic(), tenancy.entered(workspace):
        if workspace.state == WorkspaceState.DELETING or not incidents.alone(workspace):
            return 0
        seq = SequenceMark.objects.filter(workspace_id=workspace.pk).values_list("seq", flat=True).first() or 0
        known = Look.objects.filter(workspace_id=workspace.pk).first()
        is_new = now - workspace.created_at < timedelta(days=1)  # its history may still be on its way into the books
        since = now - FIRST_LOOK if known is None or is_new else max(known.looked_at - BACK, now - FIRST_LOOK)
        Look.objects.update_or_create(workspace_id=workspace.pk, defaults={"seq": seq, "looked_at": now})
        clock = zone(workspace.time_zone)
        found = _Hours(workspace, clock, since, now).causes()
        made = sum(incidents.begin(workspace, cause, clock=clock, now=now) for cause in found)
        _end_quiet(workspace, now)
        return made


def _end_quiet(workspace: Workspace, now: datetime) -> int:
    """End what has not been seen for two hours."""
    with transaction.atomic(), tenancy.entered(workspace):
        rows = Incident.objects.filter(workspace_id=workspace.pk, ended_at=None, by_minute=False)
        for one in rows.filter(last_seen_at__lt=now - timedelta(hours=2)):
            one.ended_at = one.last_seen_at
            one.save(update_fields=["ended_at"])
    return 0


def lift_limits(now: datetime) -> int:
    """Take away the limits whose time is over. Answers how many."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(_LIMITED, {"now": now})
        due = [row[0] for row in cursor.fetchall()]
    lifted = 0
    for workspace in Workspace.objects.filter(pk__in=due).exclude(state=WorkspaceState.DELETING):
        with transaction.atomic(), tenancy.entered(workspace):
            rows = Incident.objects.filter(workspace_id=workspace.pk, limit_id__isnull=False, limit_until__lte=now)
            for one in rows:
                incidents.lift_limit(workspace, one, SYSTEM)
                lifted += 1
    return lifted


class _Hours:
    """One look at one workspace."""

    def __init__(self, workspace: Workspace, clock: ZoneInfo, since: datetime, now: datetime) -> None:
        self.workspace, self.clock, self.now = workspace, clock, now
        self.rules: Rules = reading.rules_of(reading.wishes_of(workspace))
        self.expected = reading.Expected(workspace)
        lately = Incident.objects.filter(workspace_id=workspace.pk, last_seen_at__gte=since - timedelta(hours=2))
        self.lately: Sequence[Incident] = list(lately)
        going_on = [one.started_at for one in self.lately if one.ended_at is None and not one.by_minute]
        self.since = max(min([since, *going_on]), now - FIRST_LOOK)
        self.lines_of = lru_cache(maxsize=64)(self._lines)

    def causes(self) -> list[Cause]:
        first, last = reading.hour_of(self.since, self.clock), reading.hour_of(self.now, self.clock)
        found: list[Deviation] = []
        dear = reading.dear_series(self.workspace, DIMENSIONS, self.since, self.rules.least_nano)
        for dimension, values in dear.items():
            wanted = [value for value in values if value != OTHER]
            for series, history in reading.histories(self.workspace, dimension, wanted, self.since).items():
                taught = self.expected.of(series)
                found += map(self._with_mix, hours.deviations(series, history, first, last, self.rules, taught))
        for dimension in NEW:
            found += self._newcomers(dimension, [value for value in dear.get(dimension, []) if value != OTHER])
        return causes(found, self.lines_of, self._told())

    def _told(self) -> list[Told]:
        """What is known already. Incidents that this look sees again itself are not among them: they are to be brought up to date."""
        first = reading.hour_of(self.since, self.clock)
        return [
            Told(
                Series(one.dimension, one.value), reading.hour_of(one.started_at, self.clock), reading.hour_of(one.last_seen_at, self.clock) + 1,
                one.cost_nano,
            )
            for one in self.lately
            if one.by_minute or reading.hour_of(one.started_at, self.clock) < first
        ]  # fmt: skip

    def _with_mix(self, one: Deviation) -> Deviation:
        if one.kind is not Kind.COST_PER_CALL:
            return one
        start = reading.moment_of(one.start, self.clock)
        before = reading.mix(self.workspace, one.series, start - timedelta(days=15), start - timedelta(days=1))
        return hours.by_mix(one, before, reading.mix_of_lines(self.lines_of(one.start, one.end), one.series))

    def _lines(self, start: int, end: int) -> list[Line]:
        return reading.lines(self.workspace, reading.moment_of(start, self.clock), reading.moment_of(end, self.clock))

    def _newcomers(self, dimension: str, values: Sequence[str]) -> list[Deviation]:
        today = self.now.astimezone(self.clock).date()
        young = {
            value: first
            for value, first in reading.first_days(self.workspace, dimension, values).items()
            if (today - first).days < newcomers.NEW_DAYS
        }
        if not young:
            return []
        before = today - timedelta(days=14)
        whole = [cost for day, cost in reading.day_costs(self.workspace, "", "", before).items() if day < today]
        others = reading.usual_days(self.workspace, dimension, before, today - timedelta(days=1))
        found = []
        for value, first in young.items():
            series = Series(dimension, value)
            costs = reading.day_costs(self.workspace, dimension, value, first)
            days = [costs.get(first + timedelta(days=past), 0) for past in range((today - first).days + 1)]
            one = newcomers.newcomer(
                series, days, first_day=first.toordinal() - _EPOCH_DAY, today=today.toordinal() - _EPOCH_DAY, workspace_days=whole,
                others=others, rules=self.rules, taught=self.expected.of(series),
            )  # fmt: skip
            if one is not None:
                found.append(one)
        return found


_EPOCH_DAY: Final = 719_163
"""The ordinal of 1970-01-01: days are counted from there, as hours are."""
