"""Rebuilding a workspace's counters in the money Redis from the books (PROTOCOL.md, "Rebuild"), after the gateways have completed the books.

What the ledger had not read when Redis was lost (a flush, an older copy, a replica that lagged) is only in the memory of the gateways: what they
hold, and each end that Redis took from them until the books are known to have it (`limiter.booked`). So a rebuild goes in these steps:

1. freeze: under a new epoch the workspace is `rebuilding`: nothing is admitted, ended or renewed.
2. ask: each live gateway hands in what it holds and has ended (`limiter._hand_in`). Nothing is counted yet.
3. complete the books: drain what the stream still has; write the events that no book knows into the stream again; drain that.
4. seed the counters from the books with absolute values, under the next epoch, and open.

Why no cap is passed then (I1). Let the state of Redis just before the loss be R, and s + h <= cap in it.
* Every event in R is in the books after step 3, but those named below: the ledger had read it, or the stream still has it, or the gateway that
  caused it is alive and hands it in. A gateway hands in at one moment of its event loop. What it is told later of an older epoch does not
  count: an OK is voided and the call not sent; the answer to an end changes nothing, because the end was handed in while it waited for it.
* An end is handed in at what the call cost, whether Redis had answered it or not. So what is seeded is R, with some holds replaced by their cost or
  released, which only lowers s + h. Nothing that one gateway presents can be seen before all have: there is no moment at which a hold stands beside
  the room that its predecessor had freed.
* What nobody hands in: expiries (the sweeper's) move an amount from h to s and are made again; re-ratings are repeated by who makes them.
* Two rebuilders cannot disagree: the lock, else the epoch, which begins anew with step 4; and a step is refused when Redis was replaced under it.
  A gateway that answers under an old epoch answers a list that nobody reads.

Who is waited for: each gateway that holds its lock in PostgreSQL (presence.py), and at least `LISTEN_MS` for one whose session is just being
opened again.
* SIGKILL, out of memory, a lost machine: the lock goes, nobody waits. If it had handed in, that counts. Else its calls count as far as the
  books or the stream had them: spend known only to it and to a Redis lost at the same moment is lost (docs/faults.md, known limits).
* SIGSTOP, a cut between gateway and Redis while it streams: its lock stays, so it is waited for; calls hear 503 `recovering`.
* PostgreSQL away: no rebuild, and no admission where one is needed. Elsewhere calls go on.
* A gateway that is cut off from PostgreSQL alone hands in all the same. Cut off from both, so long that its session ended, it is taken for dead;
  so is one that holds its lock and says nothing for `LONGEST_WAIT_MS`. If it comes back it presents its holds late, openly over the cap if need be.

Why older data is noticed (F17): the workspace's head names the process of Redis under which it was opened; data that was put back, promoted or moved
names another one, and everything of it is refused until a rebuild has compared it with what everybody has seen. Nobody has to ask first.

Why it ends: steps 1, 3 and 4 need Redis and PostgreSQL, step 2 ends by the above; each is taken up by whoever asks next (a call, a gateway
that looks, the worker every 15 s) where the last one left off, under the same epoch, so that those who have handed in need not do it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing.domain import keys
from billing.domain.dimensions import OTHER
from billing.domain.events import context_from_json
from billing.ledger.stream import money_stream
from billing.ledger.values import names as names_seen
from billing.ledger.writer import drain
from billing.models import BudgetTotal, Entry, OpenAttempt, SequenceMark
from guardrails import handed_in, lines, presence
from guardrails.domain.budgets import TAG_PREFIX
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.control import SeedCounter, SeedHold
from guardrails.limiter.limiter import LEASE_MS, LedgerUnavailable
from guardrails.limiter.store import StoreError, SyncStore
from guardrails.limiter.wire import Handed, decode_handed
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
MOST_LABELS = 200_000
"""Totals of periods that began earlier are of ended periods, but for those that never end"""
ADOPT_LEASE_MS = LEASE_MS
LISTEN_MS = 400
"""Gateways look every 0.2 s whether a rebuild asks them"""
LONGEST_WAIT_MS = 120_000
"""More than twice a lease: a gateway that lives and says nothing for so long is no reason to refuse everybody for ever"""
RETIRED_AFTER_MS = 49 * 3600 * 1000
"""As in common.lua: counters of longer-ended periods have left"""
NEVER_ENDS = datetime(1970, 1, 1, tzinfo=UTC)


class NotNow(Exception):
    """Somebody else is rebuilding this workspace, a gateway has not handed in yet, or the ledger cannot be brought up to date. Try again."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    epoch: int
    seq: int
    counters: int
    holds: int
    seconds: float


def rebuild(workspace_id: int, *, seen_epoch: int | None = None, wait_s: float = 5.0) -> Rebuilt | None:
    """Rebuild one workspace; None when it is gone, or when somebody rebuilt it after `seen_epoch`. Raises NotNow, StoreError, DatabaseError.

    `seen_epoch` is what the asking gateway has seen. Event numbers go on from the highest that the books or Redis know; those of events that
    were lost are given again to the events that replace them. Gateways are waited for up to `wait_s`; then NotNow, and the next attempt goes on
    from there.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            return _attempt(workspace_id, seen_epoch)
        except NotNow:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Unheard(NotNow):
    """Gateways have not handed in yet."""


def _attempt(workspace_id: int, seen_epoch: int | None) -> Rebuilt | None:
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
        seq = meta.seq if meta else 0
        epoch = max(meta.epoch if meta else 0, workspace.admission_epoch, seen_epoch or 0) + 1
        handed: list[Handed] = []
        if workspace.admission_epoch:  # else nobody can have been admitted
            if meta is not None and meta.asked_ms and meta.epoch == workspace.admission_epoch:
                asked = meta.epoch
            else:
                asked = _freeze(store, workspace_id, epoch)
            handed = _hear(store, workspace_id, asked)
            epoch = asked + 1
        _freeze(store, workspace_id, epoch)
        _drain(workspace_id)
        if handed:
            _complete(store, workspace, epoch, seq, handed)
        leases = control.deadlines(store, workspace_id)
        control.wipe(store, workspace_id, epoch)
        workspace.refresh_from_db()  # its version and state are read after the freeze: an older push cannot undo them
        with tenancy.entered(workspace):
            counters, holds, book_seq = _books(workspace, leases, _slots(handed))
        control.seed(store, workspace_id, epoch, counters, holds)
        seq = control.commit_rebuild(
            store,
            workspace_id,
            epoch=epoch,
            seq=max(seq, book_seq),
            ver=workspace.policy_version,
            state=workspace.state,
            counters=len(counters),
            families=control.families_of(counters),
        )
        control.asked_no_more(store, workspace_id)
        if workspace.state != WorkspaceState.DELETING:
            lines.refresh(workspace)
    done = Rebuilt(epoch, seq, len(counters), len(holds), time.monotonic() - started)
    log.warning("workspace %d rebuilt: %s", workspace_id, done)
    return done


def _freeze(store: SyncStore, workspace_id: int, epoch: int) -> int:
    """PostgreSQL first: an epoch is never given twice, whatever Redis forgets."""
    Workspace.objects.filter(pk=workspace_id).update(admission_epoch=epoch)
    control.begin_rebuild(store, workspace_id, epoch)
    return epoch


def _hear(store: SyncStore, workspace_id: int, epoch: int) -> list[Handed]:
    """What the gateways handed in. Raises Unheard while one that lives has not."""
    heard = control.ask(store, workspace_id, epoch)
    living = presence.alive()
    if living is None or heard.asked_for_ms < LISTEN_MS:
        raise Unheard("gateways may not have heard of it")
    silent = living - heard.said
    if silent and heard.frozen_for_ms < LONGEST_WAIT_MS:
        raise Unheard(f"{len(silent)} gateways have not handed in what they hold")
    if silent:
        log.critical("workspace %d opens without %d gateways that hold what nobody knows", workspace_id, len(silent))
    return [decode_handed(packed) for packed in control.handed_in(store, workspace_id, epoch, heard.said)]


def _complete(store: SyncStore, workspace: Workspace, epoch: int, seq: int, handed: Sequence[Handed]) -> None:
    """Whatever the gateways know and the books do not is written into the stream again, and booked."""
    with tenancy.entered(workspace):
        known = handed_in.books_of(workspace.pk, [one.hold.rid for one in handed])
        booked = SequenceMark.objects.filter(workspace_id=workspace.pk).values_list("seq", flat=True).first() or 0
    lost = handed_in.lost_events(handed, known)
    if lost:
        log.warning("workspace %d: %d events were lost and are written again", workspace.pk, len(lost))
        control.emit(store, workspace.pk, epoch, max(seq, booked), lost)
        _drain(workspace.pk)


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


def _slots(handed: Iterable[Handed]) -> dict[str, list[str]]:
    """rid -> the concurrency limits that a running call occupies. The gateways know it; the books do not."""
    return {
        one.hold.rid: [rate.suffix for rate in one.hold.rates if rate.kind == "c"] for one in handed if one.end is None
    }


def _books(
    workspace: Workspace, leases: Mapping[str, int], slots: Mapping[str, list[str]]
) -> tuple[list[SeedCounter], list[SeedHold], int]:
    """What the counters and open holds must be, and the highest event number the books have seen. `leases`: deadlines that Redis still
    knew. Holds of a batch run for a day and nobody renews them: how long, their context says."""
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
        rid = str(attempt.rid)
        lease_ms = max(ADOPT_LEASE_MS, leases.get(rid, 0) - at_ms, taken_ms + _lasting_ms(attempt.context) - at_ms)
        holds.append(SeedHold(rid, attempt.hold_nano, charges, attempt.context, taken_ms, lease_ms, slots.get(rid, [])))
    running = Q(period_start__gte=now - LOOK_BACK) | Q(period_start=NEVER_ENDS)
    totals = BudgetTotal.objects.filter(workspace_id=workspace.pk)
    totals = totals.filter((Q(budget_id__in=rules) & running) | Q(counter__in=list(held)))
    settled = dict(totals.values_list("counter", "settled"))
    labels = values_by_digest(workspace, rules)
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


def _lasting_ms(context: str) -> int:
    return context_from_json(context).lease_ms if '"lease_ms"' in context else 0


def values_by_digest(workspace: Workspace, rules: Mapping[str, BudgetRule]) -> dict[str, str]:
    """Digest -> value for each-value budgets, from the rollups: keys in Redis have the digest only."""
    dimensions = {rule.scope.by for rule in rules.values() if rule.scope.each}
    if not dimensions:
        return {}
    names = [by if by.startswith(TAG_PREFIX) else str(by) for by in dimensions]
    since = datetime.now(UTC).date() - LOOK_BACK
    values = names_seen(workspace.pk, names, since, MOST_LABELS)
    return {keys.value_digest(value): value for value in (*values, OTHER)}


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

    def __init__(self, seen: Callable[[int], int], *, wait_s: float = 2.5) -> None:
        """`seen(workspace)` is the epoch this process has seen; `wait_s` how long a call waits for the rebuild it asked for."""
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
        epoch = self._seen(workspace_id)
        until = time.monotonic() + self._wait_s
        while True:
            try:
                await in_thread(lambda: rebuild(workspace_id, seen_epoch=epoch, wait_s=0))
            except NotNow as error:  # another gateway is at it, or has not handed in: when that is done, so are we
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
