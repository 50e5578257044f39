"""Books against counters: what the ledger says was settled and is held, and what the money Redis says, as integers.

A difference is an alarm, never a silent fix (PROTOCOL.md, "Rebuild").
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.domain import keys
from billing.ledger import reconcile as ledger
from billing.ledger.reconcile import Books
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain_now
from guardrails.domain.budgets import Budget
from guardrails.domain.periods import Bounds, Era, Period, bounds_at
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import Counter, Meta
from guardrails.limiter.store import SyncStore
from guardrails.policy import budget_rules
from workspaces import tenancy
from workspaces.models import Workspace

QUIET_S = 5.0
"""How long to wait for a moment in which books and counters can be read as of the same event."""


@dataclass(frozen=True, slots=True)
class Report:
    """The contract's numbers (DESIGN section 6), and what is behind them."""

    ledger_nano: int
    rollup_nano: int
    settled_nano: int
    held_nano: int
    entries: int
    open_holds: int
    assumed_nano: int
    differences: list[str]
    voids: int
    corrections: int
    seq: int
    moving: bool
    """Calls kept coming: counters were not compared, only the books with themselves. Ask again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters of a workspace as of one event."""

    meta: Meta | None
    counters: Mapping[str, Counter]
    open_rids: frozenset[str]


def reconcile(workspace: Workspace, *, now: datetime | None = None, quiet_s: float = QUIET_S) -> Report:
    """Compare. Raises StillBehind when the books cannot catch up, StreamUnavailable and DatabaseError when a store is away."""
    store, until = sync_store(), time.monotonic() + quiet_s
    while True:
        snapshot = _snapshot(store, workspace.pk)
        drain_now(money_stream(), [keys.partition_of(workspace.pk)])
        books = ledger.books(workspace)
        still = snapshot is not None and (snapshot.meta is None or snapshot.meta.seq == books.seq)
        if still or time.monotonic() > until:
            break
        time.sleep(0.05)
    moment = now or datetime.now(UTC)
    with tenancy.entered(workspace):
        rules = budget_rules(workspace)
    differences = [str(difference) for difference in books.differences]
    differences += [f"events {first} to {last} are missing" for first, last in books.gaps]
    if books.quarantined:
        differences.append(f"{books.quarantined} event(s) are quarantined or waiting to be tried again")
    if snapshot is not None and still:
        differences += _against(snapshot, books, rules, int(moment.timestamp() * 1000))
    settled, held = _this_month(workspace, rules, snapshot, books, moment)
    return Report(
        ledger_nano=books.ledger_nano,
        rollup_nano=books.rollup_nano,
        settled_nano=settled,
        held_nano=held,
        entries=books.entries,
        open_holds=len(snapshot.open_rids) if snapshot is not None and snapshot.meta else len(books.open_rids),
        assumed_nano=books.assumed_nano,
        differences=differences,
        voids=books.voids,
        corrections=books.corrections,
        seq=books.seq,
        moving=not still,
    )


def _snapshot(store: SyncStore, workspace_id: int) -> Snapshot | None:
    """Every change of a counter raises seq in the same script: when it is the same before and after, the reading is of one moment."""
    before = control.read_meta(store, workspace_id)
    counters = control.read_counters(store, workspace_id)
    open_rids = frozenset(control.open_holds(store, workspace_id))
    after = control.read_meta(store, workspace_id)
    if (before.seq if before else -1) != (after.seq if after else -1):
        return None
    return Snapshot(after, counters, open_rids)


def _against(snapshot: Snapshot, books: Books, rules: tuple[Budget, ...], now_ms: int) -> list[str]:
    if snapshot.meta is None:
        # Redis knows nothing of the workspace: the next admit rebuilds it from these books before anything passes.
        return []
    found = []
    if snapshot.meta.state in ("rebuilding", "corrupt"):
        found.append(f"the workspace is {snapshot.meta.state} in the money Redis")
    for suffix, counter in sorted(snapshot.counters.items()):
        for what, booked, counted in (
            ("settled", books.settled.get(suffix, 0), counter.settled),
            ("held", books.held.get(suffix, 0), counter.held),
        ):
            if booked != counted:
                found.append(f"{suffix} {what}: the books say {booked}, the counter says {counted}")
    running = {rule.id: rule.bounds_at(now_ms).start_ms for rule in rules}
    for suffix, booked in sorted(books.settled.items()):
        if suffix in snapshot.counters or not booked:
            continue
        try:
            budget_id, start_ms, _ = keys.budget_of(suffix)
        except ValueError:
            continue
        if running.get(str(budget_id)) == start_ms:
            found.append(f"{suffix} settled: the books say {booked}, the counter is missing")
    for rid in sorted(snapshot.open_rids ^ books.open_rids):
        where = "the money Redis" if rid in snapshot.open_rids else "the books"
        found.append(f"attempt {rid} is open in {where} only")
    return found


def _this_month(
    workspace: Workspace, rules: tuple[Budget, ...], snapshot: Snapshot | None, books: Books, now: datetime
) -> tuple[int, int]:
    """(settled, held) of this month in nano-dollars: of the workspace's own monthly budget, or of all its calls where it has none."""
    now_ms = int(now.timestamp() * 1000)
    own = [
        rule for rule in rules if not rule.scope.by and rule.unit.counted_in == "nano" and rule.period is Period.MONTH
    ]
    if own and snapshot is not None and snapshot.meta is not None:
        suffix = keys.counter_suffix(own[0].id, own[0].bounds_at(now_ms).start_ms)
        counter = snapshot.counters.get(suffix)
        return (counter.settled, counter.held) if counter else (0, 0)
    month: Bounds = bounds_at(Period.MONTH, (Era(workspace.time_zone),), now_ms)
    first, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (month.start_ms, month.end_ms))
    return ledger.charged_between(workspace, first, end), books.held_nano
