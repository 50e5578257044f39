"""Many things in one letter: the week in numbers, and what a day collected."""

from __future__ import annotations

from collections.abc import Sequence

from billing.domain.money import show_usd
from guardrails.signals.letters.drivers import drivers
from guardrails.signals.letters.shape import TONES, Block, Button, Letter, Line, Reader
from guardrails.signals.letters.words import about, day, moment, of, signed
from guardrails.signals.links import address
from guardrails.signals.models import Notice, Severity


def digest(notice: Notice, reader: Reader) -> Letter:
    facts = notice.facts
    before = facts["before_nano"]
    change = (
        f"{signed(facts['spent_nano'] - before)} against the week before" if before else "the first week with spend"
    )
    lead = [
        f"{facts['calls']:,} calls from {day(facts['first'])} to {day(facts['last'])}, {facts['errors']:,} of them failed."
    ]
    if facts.get("forecast"):
        ahead = facts["forecast"]
        lead.append(
            f"The month is on track for {about(ahead['expected_nano'])} ({about(ahead['low_nano'])} to {about(ahead['high_nano'])})."
        )
    blocks = []
    for mover in facts["movers"]:
        lines = tuple(
            Line(row["name"], show_usd(row["now"]), signed(row["now"] - row["before"])) for row in mover["rows"]
        )
        blocks.append(Block(f"What moved, by {mover['dimension']}", lines))
    if not facts["movers"]:
        why = "Nothing moved" if before else "Nothing to compare with: the week before spent nothing"
        blocks.append(Block("What moved", (Line(why, signed(facts["spent_nano"] - before)),)))
    moved = {mover["dimension"] for mover in facts["movers"]}
    blocks += drivers({"drivers": [driver for driver in facts["drivers"] if driver["dimension"] not in moved]})
    if facts["budgets"]:
        rows = tuple(
            Line(one["name"], of(one["used"], one["cap"], one["unit"]), f"{one['percent']}%")
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
        tone=TONES[Severity(Severity.values[worst])],
        blocks=(Block("Newest first", lines, is_list=True),),
        buttons=(Button("Open the inbox", address("alerts", reader.workspace.slug)),),
    )
