"""The Monthly Spend Alert."""

from __future__ import annotations

from typing import Any

from billing.domain.money import show_usd
from guardrails.signals.letters.drivers import drivers
from guardrails.signals.letters.shape import TONES, Button, Letter, Reader
from guardrails.signals.letters.words import about, day
from guardrails.signals.models import Notice, Severity


def spend_alert(notice: Notice, reader: Reader) -> Letter:
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
        tone=TONES[Severity(notice.severity)],
        figure=expected,
        beside=f"expected · {show_usd(facts['spent_nano'])} so far",
        percent=min(999, facts["spent_nano"] * 100 // facts["line_nano"]),
        lead=tuple(lead),
        points=tuple(points),
        blocks=tuple(drivers(facts)),
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
