"""Budgets as values: what they cap, when each stage begins, and which of them a call meets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from billing.domain.dimensions import Dimension
from guardrails.domain.periods import Bounds, Era, Period, bounds_at

MAX_CAP = 9_000_000_000_000_000
"""Counters are exact to here (9 million dollars in nano); tokens and calls have the same bound."""


class Unit(StrEnum):
    USD = "usd"
    TOKENS = "tokens"
    CALLS = "calls"

    @property
    def counted_in(self) -> str:
        """The unit of the counter in Redis and the ledger."""
        return "nano" if self is Unit.USD else self.value


class Strategy(StrEnum):
    """The strongest stage a budget may reach."""

    ALERT_ONLY = "alert_only"
    THROTTLE = "throttle"
    REJECT = "reject"


class Stage(StrEnum):
    NORMAL = "normal"
    ALERT = "alert"
    THROTTLE = "throttle"
    KILL = "kill"


class OnTight(StrEnum):
    """What happens to a client's own output limit when the call does not fit."""

    CLAMP = "clamp"
    REJECT = "reject"


class Kind(StrEnum):
    """What a budget is to people; decides the code of its refusal."""

    BUDGET = "budget"
    DAILY_HARD_STOP = "daily_hard_stop"
    MONTHLY_CONTROL = "monthly_control"
    SPEND_ALERT = "spend_alert"
    MEMBER_CAP = "member_cap"
    PLAN_QUOTA = "plan_quota"


WORKSPACE_SCOPE = ""
TAG_PREFIX = "tag:"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a budget counts: `by` is "" (the whole workspace), a dimension, or "tag:<name>"; `value` None means each value on its own."""

    by: str = WORKSPACE_SCOPE
    value: str | None = ""

    @property
    def each(self) -> bool:
        return self.by != WORKSPACE_SCOPE and self.value is None

    def __post_init__(self) -> None:
        known = self.by == WORKSPACE_SCOPE or self.by in set(Dimension) or self.by.startswith(TAG_PREFIX)
        if not known:
            raise ValueError(f"a budget cannot be on {self.by!r}")


@dataclass(frozen=True, slots=True)
class Raised:
    """A temporary raise of a cap."""

    amount: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Budget:
    id: str
    name: str
    cap: int
    period: Period
    eras: tuple[Era, ...]
    scope: Scope = Scope()
    unit: Unit = Unit.USD
    kind: Kind = Kind.BUDGET
    strategy: Strategy = Strategy.REJECT
    on_tight: OnTight = OnTight.REJECT
    alert_percent: int | None = 70
    """None: the stage is switched off."""
    throttle_percent: int | None = None
    kill_percent: int | None = 100
    throttle_per_minute: int = 0
    """0: the pace that spreads what is left over what remains of the period."""
    message: str = ""
    upgrade_url: str = ""
    raises: tuple[Raised, ...] = field(default=())

    @property
    def hard(self) -> bool:
        """Whether the budget ever refuses: then no call may pass whose cost has no bound."""
        return self.strategy is Strategy.REJECT and self.kill_percent is not None

    def cap_at(self, at_ms: int) -> int:
        if not self.raises:
            return self.cap
        return min(MAX_CAP, self.cap + sum(raised.amount for raised in self.raises if at_ms < raised.until_ms))

    def limit_at(self, at_ms: int) -> int | None:
        """What settled + held may reach; None for a soft budget."""
        if not self.hard or self.kill_percent is None:
            return None
        return self.cap_at(at_ms) * self.kill_percent // 100

    def throttle_from(self, at_ms: int) -> int | None:
        if self.strategy is Strategy.ALERT_ONLY or self.throttle_percent is None:
            return None
        return self.cap_at(at_ms) * self.throttle_percent // 100

    def stage_at(self, used: int, at_ms: int) -> Stage:
        limit, slow = self.limit_at(at_ms), self.throttle_from(at_ms)
        if limit is not None and used >= limit:
            return Stage.KILL
        if slow is not None and used >= slow:
            return Stage.THROTTLE
        if self.alert_percent is not None and used * 100 >= self.cap_at(at_ms) * self.alert_percent:
            return Stage.ALERT
        return Stage.NORMAL

    def bounds_at(self, at_ms: int) -> Bounds:
        return bounds_at(self.period, self.eras, at_ms)


@dataclass(frozen=True, slots=True)
class Match:
    """A budget that a call meets; `value` is the one it counts apart, for an each-value budget."""

    budget: Budget
    value: str = ""


class Matcher:
    """Budgets indexed by what they are on, so that finding a call's costs one look-up a dimension in use."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._always: list[Match] = []
        self._one: dict[str, dict[str, list[Match]]] = {}
        self._each: dict[str, list[Budget]] = {}
        for budget in budgets:
            scope = budget.scope
            if scope.by == WORKSPACE_SCOPE:
                self._always.append(Match(budget))
            elif scope.value is None:
                self._each.setdefault(scope.by, []).append(budget)
            else:
                self._one.setdefault(scope.by, {}).setdefault(scope.value, []).append(Match(budget))

    def matches(self, dims: Mapping[str, str], tags: Mapping[str, str]) -> list[Match]:
        """The budgets of a call, each once, the workspace's own first."""
        found = self._always.copy()
        for by, values in self._one.items():
            value = tags.get(by[4:]) if by.startswith(TAG_PREFIX) else dims.get(by)
            if value is not None and value in values:
                found += values[value]
        for by, budgets in self._each.items():
            value = tags.get(by[4:]) if by.startswith(TAG_PREFIX) else dims.get(by)
            if value:
                found += [Match(budget, value) for budget in budgets]
        return found
