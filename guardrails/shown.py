"""How guardrails read to people: amounts in their unit; on a page, dollars in the workspace's display currency."""

from __future__ import annotations

from billing.views import amounts
from guardrails.domain.budgets import Unit


def amount(value: int, unit: Unit) -> str:
    """ "$12.50", "1 call", "20,000 tokens"."""
    if unit is Unit.USD:
        return amounts.show(value)
    return f"{value:,} {unit.value.removesuffix('s') if value == 1 else unit.value}"
