"""Reading budgets as admission sees them: the number on the page is the number at the gate (FAULTS I9)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from billing.domain import keys
from billing.models import BudgetTotal
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Stage
from guardrails.domain.periods import FOREVER_MS, Bounds
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import Counter
from guardrails.limiter.store import StoreError
from guardrails.models import BarredModel, Budget, Raise, RaiseState, RateLimit
from guardrails.policy import budget_rules
from guardrails.top_values import Top, top_values
from workspaces import tenancy
from workspaces.models import Workspace

TOP_VALUES = 5
FEW = 300
"""So many counters are read all at once: then a value shows with its very first call, before that is booked"""


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
    value_count: int
    """How many values have used anything"""
    stopped_count: int
    """How many of them have used their cap up"""
    live: bool
    """False when the money Redis does not answer: then settled amounts are the ledger's and nothing is known of holds"""


def budgets(workspace: Workspace, now: datetime, *, values: bool = True) -> list[BudgetStatus]:
    """Every budget of the workspace (its plan's quota first) with its present period. `values=False` leaves out those of each-value budgets."""
    with tenancy.entered(workspace):
        return _statuses(workspace, budget_rules(workspace), now, values)


def budget(workspace: Workspace, budget_id: UUID | str, now: datetime, *, values: bool = True) -> BudgetStatus | None:
    with tenancy.entered(workspace):
        rules = [rule for rule in budget_rules(workspace) if rule.id == str(budget_id)]
        return next(iter(_statuses(workspace, rules, now, values)), None)


@dataclass(frozen=True, slots=True)
class ValuesPage:
    """Values of an each-value budget in an order that spending does not change, and where the next page begins ("": nowhere)."""

    standings: tuple[Standing, ...]
    following: str
    live: bool


def values_of(
    workspace: Workspace, budget: BudgetRule, now: datetime, *, after: str = "", limit: int = 50
) -> ValuesPage:
    """A page of what an each-value budget has counted in its present period. `after`: the cursor of the page before."""
    at_ms = _ms(now)
    stem = keys.counter_suffix(budget.id, budget.bounds_at(at_ms).start_ms) + ":"
    with tenancy.entered(workspace):
        try:
            store, live = sync_store(), True
            suffixes = sorted(
                suffix for suffix in control.suffixes_under(store, workspace.pk, stem) if suffix > stem + after
            )
            counters = control.read_some(store, workspace.pk, suffixes[: limit + 1])
        except StoreError:
            live = False
            totals = BudgetTotal.objects.filter(
                workspace_id=workspace.pk, budget_id=budget.id, counter__startswith=stem, counter__gt=stem + after
            ).order_by("counter")
            counters = [_of_ledger(*total) for total in totals.values_list("counter", "settled")[: limit + 1]]
    following = counters[limit - 1].suffix.removeprefix(stem) if len(counters) > limit else ""
    return ValuesPage(tuple(_standing(budget, counter, at_ms) for counter in counters[:limit]), following, live)


def value_of(workspace: Workspace, budget: BudgetRule, value: str, now: datetime) -> ValuesPage:
    """The one value of an each-value budget; one that never spent stands at zero."""
    standings, live = some_values(workspace, budget, [value], now)
    return ValuesPage(standings, "", live)


def some_values(
    workspace: Workspace, budget: BudgetRule, values: Sequence[str], now: datetime
) -> tuple[tuple[Standing, ...], bool]:
    """These values of an each-value budget, in the order given; those that never spent stand at zero. And whether the numbers are live."""
    at_ms = _ms(now)
    start_ms = budget.bounds_at(at_ms).start_ms
    suffixes = [keys.counter_suffix(budget.id, start_ms, keys.value_digest(value)) for value in values]
    with tenancy.entered(workspace):
        counters, live = _counters(workspace, suffixes)
    found = {counter.suffix: counter for counter in counters}
    standings = []
    for value, suffix in zip(values, suffixes, strict=True):
        counter = found.get(suffix, Counter(suffix, 0, 0))
        standings.append(_standing(budget, Counter(suffix, counter.settled, counter.held, value), at_ms))
    return tuple(standings), live


def notify_of(workspace: Workspace, budget_id: UUID | str) -> list[int]:
    """The percents whose crossing a budget records."""
    with tenancy.entered(workspace):
        found = Budget.objects.filter(pk=budget_id).values_list("notify", flat=True).first()
    return list(found or ())


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


def _statuses(workspace: Workspace, rules: Sequence[BudgetRule], now: datetime, values: bool) -> list[BudgetStatus]:
    at_ms = _ms(now)
    periods = [rule.bounds_at(at_ms) for rule in rules]
    suffixes = [keys.counter_suffix(rule.id, bounds.start_ms) for rule, bounds in zip(rules, periods, strict=True)]
    each = [rule for rule in rules if rule.scope.each] if values else []
    tops: dict[str, Top] | None = None
    if each and (few := _every_counter(workspace)) is not None:
        counters, live = few, True
    else:
        tops = top_values(workspace, each, at_ms, limit=TOP_VALUES)
        whole = [suffix for rule, suffix in zip(rules, suffixes, strict=True) if not rule.scope.each]
        counters, live = _counters(workspace, [*whole, *(suffix for top in tops.values() for suffix in top.suffixes)])
    by_period: defaultdict[str, list[Counter]] = defaultdict(list)
    for counter in counters:
        by_period[":".join(counter.suffix.split(":")[:3])].append(counter)
    return [
        _status(rule, bounds, by_period[suffix], None if tops is None else tops.get(rule.id, Top()), at_ms, live)
        for rule, bounds, suffix in zip(rules, periods, suffixes, strict=True)
    ]


def _every_counter(workspace: Workspace) -> list[Counter] | None:
    """Every counter of the workspace where there are few; None where there are many, or the money Redis does not answer."""
    try:
        store = sync_store()
        few = control.count_counters(store, workspace.pk) <= FEW
        return list(control.read_counters(store, workspace.pk).values()) if few else None
    except StoreError:
        return None


def _counters(workspace: Workspace, suffixes: Sequence[str]) -> tuple[list[Counter], bool]:
    """The counters of these suffixes, and whether they are live."""
    try:
        return control.read_some(sync_store(), workspace.pk, suffixes), True
    except StoreError:
        totals = BudgetTotal.objects.filter(workspace_id=workspace.pk, counter__in=suffixes)
        return [_of_ledger(*total) for total in totals.values_list("counter", "settled")], False


def _of_ledger(counter: str, settled: int) -> Counter:
    return Counter(counter, settled, 0)


def _standing(rule: BudgetRule, counter: Counter, at_ms: int) -> Standing:
    limit, used = rule.limit_at(at_ms), counter.settled + counter.held
    cap = rule.cap_at(at_ms) if limit is None else limit
    return Standing(counter.label, counter.settled, counter.held, cap, rule.stage_at(used, at_ms))


def _status(
    rule: BudgetRule, bounds: Bounds, counters: Iterable[Counter], top: Top | None, at_ms: int, live: bool
) -> BudgetStatus:
    """`top` is None where `counters` are all there are."""
    whole: Standing | None = None
    values: tuple[Standing, ...] = ()
    if rule.scope.each:
        apart = (counter for counter in counters if counter.suffix.count(":") == 3)
        standings = (_standing(rule, counter, at_ms) for counter in apart)
        values = tuple(sorted(standings, key=lambda standing: standing.used, reverse=True))
        if top is None:
            stopped = sum(1 for standing in values if standing.stage is Stage.KILL)
            top, values = Top((), len(values), stopped), values[:TOP_VALUES]
    else:
        counter = next(iter(counters), Counter("", 0, 0))
        whole = _standing(rule, counter, at_ms)
    return BudgetStatus(
        budget=rule,
        starts_at=_moment(bounds.start_ms),
        resets_at=None if bounds.end_ms == FOREVER_MS else _moment(bounds.end_ms),
        standing=whole,
        values=values,
        value_count=top.count if top else 0,
        stopped_count=top.stopped if top else 0,
        live=live,
    )


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
