"""Reading budgets as admission sees them: the number on the page is the number at the gate (FAULTS I9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from billing.domain import keys
from billing.models import BudgetTotal
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Stage
from guardrails.domain.periods import FOREVER_MS, Bounds
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import Counter
from guardrails.models import BarredModel, Raise, RaiseState, RateLimit
from guardrails.policy import budget_rules
from workspaces import tenancy
from workspaces.models import Workspace

TOP_VALUES = 50


@dataclass(frozen=True, slots=True)
class Standing:
    """One counter of a budget: the whole of it, or one value of an each-value budget. Amounts are in the budget's unit."""

    value: str
    settled: int
    held: int
    cap: int
    stage: Stage

    @property
    def used(self) -> int:
        return self.settled + self.held

    @property
    def left(self) -> int:
        return max(0, self.cap - self.used)

    @property
    def over(self) -> int:
        """How far a cap that was lowered later is exceeded"""
        return max(0, self.used - self.cap)

    @property
    def percent(self) -> int:
        return self.used * 100 // self.cap if self.cap else 0


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    budget: BudgetRule
    starts_at: datetime
    resets_at: datetime | None
    standing: Standing | None
    """None for an each-value budget"""
    values: tuple[Standing, ...]
    """Of an each-value budget: the values that have used most"""
    live: bool
    """False when the money Redis does not answer: then settled amounts are the ledger's and nothing is known of holds"""


def budgets(workspace: Workspace, now: datetime) -> list[BudgetStatus]:
    """Every budget of the workspace (its plan's quota first) with its present period."""
    at_ms = int(now.timestamp() * 1000)
    with tenancy.entered(workspace):
        rules = budget_rules(workspace)
        periods = [rule.bounds_at(at_ms) for rule in rules]
        suffixes = [keys.counter_suffix(rule.id, bounds.start_ms) for rule, bounds in zip(rules, periods, strict=True)]
        counters, live = _counters(workspace, rules, suffixes)
    return [
        _status(
            rule,
            bounds,
            [counter for counter in counters if counter.suffix == suffix or counter.suffix.startswith(f"{suffix}:")],
            at_ms,
            live,
        )
        for rule, bounds, suffix in zip(rules, periods, suffixes, strict=True)
    ]


def budget(workspace: Workspace, budget_id: str, now: datetime) -> BudgetStatus | None:
    return next((status for status in budgets(workspace, now) if status.budget.id == str(budget_id)), None)


def raises(workspace: Workspace, *, open_only: bool = False) -> list[Raise]:
    with tenancy.entered(workspace):
        rows = Raise.objects.select_related("budget")
        return list(rows.filter(state=RaiseState.REQUESTED) if open_only else rows[:500])


def rate_limits(workspace: Workspace) -> list[RateLimit]:
    with tenancy.entered(workspace):
        return list(RateLimit.objects.all())


def barred_models(workspace: Workspace) -> list[BarredModel]:
    with tenancy.entered(workspace):
        return list(BarredModel.objects.order_by("-barred_at"))


def _counters(workspace: Workspace, rules: Sequence[BudgetRule], suffixes: Sequence[str]) -> tuple[list[Counter], bool]:
    try:
        store = sync_store()
        if any(rule.scope.each for rule in rules):
            return list(control.read_counters(store, workspace.pk).values()), True
        return control.read_some(store, workspace.pk, suffixes), True
    except RedisError:
        totals = BudgetTotal.objects.filter(workspace_id=workspace.pk, budget_id__in=[rule.id for rule in rules])
        return [Counter(counter, settled, 0) for counter, settled in totals.values_list("counter", "settled")], False


def _status(rule: BudgetRule, bounds: Bounds, counters: Iterable[Counter], at_ms: int, live: bool) -> BudgetStatus:
    limit = rule.limit_at(at_ms)
    cap = rule.cap_at(at_ms) if limit is None else limit
    standings = [
        Standing(
            counter.label, counter.settled, counter.held, cap, rule.stage_at(counter.settled + counter.held, at_ms)
        )
        for counter in counters
    ]
    if rule.scope.each:
        top = sorted(standings, key=lambda standing: standing.used, reverse=True)[:TOP_VALUES]
        whole = None
    else:
        top, whole = [], standings[0] if standings else Standing("", 0, 0, cap, Stage.NORMAL)
    return BudgetStatus(
        budget=rule,
        starts_at=_moment(bounds.start_ms),
        resets_at=None if bounds.end_ms == FOREVER_MS else _moment(bounds.end_ms),
        standing=whole,
        values=tuple(top),
        live=live,
    )


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def facts(status: BudgetStatus) -> dict[str, Any]:
    """A budget's standing as plain values, for the API and templates."""
    shown = status.standing
    return {
        "id": status.budget.id,
        "name": status.budget.name,
        "cap": shown.cap if shown else status.budget.cap,
        "settled": shown.settled if shown else None,
        "held": shown.held if shown else None,
        "left": shown.left if shown else None,
        "stage": shown.stage.value if shown else None,
        "resets_at": status.resets_at,
        "live": status.live,
    }
