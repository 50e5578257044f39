"""What people do about incidents: say what was expected, pull a lever, and choose how they want to be looked at. Atomic and audited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.core.cache import cache
from django.utils import timezone

from billing.domain.keys import value_digest
from billing.domain.money import usd_text
from billing.ledger.rollups import zone
from guardrails.actions import checked
from guardrails.anomalies import incidents, queries, reading
from guardrails.anomalies.models import Expectation, Feedback, Incident, Wishes
from guardrails.domain.anomalies.baseline import slot_of
from guardrails.domain.anomalies.kinds import Kind, Response, Sensitivity, Series
from guardrails.domain.budgets import Unit
from workspaces import audit
from workspaces.actions.base import changing
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotAllowed, WrongState
from workspaces.models import Workspace
from workspaces.roles import Action, may

ANY_TIME: Final = "any_time"
THIS_TIME: Final = "this_time"
"""Of the week."""
WHEN: Final = (ANY_TIME, THIS_TIME)
MOST_EXPECTED: Final = 2_000


# --- Feedback ---------------------------------------------------------------------------------------------------------
def give_feedback(
    *, workspace: Workspace, by: Actor, incident_id: UUID, feedback: str, when: str = ANY_TIME
) -> Incident:
    """Say that an incident was expected (the next one like it, at any time or at this time of the week, is held against it), that it was
    none of that (confirmed), or take back what was said (empty)."""
    if feedback not in Feedback.values:
        raise Invalid("Write expected, confirmed, or nothing to take it back.", field="feedback")
    if when not in WHEN:
        raise Invalid(f"Choose among: {', '.join(WHEN)}.", field="when")
    with changing(workspace) as locked:
        row = queries.incident(workspace, incident_id)
        Expectation.objects.filter(workspace_id=workspace.pk, incident_id=row.pk).delete()
        before = row.feedback
        row.feedback, row.feedback_by = feedback, by.name[:254] if feedback else ""
        row.feedback_at = timezone.now() if feedback else None
        row.save(update_fields=["feedback", "feedback_by", "feedback_at"])
        if feedback == Feedback.EXPECTED:
            _teach(locked, row, by, when)
        _forget_habits(workspace, row)
        audit.record(
            workspace=workspace, by=by, action="anomaly.feedback", target=str(row.pk), before={"feedback": before},
            after={"feedback": feedback, **({"when": when} if feedback == Feedback.EXPECTED else {})},
        )  # fmt: skip
    return row


def _teach(workspace: Workspace, row: Incident, by: Actor, when: str) -> None:
    """What was expected of the driver was expected of everything that its calls are part of, too."""
    if Expectation.objects.filter(workspace_id=workspace.pk).count() >= MOST_EXPECTED:
        raise Invalid(f"A workspace has at most {MOST_EXPECTED:,} expected anomalies. Take some back first.")
    hours = max(1.0, (row.last_seen_at - row.started_at).total_seconds() / 3600)
    peak = row.facts.get("peak_hour_nano", 0) or row.cost_nano / hours
    each = row.facts.get("peak_call_nano") or (row.cost_nano / row.calls if row.calls else 0)
    minute = row.observed if row.kind == Kind.LOOP else row.calls / hours / 60
    if row.kind == Kind.LOOP:
        peak = max(peak, minute * 60 * (row.cost_nano / row.calls if row.calls else 0))
    if row.kind == Kind.NEW_SPENDER:
        peak = row.observed / 24
    slots = _slots(workspace, row) if when == THIS_TIME else []
    beside = [Series(dimension, value) for dimension, value in row.facts.get("beside", [])]
    own, seen = Series(row.dimension, row.value), Series(row.seen_dimension, row.seen_value)
    rows = []
    for series in dict.fromkeys([own, seen, *beside, Series()]):
        fleeting = series.dimension in reading.FLEETING
        within = (
            next((one for one in beside if one.dimension not in reading.FLEETING), Series()) if fleeting else Series()
        )
        rows.append(
            Expectation(
                workspace_id=workspace.pk, kind=row.kind, dimension=series.dimension, value="" if fleeting else series.value,
                within_dimension=within.dimension, within_value=within.value, per_hour_nano=round(peak),
                per_call_nano=round(each) if series in (own, seen) else 0, per_minute=max(1, round(minute)), slots=slots,
                incident_id=row.pk, created_by=by.name[:254],
            )
        )  # fmt: skip
    Expectation.objects.bulk_create(rows)


def _slots(workspace: Workspace, row: Incident) -> list[int]:
    clock = zone(workspace.time_zone)
    first, last = reading.hour_of(row.started_at, clock) - 1, reading.hour_of(row.last_seen_at, clock) + 1
    return sorted({slot_of(hour) for hour in range(first, min(last, first + 167) + 1)})


def _forget_habits(workspace: Workspace, row: Incident) -> None:
    for dimension, value in ((row.dimension, row.value), (row.seen_dimension, row.seen_value)):
        cache.delete(f"anomalies:habit:{workspace.pk}:{dimension}:{value_digest(value)}")


# --- Levers -----------------------------------------------------------------------------------------------------------
def pause_key(*, workspace: Workspace, by: Actor, incident_id: UUID) -> Incident:
    """Pause the virtual key behind an incident: its next call is refused."""
    with changing(workspace):
        row = queries.incident(workspace, incident_id)
        incidents.pause_key(workspace, row, by)
    return row


def throttle(
    *, workspace: Workspace, by: Actor, incident_id: UUID, per_minute: Any = None, minutes: Any = None
) -> Incident:
    """Slow the driver of an incident down, for a while."""
    with changing(workspace):
        row = queries.incident(workspace, incident_id)
        if row.limit_id is not None:
            raise WrongState("It is slowed down already.")
        wishes = reading.wishes_of(workspace)
        incidents.throttle(
            workspace, row, by, now=timezone.now(),
            per_minute=wishes.throttle_per_minute if per_minute is None else _per_minute(per_minute),
            minutes=wishes.throttle_minutes if minutes is None else _minutes(minutes),
        )  # fmt: skip
    return row


def lift_limit(*, workspace: Workspace, by: Actor, incident_id: UUID) -> Incident:
    """Let a slowed driver's calls through again."""
    with changing(workspace):
        row = queries.incident(workspace, incident_id)
        incidents.lift_limit(workspace, row, by)
    return row


# --- Wishes -----------------------------------------------------------------------------------------------------------
def set_wishes(
    *,
    workspace: Workspace,
    by: Actor,
    least: Any = None,
    sensitivity: str | None = None,
    responses: Mapping[str, str] | None = None,
    throttle_per_minute: Any = None,
    throttle_minutes: Any = None,
) -> Wishes:
    """How the workspace wants to be looked at. `least` in dollars; `responses`: kind -> off, notify, throttle or pause_key.

    Who lets keys be paused by themselves must be allowed to pause one, and the like.
    """
    with changing(workspace):
        row = reading.wishes_of(workspace)
        before = shown(row)
        if least is not None:
            row.least_nano = checked.amount(least, Unit.USD, field="least")
        if sensitivity is not None:
            row.sensitivity = checked.one_of(Sensitivity, sensitivity, field="sensitivity")
        if responses is not None:
            row.responses = row.responses | _responses(responses, row.responses, by)
        if throttle_per_minute is not None:
            row.throttle_per_minute = _per_minute(throttle_per_minute)
        if throttle_minutes is not None:
            row.throttle_minutes = _minutes(throttle_minutes)
        if shown(row) != before:
            row.save()
            audit.record(
                workspace=workspace, by=by, action="anomaly.wishes", target="anomalies", before=before, after=shown(row)
            )
    return row


def _responses(wanted: Mapping[str, str], known: Mapping[str, str], by: Actor) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, response in wanted.items():
        found[checked.one_of(Kind, kind, field="responses")] = checked.one_of(Response, response, field="responses")
    needs = {Response.PAUSE_KEY: Action.MANAGE_KEYS, Response.THROTTLE: Action.MANAGE_LIMITS}
    for kind, response in found.items():
        action = needs.get(Response(response))
        if (
            action
            and known.get(kind) != response
            and not (by.installation or (by.role is not None and may(by.role, action)))
        ):
            raise NotAllowed(
                f"Your role may not let Sluice do this by itself: {response.replace('_', ' ')}.", field="responses"
            )
    return found


def shown(row: Wishes) -> dict[str, Any]:
    """Wishes as plain values."""
    return {
        "least": usd_text(row.least_nano), "sensitivity": str(row.sensitivity),
        "responses": {kind.value: row.responses.get(kind, Response.NOTIFY.value) for kind in Kind},
        "throttle_per_minute": row.throttle_per_minute, "throttle_minutes": row.throttle_minutes,
    }  # fmt: skip


def _per_minute(value: Any) -> int:
    return checked.whole(value, low=1, high=1_000_000, field="throttle_per_minute")


def _minutes(value: Any) -> int:
    return checked.whole(value, low=1, high=7 * 24 * 60, field="throttle_minutes")
