"""What a notice says, as plain values: one `Letter`, which the mail, the page and Slack each lay out in their own way.

Everything is made from the notice's facts and the reader's time zone; nothing here reads the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from billing.domain.money import NANO_PER_USD, show_usd
from guardrails import shown
from guardrails.domain.budgets import Unit
from guardrails.signals.links import address
from guardrails.signals.models import Kind, Notice, Severity
from workspaces.models import Workspace


@dataclass(frozen=True, slots=True)
class Button:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a small table: a name, an amount, and a share or change beside it."""

    name: str
    amount: str
    beside: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    title: str
    lines: tuple[Line, ...]
    is_list: bool = False
    """Its lines are places to go, rather than amounts with a link beside: plain text then shows the addresses, too."""


@dataclass(frozen=True, slots=True)
class Letter:
    title: str
    tone: str
    """info, warning, critical or good."""
    figure: str = ""
    """The number, large."""
    beside: str = ""
    """What stands beside the number."""
    percent: int | None = None
    lead: tuple[str, ...] = ()
    """Sentences."""
    points: tuple[str, ...] = ()
    """What happens next, one line each."""
    points_title: str = "What happens next"
    blocks: tuple[Block, ...] = field(default=())
    buttons: tuple[Button, ...] = field(default=())
    """The first is the one most people need."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose clock a letter speaks."""

    workspace: Workspace
    zone: ZoneInfo


Writer = Callable[[Notice, Reader], Letter]
PERIODS: Final = {"hour": "an hour", "day": "a day", "week": "a week", "month": "a month", "total": "in total"}
_TONES: Final = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "critical"}


def letter_of(notice: Notice, reader: Reader) -> Letter:
    return WRITERS.get(notice.kind, _plain)(notice, reader)


# --- Words ------------------------------------------------------------------------------------------------------------
def moment(iso: str | None, zone: ZoneInfo, *, utc: bool = False) -> str:
    """ "Sat 21 Nov, 14:02 CET", with UTC beside it where asked and different."""
    if not iso:
        return ""
    at = datetime.fromisoformat(iso)
    local = at.astimezone(zone)
    text = f"{local:%a} {local.day} {local:%b}, {local:%H:%M} {local.tzname()}"
    if utc and local.utcoffset():
        text += f" ({at.astimezone(UTC):%H:%M} UTC)"
    return text


def day(iso: str) -> str:
    on = date.fromisoformat(iso)
    return f"{on:%a} {on.day} {on:%b}"


def _amount(value: int, unit: str) -> str:
    return shown.amount(value, Unit(unit))


def about(nano: int) -> str:
    """An estimate, to three significant digits: "$2,410", "$18.50"."""
    digits = len(str(max(1, abs(nano)))) - 3
    rounded = round(nano, -digits) if digits > 0 else nano
    text = show_usd(rounded)
    return text.removesuffix(".00") if abs(rounded) >= 100 * NANO_PER_USD else text


def _of(used: int, cap: int, unit: str) -> str:
    return f"{_amount(used, unit) if unit == Unit.USD else f'{used:,}'} of {_amount(cap, unit)}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# --- A budget's line was crossed --------------------------------------------------------------------------------------
def _crossing(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    if "many" in facts:
        return _many(notice, reader)
    budget, unit = facts["budget"], facts["budget"]["unit"]
    when = moment(facts["crossed_at"], reader.zone, utc=True)
    lead = [
        f"“{budget['name']}” caps {budget['on']} at {_amount(facts['cap'], unit)} {PERIODS[budget['period']]}. {_what(notice, when)}"
    ]
    lead += _speed(facts, unit)
    return Letter(
        title=notice.title,
        tone=_TONES[Severity(notice.severity)],
        figure=_amount(facts["used"], unit),
        beside=f"of {_amount(facts['cap'], unit)} · {facts['percent']}%",
        percent=facts["percent"],
        lead=tuple(lead),
        points=tuple(_ahead(facts, unit, reader)),
        blocks=tuple(_drivers(facts)),
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
    text = f"Lately {_amount(lately, unit)} an hour"
    if usual and lately >= 2 * usual:
        return [f"{text}, {lately / usual:.0f} times the {_amount(usual, unit)} an hour of this period so far."]
    return [f"{text}; {_amount(usual, unit)} an hour over this period so far."] if usual else [f"{text}."]


def _ahead(facts: dict[str, Any], unit: str, reader: Reader) -> list[str]:
    resets = moment(facts["resets_at"], reader.zone)
    points = []
    for one in facts["ahead"]:
        line = f"{one['percent']}% ({_amount(one['from'], unit)})"
        times = []
        if one["at"]:
            times.append(f"{moment(one['at'], reader.zone)} at the pace of lately")
        if one["day"]:
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


def _drivers(facts: dict[str, Any]) -> list[Block]:
    found = []
    for driver in facts.get("drivers", ()):
        lines = tuple(
            Line(row["name"], _amount(row["amount"], driver["unit"]), f"{row['share']}%", row.get("calls_url", ""))
            for row in driver["rows"]
        )
        found.append(Block(f"By {driver['dimension']}", lines))
    return found


def _levers(notice: Notice, reader: Reader) -> list[Button]:
    links = notice.facts.get("links", {})
    named = (
        ("raise", "Raise the cap"),
        ("calls", "See the calls"),
        ("budget", "Change or lower it"),
        ("revoke", "Revoke the key"),
    )
    found = [Button(label, links[name]) for name, label in named if name in links]
    if "keys" in links and "revoke" not in links:
        found.append(Button("Revoke a key", links["keys"]))
    if "plan" in links:
        found.insert(0, Button("Change the plan", links["plan"]))
    return found or [_notice_button(notice, reader)]


def _notice_button(notice: Notice, reader: Reader) -> Button:
    return Button("Open it in Sluice", address("alert", reader.workspace.slug, notice.id))


def _many(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    many = facts["many"]
    counts = sorted(many["by_threshold"].items(), key=lambda one: -int(one[0]))
    rows = tuple(
        Line(
            row["budget"]["on"] if row["budget"]["value"] else row["budget"]["name"],
            _of(row["used"], row["cap"], row["budget"]["unit"]),
            {"kill": "refused", "throttle": "slowed"}.get(row["stage"], f"{row['threshold']}%"),
        )
        for row in many["top"]
    )
    return Letter(
        title=notice.title,
        tone=_TONES[Severity(notice.severity)],
        figure=f"{many['count']:,}",
        beside="passed a threshold",
        lead=(
            f"{_listed([f'{number:,} passed {threshold}%' for threshold, number in counts])}. They are told in one mail because they came together.",
        ),
        points=tuple(_does_when(one, facts["budget"]["unit"]) for one in facts.get("then", ())),
        points_title="What the gateway does, for each of them",
        blocks=(Block("Those that used most of their cap", rows),),
        buttons=tuple(_levers(notice, reader)),
    )


def _does_when(one: dict[str, Any], unit: str) -> str:
    return f"At {one['percent']}% ({_amount(one['from'], unit)}) {'calls are slowed down' if one['what'] == 'throttle' else 'calls are refused'}."


def _normal(notice: Notice, reader: Reader) -> Letter:
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
        figure=_amount(facts["used"], unit) if facts.get("used") is not None and count == 1 else "",
        beside=f"of {_amount(facts['cap'], unit)}" if facts.get("cap") and count == 1 else "",
        percent=facts["used"] * 100 // facts["cap"]
        if facts.get("used") is not None and facts.get("cap") and count == 1
        else None,
        lead=tuple(lead),
        buttons=tuple(_levers(notice, reader)),
    )


# --- The Monthly Spend Alert ------------------------------------------------------------------------------------------
def _spend_alert(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    line, expected = show_usd(facts["line_nano"]), about(facts["expected_nano"])
    whose = {"own": "your line", "budget": "your monthly budget", "last_month": "all of last month"}[facts["line_of"]]
    lead = [f"You are on track for a {expected} month; it crosses {whose} of {line} on {day(facts['day'])}."]
    lead.append(
        f"The month ends between {about(facts['low_nano'])} and {about(facts['high_nano'])} with 80% probability. {_maturity(facts)}"
    )
    points = []
    if facts["earliest"] and facts["earliest"] != facts["day"]:
        points.append(f"{day(facts['earliest'])} at the earliest of that range.")
    points.append(
        "This alert refuses nothing. A monthly budget would."
        if facts["line_of"] != "budget"
        else "The budget itself acts when the line is reached."
    )
    return Letter(
        title=notice.title,
        tone=_TONES[Severity(notice.severity)],
        figure=expected,
        beside=f"expected · {show_usd(facts['spent_nano'])} so far",
        percent=min(999, facts["spent_nano"] * 100 // facts["line_nano"]),
        lead=tuple(lead),
        points=tuple(points),
        blocks=tuple(_drivers(facts)),
        buttons=(
            Button("Set a budget", facts["links"]["guardrails"]),
            Button("See the calls", facts["links"]["calls"]),
            Button("See the overview", facts["links"]["overview"]),
        ),
    )


def _maturity(facts: dict[str, Any]) -> str:
    if facts["maturity"] == "fair":
        return f"It rests on {facts['history_days']} days."
    return f"It rests on {facts['history_days']} days only, so take it as a rough one."


# --- The week ---------------------------------------------------------------------------------------------------------
def _digest(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    before = facts["before_nano"]
    change = (
        f"{_signed(facts['spent_nano'] - before)} against the week before" if before else "the first week with spend"
    )
    lead = [
        f"{facts['calls']:,} calls from {day(facts['first'])} to {day(facts['last'])}, {facts['errors']:,} of them failed."
    ]
    if facts.get("forecast"):
        ahead = facts["forecast"]
        lead.append(
            f"The month is on track for {about(ahead['expected_nano'])} ({about(ahead['low_nano'])} to {about(ahead['high_nano'])})."
        )
    if facts.get("cache_saved_nano"):
        lead.append(f"Prompt caches saved {show_usd(facts['cache_saved_nano'])}.")
    blocks = []
    for mover in facts["movers"]:
        lines = tuple(
            Line(row["name"], show_usd(row["now"]), _signed(row["now"] - row["before"])) for row in mover["rows"]
        )
        blocks.append(Block(f"What moved, by {mover['dimension']}", lines))
    moved = {mover["dimension"] for mover in facts["movers"]}
    blocks += _drivers({"drivers": [driver for driver in facts["drivers"] if driver["dimension"] not in moved]})
    if facts["budgets"]:
        rows = tuple(
            Line(one["name"], _of(one["used"], one["cap"], one["unit"]), f"{one['percent']}%")
            for one in facts["budgets"]
        )
        blocks.append(Block("Budgets, nearest to their cap first", rows))
    for extra in facts.get("extra", ()):
        blocks.append(Block(extra["title"], tuple(Line(*row) for row in extra["rows"])))
    points = [f"{what}: {number:,}" for what, number in facts["alerts"].items()]
    return Letter(
        title=notice.title,
        tone="info",
        figure=show_usd(facts["spent_nano"]),
        beside=change,
        lead=tuple(lead),
        points=tuple(points),
        points_title="Alerts of the week",
        blocks=tuple(blocks),
        buttons=(
            Button("Open the overview", facts["links"]["overview"]),
            Button("See the calls", facts["links"]["calls"]),
        ),
    )


def _signed(nano: int) -> str:
    return f"{'+' if nano >= 0 else '−'}{show_usd(abs(nano))}"


def daily(notices: Sequence[Notice], reader: Reader) -> Letter:
    """A day's collected notices in one letter."""
    lines = tuple(
        Line(
            one.title,
            moment(one.at.isoformat(), reader.zone),
            one.severity,
            address("alert", reader.workspace.slug, one.id),
        )
        for one in notices
    )
    worst = max((Severity.values.index(one.severity) for one in notices), default=0)
    return Letter(
        title=f"{len(notices)} alert{'s' if len(notices) != 1 else ''} since yesterday",
        tone=_TONES[Severity(Severity.values[worst])],
        blocks=(Block("Newest first", lines, is_list=True),),
        buttons=(Button("Open the inbox", address("alerts", reader.workspace.slug)),),
    )


# --- Anything else ----------------------------------------------------------------------------------------------------
def _plain(notice: Notice, reader: Reader) -> Letter:
    """A notice whose maker wrote its letter: facts["letter"] has the fields of `Letter` as JSON."""
    said = notice.facts.get("letter", {})
    blocks = tuple(
        Block(block["title"], tuple(Line(*row) for row in block["lines"])) for block in said.get("blocks", ())
    )
    buttons = tuple(Button(*button) for button in said.get("buttons", ())) or (_notice_button(notice, reader),)
    return Letter(
        title=notice.title,
        tone=_TONES[Severity(notice.severity)],
        figure=said.get("figure", ""),
        beside=said.get("beside", ""),
        lead=tuple(said.get("lead", ())),
        points=tuple(said.get("points", ())),
        blocks=blocks,
        buttons=buttons,
    )


WRITERS: Final[dict[str, Writer]] = {
    Kind.THRESHOLD: _crossing,
    Kind.THROTTLED: _crossing,
    Kind.STOPPED: _crossing,
    Kind.NORMAL: _normal,
    Kind.SPEND_ALERT: _spend_alert,
    Kind.DIGEST: _digest,
}
