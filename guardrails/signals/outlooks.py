"""The Monthly Spend Alert, always on: the running month is looked ahead at while there is spend, and told once when it is on its way past a line.

The line is the amount of its Monthly Spend Alert (a budget that only tells), else its monthly budget for everything, else the month before. Which
workspaces to look at stands in shared tables: those that spent something today and were not looked at for some hours.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from billing import outlook
from billing.domain.forecast import Forecast, Maturity
from billing.domain.money import show_usd
from billing.ledger import queries as books
from billing.ledger.queries import Days
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Kind as BudgetKind
from guardrails.domain.budgets import Scope, Unit
from guardrails.domain.periods import Period
from guardrails.policy import budget_rules
from guardrails.rounds import go_round, waiting
from guardrails.signals import facts as facts_of
from guardrails.signals.letters import about
from guardrails.signals.links import address
from guardrails.signals.models import Kind, LookAhead, Severity
from guardrails.signals.telling import notify
from workspaces import tenancy
from workspaces.models import Workspace, WorkspaceState

REASON: Final = "workspaces with spend whose month was not looked ahead at lately"
AGAIN: Final = timedelta(hours=4)
AT_ONCE: Final = 50
FAR_ABOVE: Final = 1.25
"""Without a line of its own a workspace hears when the month is to be this much dearer than the one before."""
BEGUN_WITHIN: Final = timedelta(days=6)
SPENT_BEFORE: Final = timedelta(days=31)
"""A month in which spending began after its first week is no measure of a whole one: each newcomer's second month would be dearer."""
LEAST_NANO: Final = 1_000_000_000
"""Lines below a dollar are not worth a mail."""

_DUE: Final = """
SELECT r.workspace_id FROM billing_rollup_day r LEFT JOIN signals_lookahead s ON s.workspace_id = r.workspace_id
WHERE r.dimension = '' AND r.day BETWEEN %(day)s - 1 AND %(day)s + 1 AND r.cost_nano > 0
  AND (s.looked_at IS NULL OR s.looked_at < %(before)s)
GROUP BY r.workspace_id LIMIT %(limit)s
"""


def look(now: datetime) -> int:
    """Look ahead for the workspaces that are due. Answers how many notices that made."""
    ids = waiting(_DUE, {"day": now.date(), "before": now - AGAIN, "limit": AT_ONCE}, reason=REASON)
    return go_round(ids, lambda workspace: look_at(workspace, now), what="looking ahead at the month")


def look_at(workspace: Workspace, now: datetime) -> int:
    with transaction.atomic(), tenancy.entered(workspace):
        LookAhead.objects.update_or_create(workspace_id=workspace.pk, defaults={"looked_at": now})
        if workspace.state == WorkspaceState.DELETING:
            return 0
        seen = outlook.of_month(workspace, now)
        line_nano, line_of, rule = line(workspace, seen)
        if seen.maturity in (Maturity.NONE, Maturity.GUESS) or line_nano < LEAST_NANO or seen.spent_nano >= line_nano:
            return 0
        reach = seen.crossing(line_nano)
        if reach.expected is None or (line_of == "last_month" and seen.expected_nano < FAR_ABOVE * line_nano):
            return 0
        return _tell(workspace, seen, line_nano, line_of, rule, now)


def line(workspace: Workspace, seen: Forecast) -> tuple[int, str, BudgetRule | None]:
    """(the line in nano-USD, whose it is: own, budget or last_month, the budget). 0: there is none."""
    rules = budget_rules(workspace)
    own = next((rule for rule in rules if rule.kind is BudgetKind.SPEND_ALERT), None)
    if own is not None:
        return own.cap, "own", own
    monthly = [
        rule
        for rule in rules
        if rule.scope == Scope()
        and rule.period is Period.MONTH
        and rule.unit is Unit.USD
        and rule.eras[-1].reset_day == 1
    ]
    if monthly:
        lowest = min(monthly, key=lambda rule: rule.cap)
        return lowest.cap, "budget", lowest
    before = Days((seen.first - timedelta(days=1)).replace(day=1), seen.first - timedelta(days=1))
    began = books.totals(workspace, Days(before.first - SPENT_BEFORE, before.first + BEGUN_WITHIN))
    return books.totals(workspace, before).cost_nano if began.cost_nano else 0, "last_month", None


def _tell(
    workspace: Workspace, seen: Forecast, line_nano: int, line_of: str, rule: BudgetRule | None, now: datetime
) -> int:
    reach = seen.crossing(line_nano)
    assert reach.expected is not None  # noqa: S101 - `look_at` asked
    facts: dict[str, Any] = {
        "line_nano": line_nano, "line_of": line_of, "spent_nano": seen.spent_nano, "expected_nano": seen.expected_nano,
        "low_nano": seen.low_nano, "high_nano": seen.high_nano, "maturity": seen.maturity.value, "history_days": seen.history_days,
        "day": reach.expected.isoformat(), "earliest": reach.earliest.isoformat() if reach.earliest else None,
        "latest": reach.latest.isoformat() if reach.latest else None, "drivers": _drivers(workspace, seen),
        "links": {
            "guardrails": address("guardrails", workspace.slug), "calls": address("calls", workspace.slug),
            "overview": address("overview", workspace.slug),
        },
    }  # fmt: skip
    on = f"{reach.expected.day} {reach.expected:%b}"
    made = notify(
        workspace, kind=Kind.SPEND_ALERT, severity=Severity.WARNING, key=f"spend:{seen.first}:{line_of}:{line_nano}",
        title=f"On track for a {about(seen.expected_nano)} month: it crosses {_WHOSE[line_of]} {show_usd(line_nano)} on {on}",
        facts=facts, at=now, now=now, budget_id=None, scope=rule.scope if rule else None,
    )  # fmt: skip
    return 0 if made is None else 1


_WHOSE: Final = {"own": "your line of", "budget": "your budget of", "last_month": "last month's"}


def _drivers(workspace: Workspace, seen: Forecast) -> list[facts_of.Facts]:
    return facts_of.top_of_days(workspace, Days(seen.first, seen.today), Scope(), Unit.USD)
