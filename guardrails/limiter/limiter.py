"""The gateway's side of the money Redis: admits in time or not at all, finishes until they are answered, holds renewed while calls run.

One `Limiter` lives in one event loop. It keeps nothing that matters: if the process dies, its holds expire and are charged as assumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import redis.asyncio as aredis
from redis.exceptions import RedisError

from billing.domain import keys
from guardrails.limiter import scripts, store
from guardrails.limiter.lanes import Lane, Reply, StoreFailed
from guardrails.limiter.outbox import Outbox, Parcel
from guardrails.limiter.wire import (
    AdmitReply,
    AdmitRequest,
    FinishKind,
    FinishRequest,
    Ok,
    RenewRequest,
    StaleEpoch,
    admit_reply,
    encode,
)

log = logging.getLogger(__name__)

LEASE_MS = 30_000
RENEW_S = 10.0
RESERVE_S = 0.25
RENEW_BATCH = 256
ADMIT_CEILING_PERCENT = 85

KnownToLedger = Callable[[int, list[str]], Awaitable[set[str]]]
"""(workspace, rids) -> those that already have a row in the ledger. Raises LedgerUnavailable."""


class LedgerUnavailable(Exception):
    """PostgreSQL could not be asked whether it knows an attempt."""


NO_ANSWER = (RedisError, OSError, asyncio.TimeoutError, LedgerUnavailable)
HEAL_PAUSE_S = 1.0
CLOCK_SKEW_S = 5.0
WATCH_S = 0.4
MOST_WATCHED = 500
PRESENT_S = 2.0


class BudgetStoreUnavailable(Exception):
    """The money Redis gave no answer in time. The call was not admitted and must not be forwarded."""


@dataclass(slots=True)
class Fence:
    """The highest state of a workspace this process has seen: Redis must never answer from an older one."""

    epoch: int = 0
    seq: int = 0

    def saw(self, epoch: int, seq: int) -> None:
        if epoch > self.epoch:
            self.epoch, self.seq = epoch, seq
        elif epoch == self.epoch and seq > self.seq:
            self.seq = seq


class Limiter:
    def __init__(
        self,
        redis: store.AsyncStore,
        *,
        lost: Callable[[int, str], object],
        known_to_ledger: KnownToLedger,
        lease_ms: int = LEASE_MS,
        renew_s: float = RENEW_S,
        reserve_s: float = RESERVE_S,
        most_unanswered: int = 20_000,
    ) -> None:
        """`lost(workspace, reason)` starts a rebuild (it may be called often); `known_to_ledger` keeps a finish that Redis forgot
        from being charged twice."""
        self._redis = redis
        self._lost, self._known = lost, known_to_ledger
        self.lease_ms, self._renew_s, self._reserve_s = lease_ms, renew_s, reserve_s
        self._most_unanswered = most_unanswered
        self._cluster = redis if isinstance(redis, aredis.RedisCluster) else None
        self._lanes: dict[int, Lane] = {}
        self._outboxes: dict[int, Outbox] = {}
        self._fences: dict[int, Fence] = {}
        self._open: dict[str, tuple[int, AdmitRequest]] = {}
        self._unknown: dict[int, list[Parcel]] = {}
        self._healing: dict[int, asyncio.Task[None]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self.failures = 0
        """How often the store failed to answer. After a failure a fence from PostgreSQL is worth asking for again."""

    # --- Admit --------------------------------------------------------------------------------------------------------

    async def admit(self, workspace_id: int, request: AdmitRequest) -> AdmitReply:
        """May this attempt be sent? Fills in the fences. Raises BudgetStoreUnavailable when there is no answer in time; what may have
        happened all the same is then undone."""
        if self.unanswered >= self._most_unanswered:
            raise BudgetStoreUnavailable("too many finished calls are waiting for the budget store")
        fence = self._fences.setdefault(workspace_id, Fence())
        while True:
            request.epoch, request.min_seq = fence.epoch, fence.seq
            reply = await self._admit_once(workspace_id, request)
            if isinstance(reply, StaleEpoch):
                await self._caught_up(workspace_id, reply.epoch, reply.seq)
                continue
            if isinstance(reply, Ok):
                fence.saw(request.epoch, reply.seq)
                self._open[request.rid] = (workspace_id, request)
                self._start_keeping()
            return reply

    async def _admit_once(self, workspace_id: int, request: AdmitRequest) -> AdmitReply:
        def undo() -> None:
            self.finish(workspace_id, request.rid, FinishKind.VOID)

        try:
            raw = await self._lane(workspace_id).ask(encode(request), undo)
        except StoreFailed as failed:
            self.failures += 1
            if failed.sent:
                undo()
            raise BudgetStoreUnavailable(str(failed)) from failed
        return admit_reply(raw)

    def fence(self, workspace_id: int, epoch: int, seq: int) -> None:
        """Tell what PostgreSQL has seen of a workspace. A newer epoch is learned from Redis itself, because that is also the moment to
        present again what it may have forgotten."""
        fence = self._fences.setdefault(workspace_id, Fence())
        if fence.epoch in (0, epoch):
            fence.saw(epoch, seq)

    def seen(self, workspace_id: int) -> Fence:
        """What this process has seen of a workspace; a rebuild must not fall behind it."""
        return self._fences.get(workspace_id, Fence())

    def entrust(self, rid: str) -> None:
        """This process lets go of a hold that outlives its call: whoever learns the truth finishes it, or its lease ends."""
        self._open.pop(rid, None)

    # --- Finish -------------------------------------------------------------------------------------------------------

    def finish(
        self,
        workspace_id: int,
        rid: str,
        kind: FinishKind,
        *,
        cost_nano: int = 0,
        tokens: int = 0,
        calls: int = 1,
        payload: bytes = b"",
    ) -> asyncio.Future[str]:
        """End an attempt: returns at once, is repeated until Redis answers. The future tells how it ended ("OK", "ALREADY", "known",
        "error"); nobody needs to wait for it."""
        if cost_nano < 0 or tokens < 0:
            raise ValueError("a cost cannot be negative")
        request = FinishRequest(
            keys.partition_prefix(keys.partition_of(workspace_id)),
            str(workspace_id),
            rid,
            kind.value,
            cost_nano,
            tokens,
            calls,
            payload.decode(),
        )
        parcel = Parcel(workspace_id, request, asyncio.get_running_loop().create_future())
        self._outbox(workspace_id).put(parcel)
        return parcel.answered

    @property
    def unanswered(self) -> int:
        return sum(len(outbox) for outbox in self._outboxes.values())

    @property
    def open_holds(self) -> int:
        return len(self._open)

    async def ready(self) -> str:
        """Empty when the store answers and its clock agrees with ours; else why not."""
        try:
            async with asyncio.timeout(self._reserve_s * 2):
                seconds, micros = await self._redis.time()
        except NO_ANSWER as error:
            self.failures += 1
            return f"budget_store_unavailable: {type(error).__name__}"
        skew_s = abs(int(seconds) + int(micros) / 1e6 - time.time())
        return f"clock_skew: {skew_s:.1f} s" if skew_s > CLOCK_SKEW_S else ""

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every finish is answered; False when time ran out."""
        until = time.monotonic() + timeout_s
        while self.unanswered or self._errands:
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(0.01)
        return True

    async def close(self, timeout_s: float = 5.0) -> None:
        """For a stopping gateway, after its calls have ended."""
        await self.drain(timeout_s)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._redis.aclose()

    def _answered(self, parcel: Parcel, reply: Reply) -> bool:
        outcome, rid, workspace_id = reply[0], parcel.request.rid, parcel.workspace_id
        if outcome in (b"NEED_REBUILD", b"CORRUPT", b"STATE"):
            self._lost(workspace_id, outcome.decode())
            return False
        if outcome == b"OK":
            fence = self._fences.get(workspace_id)
            if fence is not None and reply[1]:
                fence.saw(fence.epoch, reply[1])
        known = self._open.pop(rid, None)
        if known is not None:
            parcel.hold = known[1]
        if outcome == b"UNKNOWN" and parcel.request.kind != FinishKind.LATE:
            self._forgotten(parcel)
        else:
            parcel.resolve(outcome.decode())
        return True

    def _forgotten(self, parcel: Parcel) -> None:
        """Redis does not know an attempt that this process finished: ask the books, many at once."""
        waiting = self._unknown.setdefault(parcel.workspace_id, [])
        waiting.append(parcel)
        if len(waiting) == 1:
            self._errand(self._resolve_forgotten(parcel.workspace_id))

    async def _resolve_forgotten(self, workspace_id: int) -> None:
        """What the ledger knows is done. The rest Redis lost before anyone read it: present those holds again, then finish them."""
        await asyncio.sleep(0.01)  # the rest of the batch
        parcels = self._unknown.pop(workspace_id, [])
        try:
            known = await self._known(workspace_id, [parcel.request.rid for parcel in parcels])
            lost = {p.request.rid: p for p in parcels if p.hold is not None and p.request.rid not in known}
            await self._adopt(workspace_id, [parcel.hold for parcel in lost.values() if parcel.hold is not None])
        except NO_ANSWER:
            await asyncio.sleep(HEAL_PAUSE_S)
            for parcel in parcels:
                self._outbox(workspace_id).put(parcel)
            return
        for parcel in parcels:
            if parcel.request.rid in lost:
                self._outbox(workspace_id).put(parcel)
            else:
                parcel.resolve("known")

    # --- Renewal and healing ------------------------------------------------------------------------------------------

    def _start_keeping(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        """Renew leases when they are due; in between, watch for rebuilds."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(WATCH_S, self._renew_s))
            with contextlib.suppress(*NO_ANSWER):  # then nothing can be seen; whoever calls finds out
                async with asyncio.timeout(1.0):
                    await self._watch()
            if time.monotonic() - renewed >= self._renew_s - 0.001:
                renewed = time.monotonic()
                await self._renew_or_say_why(list(self._open))

    async def _renew_or_say_why(self, rids: list[str]) -> None:
        try:
            await self.renew(rids)
        except NO_ANSWER as error:
            self.failures += 1
            log.warning("leases of %d calls not renewed (%s)", len(rids), type(error).__name__)

    async def renew(self, rids: Iterable[str]) -> None:
        """Keep the holds of running calls; those that Redis forgot are presented again."""
        by_lane: dict[int, list[tuple[int, AdmitRequest]]] = {}
        for rid in rids:
            if rid in self._open:
                workspace_id, hold = self._open[rid]
                by_lane.setdefault(self._lane_of(workspace_id), []).append((workspace_id, hold))
        for lane, holds in by_lane.items():
            for first in range(0, len(holds), RENEW_BATCH):
                await self._renew_batch(lane, holds[first : first + RENEW_BATCH])

    async def _renew_batch(self, lane: int, holds: list[tuple[int, AdmitRequest]]) -> None:
        asked = [encode(RenewRequest(hold.prefix, hold.workspace, hold.rid, self.lease_ms)) for _, hold in holds]
        forgotten: dict[int, list[AdmitRequest]] = {}
        for (workspace_id, hold), reply in zip(holds, await self._run(scripts.RENEW, lane, asked), strict=True):
            if reply[0] == b"UNKNOWN" and hold.rid in self._open:
                forgotten.setdefault(workspace_id, []).append(hold)
            elif reply[0] in (b"NEED_REBUILD", b"STATE"):
                self._lost(workspace_id, reply[0].decode())
        for workspace_id, lost in forgotten.items():
            known = await self._known(workspace_id, [hold.rid for hold in lost])
            await self._adopt(workspace_id, [hold for hold in lost if hold.rid not in known])

    async def _adopt(self, workspace_id: int, holds: list[AdmitRequest]) -> None:
        for first in range(0, len(holds), RENEW_BATCH):
            some = holds[first : first + RENEW_BATCH]
            log.warning("workspace %d: presenting %d holds again that the money Redis forgot", workspace_id, len(some))
            await self._run(scripts.ADOPT, self._lane_of(workspace_id), [encode(hold) for hold in some])

    async def _caught_up(self, workspace_id: int, epoch: int, seq: int) -> None:
        """The workspace was rebuilt since this process last saw it: what Redis may have forgotten is presented again before anything
        new is asked. Callers of the same moment wait for the same healing."""
        fence = self._fences.setdefault(workspace_id, Fence())
        if fence.epoch < epoch and workspace_id not in self._healing:
            before = fence.epoch
            fence.saw(epoch, seq)
            if before:
                self._healing[workspace_id] = self._errand(self._present_again(workspace_id))
                self._healing[workspace_id].add_done_callback(lambda _: self._healing.pop(workspace_id, None))
        if workspace_id in self._healing:
            await asyncio.shield(self._healing[workspace_id])

    async def _present_again(self, workspace_id: int) -> None:
        """Open holds, and finishes of the last seconds: each is known to Redis, or to the books, or is presented again."""
        repeated = [
            self._again(parcel)
            for parcel in self._outbox(workspace_id).recently_answered(workspace_id)
            if parcel.hold is not None
        ]
        await self._renew_or_say_why([rid for rid, (owner, _) in self._open.items() if owner == workspace_id])
        if repeated:
            await asyncio.wait(repeated, timeout=PRESENT_S)

    def _again(self, parcel: Parcel) -> asyncio.Future[str]:
        repeat = Parcel(parcel.workspace_id, parcel.request, asyncio.get_running_loop().create_future())
        repeat.hold = parcel.hold
        self._outbox(parcel.workspace_id).put(repeat)
        return repeat.answered

    async def _watch(self) -> None:
        """Notice a rebuild, or a loss, within a moment, also of workspaces that make no call just now."""
        mine = {owner for owner, _ in self._open.values()}
        mine.update(*(outbox.workspaces() for outbox in self._outboxes.values()))
        some = list(mine)[:MOST_WATCHED]
        if not some:
            return
        pipe = self._redis.pipeline(transaction=False)
        for workspace_id in some:
            pipe.hmget(keys.meta_key(workspace_id), ["state", "epoch", "seq"])
        for workspace_id, (state, epoch, seq) in zip(some, await pipe.execute(), strict=True):
            if state is None or state in (b"rebuilding", b"corrupt"):
                self._lost(workspace_id, "missing meta" if state is None else state.decode())
            elif int(epoch) > self.seen(workspace_id).epoch:
                self._errand(self._caught_up(workspace_id, int(epoch), int(seq or 0)))

    def _errand(self, errand: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Healing work beside the calls, tracked so that it is neither lost nor left behind."""
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    # --- Lanes --------------------------------------------------------------------------------------------------------

    def _lane_of(self, workspace_id: int) -> int:
        return 0 if self._cluster is None else keys.partition_of(workspace_id)

    def _lane(self, workspace_id: int) -> Lane:
        number = self._lane_of(workspace_id)
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = Lane(
                lambda payloads: self._run_admits(number, payloads), answer_s=self._reserve_s
            )
        return lane

    def _outbox(self, workspace_id: int) -> Outbox:
        number = self._lane_of(workspace_id)
        outbox = self._outboxes.get(number)
        if outbox is None:
            outbox = self._outboxes[number] = Outbox(
                lambda payloads: self._run(scripts.FINISH, number, payloads), self._answered
            )
        return outbox

    async def _run_admits(self, lane: int, payloads: list[bytes]) -> list[Reply]:
        return await self._run(
            scripts.ADMIT, lane, [b"%d" % (time.time_ns() // 1_000_000), b"%d" % ADMIT_CEILING_PERCENT, *payloads]
        )

    async def _run(self, script: scripts.Script, lane: int, arguments: list[bytes]) -> list[Reply]:
        if self._cluster is not None:
            await self._cluster.initialize()  # once, before many ask at the same moment: it replaces connections
        replies: list[Reply] = await store.call(self._redis, script, keys.stream_key(lane), arguments)
        return replies
