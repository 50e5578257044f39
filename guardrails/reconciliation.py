"""Books against counters: the ledger, its totals and what the money Redis says, as integers, at one event number.

A difference is an alarm, never silently put right (PROTOCOL.md, "Rebuild").
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from billing.domain import keys
from billing.ledger import reconcile
from billing.ledger.reconcile import Books
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from guardrails.domain.budgets import WORKSPACE_SCOPE, Unit
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.periods import Era, Period, bounds_at
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import Counter
from guardrails.policy import budget_rules
from guardrails.recovery import RETIRED_AFTER_MS
from workspaces import tenancy
from workspaces.models import Workspace

log = logging.getLogger(__name__)
MOST_TRIES = 20


class Busy(Exception):
    """The workspace made calls faster than its books could be read at one moment. Try again when it is quieter."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the money Redis says of a workspace, at one event number."""

    seq: int
    counters: Mapping[str, Counter]
    open_rids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Report:
    """What `manage.py reconcile` prints (DESIGN, section 6)."""

    workspace: str
    ledger_nano: int
    rollup_nano: int
    settled_nano: int
    """This month: the workspace's own monthly budget, or the sum of its calls where it has none"""
    held_nano: int
    entries: int
    open_holds: int
    assumed_nano: int
    seq: int
    quarantined: int
    differences: list[str]

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)


def report(workspace: Workspace) -> Report:
    """Drain, read both sides at the same event number, compare. Raises Busy."""
    now = datetime.now(UTC)
    books, gate = _at_one_moment(workspace)
    with tenancy.entered(workspace):
        rules = {rule.id: rule for rule in budget_rules(workspace)}
    differences = [str(difference) for difference in books.differences]
    differences += _compare(books, gate, rules, int(now.timestamp() * 1000))
    if books.gaps:
        differences.append(f"events missing in the stream: {list(books.gaps)}")
    settled, held = _this_month(workspace, books, gate, rules, now)
    return Report(
        workspace=workspace.slug,
        ledger_nano=books.ledger_nano,
        rollup_nano=books.rollup_nano,
        settled_nano=settled,
        held_nano=held,
        entries=books.entries,
        open_holds=len(gate.open_rids),
        assumed_nano=books.assumed_nano,
        seq=books.seq,
        quarantined=books.quarantined,
        differences=differences,
    )


def _at_one_moment(workspace: Workspace) -> tuple[Books, Gate]:
    """Both sides after the same last event."""
    for number in range(MOST_TRIES):
        before = _gate(workspace)
        if before is None:  # never seeded, or lost: what Redis would say is nothing
            drain(money_stream(), keys.partition_of(workspace.pk))
            return reconcile.books(workspace), Gate(0, {}, frozenset())
        drain(money_stream(), keys.partition_of(workspace.pk))
        books = reconcile.books(workspace)
        after = _gate(workspace)
        if after is not None and before.seq == after.seq and books.seq >= before.seq:
            return books, after
        time.sleep(0.05 * (number + 1))
    raise Busy(f"{workspace.slug} is too busy to be reconciled right now")


def _gate(workspace: Workspace) -> Gate | None:
    store = sync_store()
    meta = control.read_meta(store, workspace.pk)
    if meta is None:
        return None
    counters = control.read_counters(store, workspace.pk)
    return Gate(meta.seq, counters, frozenset(control.open_holds(store, workspace.pk)))


def _compare(books: Books, gate: Gate, rules: Mapping[str, BudgetRule], at_ms: int) -> list[str]:
    found = []
    for suffix in sorted(gate.counters.keys() | books.settled.keys() | books.held.keys()):
        counter = gate.counters.get(suffix)
        if counter is None:
            if _must_exist(suffix, books, rules, at_ms):
                found.append(
                    f"{suffix}: the ledger says {books.settled.get(suffix, 0)}, the money Redis has no such counter"
                )
            continue
        for what, booked, counted in (
            ("settled", books.settled.get(suffix, 0), counter.settled),
            ("held", books.held.get(suffix, 0), counter.held),
        ):
            if booked != counted:
                found.append(f"{suffix} {what}: the ledger says {booked}, the money Redis {counted}")
    found.extend(
        f"attempt {rid} is open in {'the money Redis' if rid in gate.open_rids else 'the books'} only"
        for rid in sorted(gate.open_rids ^ books.open_rids)
    )
    return found


def _must_exist(suffix: str, books: Books, rules: Mapping[str, BudgetRule], at_ms: int) -> bool:
    """Counters of deleted budgets and of long-ended periods have left; the others must be there."""
    if books.held.get(suffix):
        return True
    budget_id, start_ms, _ = keys.budget_of(suffix)
    rule = rules.get(str(budget_id))
    return (
        rule is not None
        and books.settled.get(suffix, 0) != 0
        and rule.bounds_at(start_ms).end_ms + RETIRED_AFTER_MS > at_ms
    )


def _this_month(
    workspace: Workspace, books: Books, gate: Gate, rules: Mapping[str, BudgetRule], now: datetime
) -> tuple[int, int]:
    at_ms = int(now.timestamp() * 1000)
    for rule in rules.values():
        if rule.scope.by == WORKSPACE_SCOPE and rule.unit is Unit.USD and rule.period is Period.MONTH:
            counter = gate.counters.get(keys.counter_suffix(UUID(rule.id), rule.bounds_at(at_ms).start_ms))
            return (counter.settled, counter.held) if counter else (0, 0)
    start_ms = bounds_at(Period.MONTH, (Era(workspace.time_zone),), at_ms).start_ms
    return reconcile.charged_between(workspace, datetime.fromtimestamp(start_ms / 1000, UTC), now), books.held_nano
