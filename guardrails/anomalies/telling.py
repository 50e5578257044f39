"""An incident in words: its title, its notice, the line of a digest."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from billing.domain.dimensions import Dimension
from billing.views.amounts import show
from guardrails.anomalies.models import Incident
from guardrails.domain.anomalies.kinds import Kind, Response
from guardrails.signals import facts as facts_of
from guardrails.signals import telling as signals
from guardrails.signals.links import address
from guardrails.signals.models import Notice, Severity
from workspaces.models import Workspace
from workspaces.views.reads import key_names

NOTICE: Final = "anomaly"
MOST_MAILS_AN_HOUR: Final = 10
LABELS: Final[dict[str, str]] = {
    Kind.LOOP: "Runaway loop", Kind.VOLUME: "Volume spike", Kind.COST_PER_CALL: "Dearer calls", Kind.MODEL_MIX: "Model shift",
    Kind.ERROR_STORM: "Error storm", Kind.NEW_SPENDER: "New spender",
}  # fmt: skip
DONE: Final[dict[str, str]] = {
    Response.NOTIFY: "told", Response.THROTTLE: "slowed down", Response.PAUSE_KEY: "key paused", Response.OFF: "off",
}  # fmt: skip


def tell(workspace: Workspace, incident: Incident, now: datetime) -> Notice | None:
    """The inbox at once; mail, webhooks and Slack to who wants them, but no more than so many mails an hour."""
    lately = Notice.objects.filter(workspace_id=workspace.pk, kind=NOTICE, made_at__gt=now - timedelta(hours=1)).count()
    notice = signals.notify(
        workspace, kind=NOTICE, severity=severity(incident), key=f"anomaly:{incident.pk}", title=title(workspace, incident),
        facts=_facts(workspace, incident), at=incident.started_at, now=now, by_mail=lately < MOST_MAILS_AN_HOUR,
    )  # fmt: skip
    if notice is not None:
        incident.notice_id = notice.pk
        incident.save(update_fields=["notice_id"])
    return notice


def severity(incident: Incident) -> str:
    if (incident.kind in (Kind.LOOP, Kind.ERROR_STORM) and incident.ended_at is None) or incident.response in (
        Response.THROTTLE,
        Response.PAUSE_KEY,
    ):
        return Severity.CRITICAL
    return Severity.WARNING


def driver(workspace: Workspace, incident: Incident) -> str:
    """The driver for people: "agent market-scout", "the whole workspace"."""
    return named(workspace, incident.dimension, incident.value)


def named(workspace: Workspace, dimension: str, value: str) -> str:
    if not dimension:
        return "the whole workspace"
    if dimension == Dimension.VIRTUAL_KEY:
        return f"key {key_names(workspace, {value})[value]}"
    return f"{dimension.replace('_', ' ')} {value}"


def title(workspace: Workspace, incident: Incident) -> str:
    return f"{LABELS[incident.kind]}: {driver(workspace, incident)}, {measure(incident)}"


def measure(incident: Incident) -> str:
    """What it does and what is usual, in its own measure."""
    if incident.kind == Kind.LOOP:
        return f"{_rate(incident.observed)} calls a minute{_usually(f'{incident.usual:,.1f}' if incident.usual >= 0.05 else '')}"
    if incident.kind == Kind.ERROR_STORM:
        return f"{incident.observed:.0%} of attempts fail, usually {incident.usual:.0%}"
    if incident.kind in (Kind.COST_PER_CALL, Kind.MODEL_MIX):
        return f"{show(round(incident.observed))} a call{_usually(show(round(incident.usual)))}"
    if incident.kind == Kind.NEW_SPENDER:
        return f"{show(round(incident.observed))} in a day"
    return f"{show(round(incident.observed))} an hour{_usually(show(round(incident.usual)) if incident.usual >= 1 else '')}"


def _rate(per_minute: float) -> str:
    return f"{per_minute:,.0f}" if per_minute >= 10 else f"{per_minute:.1f}"


def _usually(amount: str) -> str:
    return f", usually {amount}" if amount else ", where next to nothing was usual"


def sentences(workspace: Workspace, incident: Incident) -> list[str]:
    """What happened, how sure it is, and what was done."""
    facts = incident.facts
    said = [
        f"{_what(workspace, incident)} That is {show(incident.cost_nano)} above habit{'' if incident.ended_at else ' so far'}."
    ]
    if incident.kind == Kind.ERROR_STORM:
        said = [_what(workspace, incident)]
    if "model" in facts and incident.kind == Kind.MODEL_MIX:
        said.append(
            f"{facts['model']} went from {facts['model_share_before']:.0%} to {facts['model_share']:.0%} of its calls."
        )
    if facts.get("a_day_nano") and incident.ended_at is None:
        said.append(f"At this pace it costs {show(round(facts['a_day_nano']))} a day.")
    if incident.response_note:
        said.append(f"{incident.response_note}.")
    return said


def _what(workspace: Workspace, incident: Incident) -> str:
    who = driver(workspace, incident)
    who = who[0].upper() + who[1:]
    if incident.kind == Kind.LOOP:
        return f"{who} fires {measure(incident)}."
    if incident.kind == Kind.ERROR_STORM:
        return f"{who}: {measure(incident)}."
    if incident.kind == Kind.NEW_SPENDER:
        return f"{who} was not there before and spent {measure(incident)}."
    return f"{who} cost {measure(incident)}."


def links(workspace: Workspace, incident: Incident) -> dict[str, str]:
    found = {"incident": address("anomaly", workspace.slug, incident.pk)}
    found["calls"] = facts_of.calls_link(workspace, {incident.dimension: incident.value} if incident.dimension else {})
    if incident.key_id:
        found["key"] = address("key", workspace.slug, incident.key_id)
    return found


def _facts(workspace: Workspace, incident: Incident) -> dict[str, Any]:
    where = links(workspace, incident)
    beside = [
        [named(workspace, dimension, value), "", "", ""] for dimension, value in incident.facts.get("beside", [])[:6]
    ]
    return {
        "anomaly": {
            "id": str(incident.pk), "kind": incident.kind, "dimension": incident.dimension, "value": incident.value,
            "key_id": incident.key_id, "cost_nano": incident.cost_nano, "calls": incident.calls, "observed": incident.observed,
            "usual": incident.usual, "started_at": incident.started_at.isoformat(),
            "ended_at": incident.ended_at.isoformat() if incident.ended_at else None, "response": incident.response,
        },
        "links": where,
        "letter": {
            "figure": show(incident.cost_nano) if incident.kind != Kind.ERROR_STORM else f"{incident.observed:.0%}",
            "beside": f"above habit{'' if incident.ended_at else ' so far'}" if incident.kind != Kind.ERROR_STORM else "of attempts fail",
            "lead": sentences(workspace, incident),
            "points_title": "Was it meant to be?",
            "points": ["Say so on its page, and the next one like it is held against it."],
            "blocks": [{"title": "Its calls have in common", "lines": beside}] if beside else [],
            "buttons": [["Open the incident", where["incident"]], ["See the calls", where["calls"]]],
        },
    }  # fmt: skip
