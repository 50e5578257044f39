"""What becomes of a cause: one incident, told once, answered as the workspace wished; or news of one that is there already."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Q

from billing.ledger.minutes import DIMENSIONS
from guardrails.actions import create_rate_limit, delete_rate_limit
from guardrails.anomalies import reading, telling
from guardrails.anomalies.models import Incident, Wishes
from guardrails.domain.anomalies.causes import Cause, key_of
from guardrails.domain.anomalies.kinds import Kind, Response, Series
from guardrails.domain.rates import Metric
from workspaces import actions as workspace_actions
from workspaces.audit import SYSTEM, Actor
from workspaces.errors import NotThere, Refused
from workspaces.models import Workspace

log = logging.getLogger(__name__)

_LOCK_CLASS: Final = 7_357_011
STALE: Final = timedelta(hours=24)
"""What ended longer ago when it is found (a first look, an outage) is listed, and nobody is told."""
LEAST_RUNNING_S: Final = 15
"""Of a minute, before its pace is told."""
AGAIN: Final = timedelta(minutes=30)
"""A loop of the same driver within this time of its end is the same one."""


def alone(workspace: Workspace) -> bool:
    """One look at a workspace at a time, until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK_CLASS, workspace.pk % 2**31])
        return bool(cursor.fetchone()[0])


def begin(workspace: Workspace, cause: Cause, *, clock: ZoneInfo | None, now: datetime) -> bool:
    """Record a cause, inside the workspace and a transaction. `clock`: whose hours its moments are; None: they are Unix seconds, by the minute.

    True when it is a new incident, which is then told and answered.
    """
    wishes = reading.wishes_of(workspace)
    made = _of_minutes(workspace, cause, now) if clock is None else _of_hours(workspace, cause, clock, now)
    response = Response(wishes.responses.get(made.kind, Response.NOTIFY))
    same = _same(workspace, made)
    if same is not None:
        return _news(same, made, now)
    if response is Response.OFF:
        return False
    lines = reading.lines(workspace, made.started_at, made.ended_at or now)
    made.key_id = key_of(lines, cause.driver)
    made.save(force_insert=True)
    if made.ended_at is None:
        _respond(workspace, made, response, wishes, now)
    if made.ended_at is None or now - made.ended_at < STALE:
        telling.tell(workspace, made, now)
    return True


def _of_minutes(workspace: Workspace, cause: Cause, now: datetime) -> Incident:
    seen = cause.driver if cause.driver.dimension in DIMENSIONS else cause.deviation.series
    start = _began(workspace, seen, datetime.fromtimestamp(cause.deviation.start, UTC), cause.deviation.kind)
    made = _made(workspace, cause, seen)
    made.started_at, made.counted_to, made.last_seen_at, made.by_minute = start, start, now, True
    if made.kind == Kind.LOOP:
        made.observed = max(made.observed, _pace(workspace, seen, start, now))
    return made


def _pace(workspace: Workspace, seen: Series, start: datetime, now: datetime) -> float:
    """Attempts a minute at the busiest: of a whole minute, or of the running one once it says something."""
    this_minute = now.replace(second=0, microsecond=0)
    running_s = (now - this_minute).total_seconds()
    return max(
        (
            row.attempts * 60 / running_s if row.at == this_minute and running_s >= LEAST_RUNNING_S else float(row.attempts)
            for row in reading.minutes_of(workspace, seen, start)
        ),
        default=0.0,
    )  # fmt: skip


def _began(workspace: Workspace, seen: Series, window: datetime, kind: str) -> datetime:
    """The first of the running minutes that show it."""
    by_errors = kind == Kind.ERROR_STORM
    rows = [
        (row.at, row.errors if by_errors else row.attempts)
        for row in reading.minutes_of(workspace, seen, window - timedelta(minutes=10))
    ]
    most = max((count for _, count in rows), default=0)
    began = window
    for at, count in reversed(rows):
        if at < window and count * 3 < most:
            break
        if count * 10 >= most:
            began = at
    return began


def _of_hours(workspace: Workspace, cause: Cause, clock: ZoneInfo, now: datetime) -> Incident:
    made = _made(workspace, cause, cause.deviation.series)
    if (
        made.kind == Kind.VOLUME and made.dimension == "session"
    ):  # one conversation cannot be that busy: it is a loop, found late
        minutes = 60 * (cause.deviation.end - cause.deviation.start)
        usual_calls = float(cause.deviation.facts.get("usual_calls", 0))
        made.kind, made.observed, made.usual = Kind.LOOP.value, made.calls / minutes, usual_calls / minutes
    end = reading.moment_of(cause.deviation.end, clock)
    made.started_at = reading.moment_of(cause.deviation.start, clock)
    made.last_seen_at = min(end, now)
    made.ended_at = None if cause.deviation.ongoing else end
    return made


def _made(workspace: Workspace, cause: Cause, seen: Series) -> Incident:
    one = cause.deviation
    facts = dict(one.facts) | {"beside": [[series.dimension, series.value] for series in cause.beside]}
    return Incident(
        workspace_id=workspace.pk, kind=one.kind, dimension=cause.driver.dimension, value=cause.driver.value,
        seen_dimension=seen.dimension, seen_value=seen.value, cost_nano=one.excess_nano, calls=round(float(one.facts.get("calls", 0))),
        observed=one.observed, usual=one.usual, score=round(one.score, 2), facts=facts,
    )  # fmt: skip


def _same(workspace: Workspace, made: Incident) -> Incident | None:
    """The incident that this is news of: of the same driver or series, at the same time."""
    after = made.started_at - (AGAIN if made.by_minute else timedelta(hours=1))
    rows = Incident.objects.select_for_update().filter(workspace_id=workspace.pk, started_at__lte=made.last_seen_at)
    rows = rows.filter(Q(ended_at=None) | Q(ended_at__gte=after))
    rows = rows.filter(
        Q(dimension=made.dimension, value=made.value)
        | Q(seen_dimension=made.seen_dimension, seen_value=made.seen_value, by_minute=made.by_minute)
    )
    return rows.order_by("-started_at").first()


def _news(known: Incident, made: Incident, now: datetime) -> bool:
    """It goes on, or it was looked at again. A loop that was ended a moment ago goes on."""
    if known.by_minute != made.by_minute:
        return False  # the same thing seen by the hour: minutes know better
    known.last_seen_at = max(known.last_seen_at, made.last_seen_at)
    known.ended_at = made.ended_at
    known.score = max(known.score, made.score)
    if not made.by_minute:
        known.started_at = min(known.started_at, made.started_at)
        known.cost_nano, known.calls = max(known.cost_nano, made.cost_nano), max(known.calls, made.calls)
        known.observed, known.facts = made.observed, known.facts | made.facts
    known.save()
    return False


# --- What is done by itself -------------------------------------------------------------------------------------------
def _respond(workspace: Workspace, incident: Incident, response: Response, wishes: Wishes, now: datetime) -> None:
    try:
        if response is Response.PAUSE_KEY:
            pause_key(workspace, incident, SYSTEM)
        elif response is Response.THROTTLE:
            throttle(
                workspace,
                incident,
                SYSTEM,
                per_minute=wishes.throttle_per_minute,
                minutes=wishes.throttle_minutes,
                now=now,
            )
    except Refused as refused:
        incident.response, incident.response_note = Response.NOTIFY.value, f"Not done: {refused}"[:200]
        incident.save(update_fields=["response", "response_note"])


def pause_key(workspace: Workspace, incident: Incident, by: Actor) -> None:
    """Pause the key that carries the driver's calls. Its next call is refused. Raises Refused."""
    if not incident.key_id:
        raise NotThere("Its calls come through several keys, so that pausing one would not end it.")
    key = workspace_actions.pause_virtual_key(
        workspace=workspace, by=by, key_id=incident.key_id, why=f"anomaly {incident.id}"
    )
    incident.response, incident.response_note = Response.PAUSE_KEY.value, f"Key “{key.name}” is paused"[:200]
    incident.save(update_fields=["response", "response_note"])


def throttle(
    workspace: Workspace, incident: Incident, by: Actor, *, per_minute: int, minutes: int, now: datetime
) -> None:
    """Let only so many of the driver's calls a minute through, for a while. Raises Refused, also where such a limit stands already."""
    if not incident.dimension:
        raise NotThere("Nothing smaller than the whole workspace drives it, and that is not slowed down.")
    limit = create_rate_limit(
        workspace=workspace, by=by, metric=Metric.RPM, limit=per_minute, burst=1, scope=incident.dimension, value=incident.value,
        name=f"Anomaly {str(incident.id)[-6:]}, for {minutes} minutes",
    )  # fmt: skip
    incident.limit_id, incident.limit_until = limit.pk, now + timedelta(minutes=minutes)
    incident.response, incident.response_note = Response.THROTTLE.value, f"At most {per_minute:,} calls a minute"
    incident.save(update_fields=["limit_id", "limit_until", "response", "response_note"])


def lift_limit(workspace: Workspace, incident: Incident, by: Actor) -> None:
    """Take the limit away that slows a driver."""
    if incident.limit_id is None:
        return
    try:
        delete_rate_limit(workspace=workspace, by=by, limit_id=incident.limit_id)
    except NotThere:  # somebody deleted it under Guardrails
        log.info("limit %s of incident %s was gone", incident.limit_id, incident.pk)
    incident.limit_id = incident.limit_until = None
    incident.save(update_fields=["limit_id", "limit_until"])
