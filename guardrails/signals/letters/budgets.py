"""A budget's line was crossed, by one or by many at once; and the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from guardrails.signals.letters.drivers import drivers
from guardrails.signals.letters.shape import TONES, Block, Button, Letter, Line, Reader, notice_button
from guardrails.signals.letters.words import amount, day, listed, moment, of
from guardrails.signals.models import Kind, Notice, Severity

PERIODS: Final = {"hour": "an hour", "day": "a day", "week": "a week", "month": "a month", "total": "in total"}


def crossing(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    if "many" in facts:
        return _many(notice, reader)
    budget, unit = facts["budget"], facts["budget"]["unit"]
    when = moment(facts["crossed_at"], reader.zone, utc=True)
    lead = [
        f"“{budget['name']}” caps {budget['on']} at {amount(facts['cap'], unit)} {PERIODS[budget['period']]}. {_what(notice, when)}"
    ]
    lead += _speed(facts, unit)
    return Letter(
        title=notice.title,
        tone=TONES[Severity(notice.severity)],
        figure=amount(facts["used"], unit),
        beside=f"of {amount(facts['cap'], unit)} · {facts['percent']}%",
        percent=facts["percent"],
        lead=tuple(lead),
        points=tuple(_ahead(facts, unit, reader)),
        blocks=tuple(drivers(facts)),
        buttons=tuple(_levers(notice, reader)),
    )


def _what(notice: Notice, when: str) -> str:
    if notice.kind == Kind.STOPPED and notice.facts.get("full"):
        return f"Since {when} what is left is too little for a call's worst case, and calls are refused."
    if notice.kind == Kind.STOPPED:
        return f"It is used up, and calls are refused, since {when}."
    if notice.kind == Kind.THROTTLED:
        return f"Calls are slowed down since {when}, when {notice.facts['threshold']}% was passed."
    return f"{notice.facts['threshold']}% was passed on {when}."


def _speed(facts: dict[str, Any], unit: str) -> list[str]:
    lately, usual = facts["per_hour"], facts["usual_per_hour"]
    if not lately:
        return []
    text = f"Lately {amount(lately, unit)} an hour"
    if usual and lately >= 2 * usual:
        return [f"{text}, {lately / usual:.0f} times the {amount(usual, unit)} an hour of this period so far."]
    return [f"{text}; {amount(usual, unit)} an hour over this period so far."] if usual else [f"{text}."]


def _ahead(facts: dict[str, Any], unit: str, reader: Reader) -> list[str]:
    resets = moment(facts["resets_at"], reader.zone)
    points = []
    for one in facts["ahead"]:
        line = f"{one['percent']}% ({amount(one['from'], unit)})"
        times = []
        if one["at"]:
            times.append(f"{moment(one['at'], reader.zone)} at the pace of lately")
        if one["day"] and not (one["at"] and _is_day(one["at"], one["day"], reader)):
            times.append(f"{day(one['day'])} by the forecast")
        reached = f"reached {', '.join(times)}" if times else "not reached in this period at this pace"
        points.append(f"{line}: {_does(one, facts)}; {reached}.")
    if facts["stage"] == "kill":
        points.append(
            f"Calls it covers get a 402 before they cost anything{f', until {resets}' if resets else ''} or until the cap is raised."
        )
    elif facts["stage"] == "throttle":
        points.append(f"Slowed calls get a 429 with Retry-After. {_rate(facts)}".strip())
    if resets and facts["stage"] != "kill":
        points.append(f"The period ends {resets}.")
    return points


def _is_day(at: str, on: str, reader: Reader) -> bool:
    """Whether a moment is of the day, on the reader's clock: then the forecast says nothing more."""
    return datetime.fromisoformat(at).astimezone(reader.zone).date().isoformat() == on


def _does(one: dict[str, Any], facts: dict[str, Any]) -> str:
    if one["what"] == "throttle":
        return "calls are slowed down"
    if one["what"] == "stop":
        return "calls are refused"
    return "nothing is refused, this budget only alerts" if not facts["then"] else "the cap"


def _rate(facts: dict[str, Any]) -> str:
    for one in facts["then"]:
        if one["what"] == "throttle" and one.get("per_minute"):
            return f"At most {one['per_minute']:,} calls a minute pass."
    return "What is left is spread over the rest of the period."


def _levers(
    notice: Notice, reader: Reader, wanted: Sequence[str] = ("raise", "calls", "budget", "revoke", "plan")
) -> list[Button]:
    links = notice.facts.get("links", {})
    named = (
        ("raise", "Raise the cap"),
        ("calls", "See the calls"),
        ("budget", "Change or lower it"),
        ("revoke", "Revoke the key"),
    )
    found = [Button(label, links[name]) for name, label in named if name in links and name in wanted]
    if "keys" in links and "revoke" not in links and "revoke" in wanted:
        found.append(Button("Revoke a key", links["keys"]))
    if "plan" in links and "plan" in wanted:
        found.insert(0, Button("Change the plan", links["plan"]))
    return found or [notice_button(notice, reader)]


def _many(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    many = facts["many"]
    counts = sorted(many["by_threshold"].items(), key=lambda one: -int(one[0]))
    rows = tuple(
        Line(
            row["budget"]["on"] if row["budget"]["value"] else row["budget"]["name"],
            of(row["used"], row["cap"], row["budget"]["unit"]),
            {"kill": "refused", "throttle": "slowed"}.get(row["stage"], f"{row['threshold']}%"),
        )
        for row in many["top"]
    )
    return Letter(
        title=notice.title,
        tone=TONES[Severity(notice.severity)],
        figure=f"{many['count']:,}",
        beside="passed a threshold",
        lead=(
            f"{listed([f'{number:,} passed {threshold}%' for threshold, number in counts])}. They are told in one mail because they came together.",
        ),
        points=tuple(_does_when(one, facts["budget"]["unit"]) for one in facts.get("then", ())),
        points_title="What the gateway does, for each of them",
        blocks=(Block("Those that used most of their cap", rows),),
        buttons=tuple(_levers(notice, reader)),
    )


def _does_when(one: dict[str, Any], unit: str) -> str:
    return f"At {one['percent']}% ({amount(one['from'], unit)}) {'calls are slowed down' if one['what'] == 'throttle' else 'calls are refused'}."


def normal(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    budget, unit = facts["budget"], facts["budget"]["unit"]
    count = facts.get("count", 1)
    whom = f"{count:,} values of “{budget['name']}”" if count > 1 else f"Calls on {budget['on']}"
    why = {
        "reset": "a new period of the budget began",
        "raised": "the budget leaves room again",
        "deleted": "the budget was deleted",
    }[facts["why"]]
    since = moment(facts.get("since"), reader.zone)
    lead = [f"{whom} pass again: {why}."]
    if since:
        lead.append(f"They were {'refused' if facts['was'] == 'kill' else 'slowed down'} since {since}.")
    return Letter(
        title=notice.title,
        tone="good",
        figure=amount(facts["used"], unit) if facts.get("used") is not None and count == 1 else "",
        beside=f"of {amount(facts['cap'], unit)}" if facts.get("cap") and count == 1 else "",
        percent=facts["used"] * 100 // facts["cap"]
        if facts.get("used") is not None and facts.get("cap") and count == 1
        else None,
        lead=tuple(lead),
        buttons=tuple(_levers(notice, reader, ("calls", "budget"))),  # nothing is urgent any more
    )
