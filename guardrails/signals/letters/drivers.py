"""Who and what a letter's amount is of."""

from __future__ import annotations

from typing import Any

from guardrails.signals.letters.shape import Block, Line
from guardrails.signals.letters.words import amount


def drivers(facts: dict[str, Any]) -> list[Block]:
    found = []
    for driver in facts.get("drivers", ()):
        lines = tuple(
            Line(row["name"], amount(row["amount"], driver["unit"]), f"{row['share']}%", row.get("calls_url", ""))
            for row in driver["rows"]
        )
        found.append(Block(f"By {driver['dimension']}", lines))
    return found
