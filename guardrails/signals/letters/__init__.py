"""What a notice says, as plain values: one `Letter`, which the mail, the page and Slack each lay out in their own way.

Everything is made from the notice's facts and the reader's time zone; nothing here reads the database.
"""

from __future__ import annotations

from typing import Final

from guardrails.signals.letters import budgets, digests, month
from guardrails.signals.letters.digests import daily
from guardrails.signals.letters.shape import TONES, Block, Button, Letter, Line, Reader, Writer, notice_button
from guardrails.signals.letters.words import about
from guardrails.signals.models import Kind, Notice, Severity

__all__ = ["Block", "Button", "Letter", "Line", "Reader", "about", "daily", "letter_of"]


def letter_of(notice: Notice, reader: Reader) -> Letter:
    return WRITERS.get(notice.kind, _plain)(notice, reader)


def _plain(notice: Notice, reader: Reader) -> Letter:
    """A notice whose maker wrote its letter: facts["letter"] has the fields of `Letter` as JSON."""
    said = notice.facts.get("letter", {})
    blocks = tuple(
        Block(block["title"], tuple(Line(*row) for row in block["lines"])) for block in said.get("blocks", ())
    )
    buttons = tuple(Button(*button) for button in said.get("buttons", ())) or (notice_button(notice, reader),)
    return Letter(
        title=notice.title,
        tone=TONES[Severity(notice.severity)],
        figure=said.get("figure", ""),
        beside=said.get("beside", ""),
        lead=tuple(said.get("lead", ())),
        points=tuple(said.get("points", ())),
        points_title=said.get("points_title", "What happens next"),
        blocks=blocks,
        buttons=buttons,
    )


WRITERS: Final[dict[str, Writer]] = {
    Kind.THRESHOLD: budgets.crossing,
    Kind.THROTTLED: budgets.crossing,
    Kind.STOPPED: budgets.crossing,
    Kind.NORMAL: budgets.normal,
    Kind.SPEND_ALERT: month.spend_alert,
    Kind.DIGEST: digests.digest,
}
