"""Rebuilding a workspace's counters in the money Redis from the books (PROTOCOL.md, "Rebuild").

Meanwhile nothing of the workspace is admitted or finished. Settled amounts are the ledger's totals, held amounts its open attempts; both are
written as absolute values under a new epoch, so a second, older or resumed rebuilder is refused and a repeated chunk changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing.domain import keys
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from billing.models import BudgetTotal, Entry, OpenAttempt, RollupDay, SequenceMark
from guardrails import lines
from guardrails.domain.budgets import TAG_PREFIX
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import SeedCounter, SeedHold
from guardrails.limiter.limiter import LEASE_MS, LedgerUnavailable
from guardrails.limiter.store import StoreError
from guardrails.policy import budget_rules
from guardrails.threads import DATABASE_AWAY, in_thread
from workspaces import tenancy
from workspaces.ids import made_at_ms
from workspaces.models import Workspace, WorkspaceState

log = logging.getLogger(__name__)

ADVISORY_CLASS = 0x51_0C_E1
"""First key of the advisory locks (the ledger writer has the one before); the second is the workspace."""
DRAIN_S = 20.0
LOOK_BACK = timedelta(days=35)
"""Totals of periods that began earlier are of ended periods, but for those that never end"""
ADOPT_LEASE_MS = LEASE_MS
ADOPT_MS = 1_200
"""After a loss of events nothing new is admitted this long, while the gateways (which look every 0.4 s) present again what was lost"""
RETIRED_AFTER_MS = 49 * 3600 * 1000
"""As in common.lua: counters of longer-ended periods have left"""
NEVER_ENDS = datetime(1970, 1, 1, tzinfo=UTC)


class NotNow(Exception):
    """Somebody else is rebuilding this workspace, or the ledger cannot be brought up to date yet. Try again."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    epoch: int
    seq: int
    counters: int
    holds: int
    seconds: float


def rebuild(workspace_id: int, *, seen_epoch: int | None = None, seen_seq: int | None = None) -> Rebuilt | None:
    """Rebuild one workspace; None when it is gone, or when somebody rebuilt it after `seen_epoch`. Raises NotNow, StoreError, DatabaseError.

    `seen_epoch` and `seen_seq` are what the asking gateway has seen: its fence refuses anything behind it. Event numbers go on from the
    highest that the books or Redis know; those of events that were lost are given again to the events that replace them.
    """
    started = time.monotonic()
    with _only_rebuilder(workspace_id):
        workspace = Workspace.objects.filter(pk=workspace_id).first()
        if workspace is None:
            return None
        store = sync_store()
        meta = control.read_meta(store, workspace_id)
        if (
            meta is not None
            and seen_epoch is not None
            and meta.epoch > seen_epoch
            and meta.state not in ("rebuilding", "corrupt")
        ):
            return None
        epoch = max(meta.epoch if meta else 0, workspace.admission_epoch, seen_epoch or 0) + 1
        first = workspace.admission_epoch == 0
        Workspace.objects.filter(pk=workspace_id).update(admission_epoch=epoch)
        redis_seq = control.begin_rebuild(store, workspace_id, epoch)
        _drain(workspace_id)
        control.wipe(store, workspace_id, epoch)
        workspace.refresh_from_db()  # its version and state are read after the freeze: an older push cannot undo them
        with tenancy.entered(workspace):
            counters, holds, book_seq = _books(workspace)
        control.seed(store, workspace_id, epoch, counters, holds)
        whole = (
            meta is not None
            and meta.epoch == seen_epoch
            and seen_seq is not None
            and redis_seq >= max(seen_seq, book_seq)
        )
        seq = control.commit_rebuild(
            store,
            workspace_id,
            epoch=epoch,
            seq=max(redis_seq, book_seq),
            ver=workspace.policy_version,
            state=workspace.state,
            counters=len(counters),
            window_ms=0 if first or whole else ADOPT_MS,
        )
        if workspace.state != WorkspaceState.DELETING:
            lines.refresh(workspace)
    done = Rebuilt(epoch, seq, len(counters), len(holds), time.monotonic() - started)
    log.warning("workspace %d rebuilt: %s", workspace_id, done)
    return done


@contextmanager
def _only_rebuilder(workspace_id: int) -> Iterator[None]:
    """An advisory lock of this connection; it ends with the process. Raises NotNow when another has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [ADVISORY_CLASS, workspace_id % 2**31])
        if not cursor.fetchone()[0]:
            raise NotNow("another process is rebuilding this workspace")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [ADVISORY_CLASS, workspace_id % 2**31])


def _drain(workspace_id: int) -> None:
    """Book what the stream still has. The workspace is frozen, so nothing of it can follow."""
    until = time.monotonic() + DRAIN_S
    stream, partition = money_stream(), keys.partition_of(workspace_id)
    while True:
        done = drain(stream, partition)
        if not done.busy:
            return
        if time.monotonic() > until:
            raise NotNow("the ledger writer has this partition for too long")
        time.sleep(0.02)


def _books(workspace: Workspace) -> tuple[list[SeedCounter], list[SeedHold], int]:
    """What the counters and open holds must be, and the highest event number the books have seen."""
    now = datetime.now(UTC)
    at_ms = int(now.timestamp() * 1000)
    rules = {} if workspace.state == WorkspaceState.DELETING else {rule.id: rule for rule in budget_rules(workspace)}
    held: dict[str, int] = {}
    holds = []
    for attempt in OpenAttempt.objects.filter(workspace_id=workspace.pk).iterator(chunk_size=2000):
        charges = [(str(counter), str(unit), int(amount)) for counter, unit, amount in attempt.counters]
        for counter, _, amount in charges:
            held[counter] = held.get(counter, 0) + amount
        taken_ms = int(attempt.held_at.timestamp() * 1000)
        holds.append(SeedHold(str(attempt.rid), attempt.hold_nano, charges, attempt.context, taken_ms, ADOPT_LEASE_MS))
    running = Q(period_start__gte=now - LOOK_BACK) | Q(period_start=NEVER_ENDS)
    totals = BudgetTotal.objects.filter(workspace_id=workspace.pk)
    totals = totals.filter((Q(budget_id__in=rules) & running) | Q(counter__in=list(held)))
    settled = dict(totals.values_list("counter", "settled"))
    labels = _labels(workspace, rules)
    counters = []
    ends: dict[str, int] = {}
    for counter in settled.keys() | held.keys():
        stem = ":".join(counter.split(":")[:3])
        if stem not in ends:
            budget_id, start_ms, _ = keys.budget_of(stem)
            rule = rules.get(str(budget_id))
            ends[stem] = rule.bounds_at(start_ms).end_ms if rule else at_ms
        if ends[stem] + RETIRED_AFTER_MS < at_ms and counter not in held:
            continue
        label = labels.get(counter[len(stem) + 1 :], "")
        counters.append(SeedCounter(counter, settled.get(counter, 0), held.get(counter, 0), ends[stem], label))
    seq = SequenceMark.objects.filter(workspace_id=workspace.pk).values_list("seq", flat=True).first() or 0
    return counters, holds, seq


def _labels(workspace: Workspace, rules: Mapping[str, BudgetRule]) -> dict[str, str]:
    """Digest -> value for each-value budgets, from the rollups: keys in Redis have the digest only."""
    dimensions = {rule.scope.by for rule in rules.values() if rule.scope.each}
    if not dimensions:
        return {}
    names = [by if by.startswith(TAG_PREFIX) else str(by) for by in dimensions]
    since = datetime.now(UTC).date() - LOOK_BACK
    values = (
        RollupDay.objects.filter(workspace_id=workspace.pk, dimension__in=names, day__gte=since)
        .values_list("value", flat=True)
        .distinct()[:200_000]
    )
    return {keys.value_digest(value): value for value in values}


def known_to_ledger(workspace_id: int, rids: list[str]) -> set[str]:
    """Those attempts that already have a charge in the books."""
    moments = [datetime.fromtimestamp(made_at_ms(UUID(rid)) / 1000, UTC) for rid in rids]
    workspace = Workspace.objects.filter(pk=workspace_id).first()
    if workspace is None or not rids:
        return set(rids)
    _drain(workspace_id)
    second = timedelta(seconds=1)
    with tenancy.entered(workspace):
        found = Entry.objects.filter(
            workspace_id=workspace_id, rid__in=rids, leg=0, at__gte=min(moments) - second, at__lte=max(moments) + second
        )
        return {str(rid) for rid in found.values_list("rid", flat=True)}


# --- Inside a gateway -------------------------------------------------------------------------------------------------


class Recovery:
    """Heals workspaces beside the calls of one event loop: one rebuild at a time for each, in a worker thread."""

    def __init__(self, seen: Callable[[int], tuple[int, int]], *, wait_s: float = 1.5) -> None:
        """`seen(workspace)` is the (epoch, seq) this process has seen; `wait_s` how long a call waits for the rebuild it asked for."""
        self._seen, self._wait_s = seen, wait_s
        self._running: dict[int, asyncio.Task[bool]] = {}

    def lost(self, workspace_id: int, reason: str) -> asyncio.Task[bool]:
        """Start a rebuild unless one is under way."""
        task = self._running.get(workspace_id)
        if task is None:
            log.warning("workspace %d: the money Redis lost something (%s)", workspace_id, reason)
            task = asyncio.ensure_future(self._rebuild(workspace_id))
            self._running[workspace_id] = task
            task.add_done_callback(lambda _: self._running.pop(workspace_id, None))
        return task

    async def heal(self, workspace_id: int, reason: str) -> bool:
        """Rebuild and wait a moment for it. True when the workspace is worth another try now."""
        task = self.lost(workspace_id, reason)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._wait_s)
        except TimeoutError:
            return False

    async def known_to_ledger(self, workspace_id: int, rids: list[str]) -> set[str]:
        try:
            return await in_thread(lambda: known_to_ledger(workspace_id, rids))
        except (*DATABASE_AWAY, NotNow, StoreError) as error:
            raise LedgerUnavailable(type(error).__name__) from error

    async def close(self) -> None:
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _rebuild(self, workspace_id: int) -> bool:
        epoch, seq = self._seen(workspace_id)
        until = time.monotonic() + self._wait_s
        while True:
            try:
                await in_thread(lambda: rebuild(workspace_id, seen_epoch=epoch, seen_seq=seq))
            except NotNow as error:  # most often another gateway is at it: when that is done, so are we
                if time.monotonic() < until:
                    await asyncio.sleep(0.05)
                    continue
                log.warning("workspace %d not rebuilt yet: %s", workspace_id, error)
                return False
            except (*DATABASE_AWAY, StoreError, control.Refused) as error:
                log.warning("workspace %d not rebuilt yet: %s: %s", workspace_id, type(error).__name__, error)
                await asyncio.sleep(0.25)  # the next attempt is not made in a tight loop
                return False
            return True
