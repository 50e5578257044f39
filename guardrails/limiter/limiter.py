"""The gateway's side of the money Redis: admits in time or not at all, finishes until they are answered, holds renewed while calls run.

One `Limiter` lives in one event loop. If the process dies, its holds expire and are charged as assumed. What it remembers matters only
while the books are behind: should the money Redis be lost then, rebuilds ask for it (recovery.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import redis.asyncio as aredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from billing.domain import keys
from guardrails.limiter import scripts, store
from guardrails.limiter.lanes import Lane, Reply, StoreFailed
from guardrails.limiter.outbox import Outbox, Parcel
from guardrails.limiter.patience import within
from guardrails.limiter.pipe import Answered
from guardrails.limiter.wire import (
    AdmitReply,
    Asking,
    FinishKind,
    FinishRequest,
    Handed,
    Ok,
    RenewRequest,
    StaleEpoch,
    admit_reply,
    encode,
)

if TYPE_CHECKING:
    from guardrails.presence import Booked, Presence

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
LOOK_S = 0.2
"""How often a gateway looks for rebuilds that wait for it"""
MOST_WATCHED = 500
"""Workspaces looked after at once; more take turns"""
TAKE_OVER_S = 1.5
"""A rebuild that takes longer may have lost its rebuilder"""
PRESENT_S = 2.0
REGISTER_S = 1.5
SAY_S = 5.0


class BudgetStoreUnavailable(Exception):
    """The money Redis gave no answer in time. The call was not admitted and must not be forwarded. `reason` is what the client is told:
    unreachable (no answer), overloaded (never asked: too much waits for it), starting, recovering."""

    def __init__(self, why: str, *, reason: str) -> None:
        super().__init__(why)
        self.reason = reason


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
        presence: Presence | None = None,
    ) -> None:
        """`lost(workspace, reason)` starts a rebuild (it may be called often); `known_to_ledger` keeps a finish that Redis forgot
        from being charged twice. `presence` is by what rebuilds know this process; without it they do not wait for it."""
        self._presence = presence
        self._redis = redis
        self._lost, self._known = lost, known_to_ledger
        self.lease_ms, self._renew_s, self._reserve_s = lease_ms, renew_s, reserve_s
        self._most_unanswered = most_unanswered
        self._cluster = redis if isinstance(redis, aredis.RedisCluster) else None
        self._pipe = None if isinstance(redis, aredis.RedisCluster) else store.pipe(redis)
        self._lanes: dict[int, Lane] = {}
        self._outboxes: dict[int, Outbox] = {}
        self._fences: dict[int, Fence] = {}
        self._open: dict[str, tuple[int, Asking]] = {}
        self._unknown: dict[int, list[Parcel]] = {}
        self._in_doubt: dict[str, Parcel] = {}
        """Finishes of attempts that Redis does not know, while the books are asked"""
        self._healing: dict[int, asyncio.Task[None]] = {}
        self._handed_in: dict[int, int] = {}
        """Workspace -> the epoch for which a rebuild was last told everything"""
        self._handing: set[int] = set()
        self._rebuilding: dict[int, float] = {}
        """Workspaces that are being rebuilt, since when"""
        self._turn = 0
        self._keeper: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._say_after = 0.0
        self.failures = 0
        """How often the store failed to answer. After a failure a fence from PostgreSQL is worth asking for again."""

    # --- Admit --------------------------------------------------------------------------------------------------------

    async def admit(self, workspace_id: int, request: Asking, leaving: Callable[[], None] | None = None) -> AdmitReply:
        """May this attempt be sent? Fills in the fences. Raises BudgetStoreUnavailable when there is no answer in time; what may have
        happened all the same is then undone. `leaving` is called before the first question is sent, whatever comes then."""
        if self.unanswered >= self._most_unanswered:
            raise BudgetStoreUnavailable(
                "too many finished calls are waiting for the budget store", reason="overloaded"
            )
        if self._presence is not None and not self._presence.registered:
            await self._register(self._presence)
        fence = self._fences.get(workspace_id) or self._fences.setdefault(workspace_id, Fence())
        lane = self._lane(workspace_id)
        while True:
            request.epoch, request.min_seq = fence.epoch, fence.seq
            try:
                raw = await lane.ask(encode(request), partial(self._undo, workspace_id, request), leaving)
            except StoreFailed as failed:
                self.failures += 1
                if failed.sent:
                    self._undo(workspace_id, request)
                self._say_why(failed)
                raise BudgetStoreUnavailable(str(failed), reason=failed.reason) from failed
            reply = admit_reply(raw)
            if isinstance(reply, StaleEpoch):
                await self._caught_up(workspace_id, reply.epoch, reply.seq)
                continue
            if isinstance(reply, Ok):
                if (
                    fence.epoch != request.epoch
                ):  # this process has told a rebuild meanwhile what it holds, without this call
                    self._undo(workspace_id, request)
                    raise BudgetStoreUnavailable("the budgets were rebuilt meanwhile", reason="recovering")
                if reply.seq > fence.seq:
                    fence.seq = reply.seq
                self._open[request.rid] = (workspace_id, request)
                if self._keeper is None or self._keeper.done():
                    self.start()
            return reply

    def present(self, workspace_id: int, request: Asking) -> None:
        """Hold for an attempt that runs already although nobody said yes to it: no cap can refuse it any more (adopt.lua), but the books must have
        it. Returns at once. Should the store not hear of it now, it is presented again when its lease is renewed, or when it ends."""
        self._open[request.rid] = (workspace_id, request)
        self.start()
        self._start(scripts.ADOPT, self._lane_of(workspace_id), [encode(request.whole())], lambda replies, error: None)

    def _say_why(self, failed: StoreFailed) -> None:
        """Once in a while: all calls of a bad moment fail for one reason."""
        now = time.monotonic()
        if now >= self._say_after:
            self._say_after = now + SAY_S
            log.warning("calls are refused because of the money Redis: %s (%d so far)", failed, self.failures)

    def _undo(self, workspace_id: int, request: Asking) -> None:
        """Void an admit whose answer is not known, or came too late."""
        void = FinishRequest(request.prefix, request.workspace, request.rid, FinishKind.VOID, 0, 0, 1, "")
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._outbox(workspace_id).put(Parcel(workspace_id, void, answered, request, sure=False))

    async def _register(self, presence: Presence) -> None:
        """Rebuilds must know of a process before it holds anything."""
        if not await asyncio.to_thread(presence.wait, REGISTER_S):
            raise BudgetStoreUnavailable("this gateway is not registered yet", reason="starting")

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
        prefix, workspace = _place(workspace_id)
        request = FinishRequest(prefix, workspace, rid, kind, cost_nano, tokens, calls, payload.decode())
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        held = self._open.get(rid)
        parcel = Parcel(workspace_id, request, answered, None if held is None else held[1])
        self._outbox(workspace_id).put(parcel)
        return answered

    @property
    def unanswered(self) -> int:
        return sum([len(outbox.queue) for outbox in self._outboxes.values()])

    @property
    def open_holds(self) -> int:
        return len(self._open)

    async def ready(self) -> str:
        """Empty when the store answers and its clock agrees with ours; else why not."""
        if self._presence is not None and not self._presence.registered:
            return "starting: rebuilds do not know of this gateway yet"
        try:
            skews_s = await within(self._reserve_s * 4, self._skews_s())
        except NO_ANSWER as error:
            self.failures += 1
            return f"budget_store_unavailable: {type(error).__name__}"
        most_s = max(skews_s)
        return f"clock_skew: {most_s:.1f} s" if most_s > CLOCK_SKEW_S else ""

    async def _skews_s(self) -> list[float]:
        """How far the store's clock is from ours; in a cluster, that of each primary that answers: one that is down costs its own workspaces,
        not the readiness of every gateway. Raises RedisError, OSError when none does."""
        if self._cluster is None:
            clocks: list[Any] = [await within(self._reserve_s * 2, self._redis.time())]
        else:
            await self._cluster.initialize()
            ask = self._cluster.execute_command
            asked = [
                within(self._reserve_s * 2, ask("TIME", target_nodes=node)) for node in self._cluster.get_primaries()
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            clocks = [answer for answer in answers if not isinstance(answer, BaseException)]
            if not clocks:
                raise RedisConnectionError("no node of the cluster answers")
        return [abs(int(seconds) + int(micros) / 1e6 - time.time()) for seconds, micros in clocks]

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
        while self._keeper is not None and not self._keeper.done():
            self._keeper.cancel()  # redis-py loses a cancellation when its disconnecting runs into its own time limit
            await asyncio.wait((self._keeper,), timeout=0.5)
        if self._pipe is not None:
            await self._pipe.aclose()
        await self._redis.aclose()

    def _answered(self, parcel: Parcel, reply: Reply) -> bool:
        outcome: bytes = reply[0]
        if outcome in (b"NEED_REBUILD", b"CORRUPT", b"STATE"):
            self._lost(parcel.workspace_id, outcome.decode())
            return False
        self._open.pop(parcel.request.rid, None)
        if outcome == b"OK":
            self._remember(parcel, reply[1])
        elif outcome == b"ALREADY":
            self._remember(parcel, reply[2])
        elif outcome == b"UNKNOWN" and parcel.request.kind != FinishKind.LATE:
            self._forgotten(parcel)
            return True
        parcel.resolve(outcome.decode())
        return True

    def _remember(self, parcel: Parcel, seq: int) -> None:
        """Until the books have seen event `seq` (0: there was none)."""
        fence = self._fences.get(parcel.workspace_id)
        if fence is None or not seq:
            return
        if seq > fence.seq:
            fence.seq = seq
        if parcel.hold is not None:
            parcel.epoch, parcel.seq = fence.epoch, seq
            self._outbox(parcel.workspace_id).memory.keep(parcel)

    def booked(self, books: Mapping[int, Booked]) -> None:
        """Hear how far the books are: what they have need not be remembered, and Redis must not be behind them."""
        for workspace_id, book in books.items():
            self.fence(workspace_id, book.epoch, book.seq)
            self._forget(workspace_id, book)

    def _forget(self, workspace_id: int, book: Booked) -> None:
        memory = self._outbox(workspace_id).memory
        memory.forget(workspace_id, lambda parcel: book.has(parcel.epoch, parcel.seq))

    def remembered(self) -> set[int]:
        """Workspaces with finishes that the books may not have."""
        return set().union(*(outbox.memory.workspaces() for outbox in self._outboxes.values()))

    def _forgotten(self, parcel: Parcel) -> None:
        """Redis does not know an attempt that this process finished: ask the books, many at once."""
        self._in_doubt[parcel.request.rid] = parcel
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
                self._in_doubt.pop(parcel.request.rid, None)
                self._outbox(workspace_id).put(parcel)
            return
        for parcel in parcels:
            self._in_doubt.pop(parcel.request.rid, None)
            if parcel.request.rid in lost:
                self._outbox(workspace_id).put(parcel)
            else:
                parcel.resolve("known")

    # --- Renewal and healing ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look after what is held, and answer rebuilds, also before the first call."""
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        """Renew leases when they are due; in between, look for rebuilds and losses."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(LOOK_S, self._renew_s))
            with contextlib.suppress(*NO_ANSWER):  # then nothing can be seen; whoever calls finds out
                async with asyncio.timeout(1.0):
                    await self._look()
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
        by_lane: dict[int, list[tuple[int, Asking]]] = {}
        for rid in rids:
            if rid in self._open:
                workspace_id, hold = self._open[rid]
                by_lane.setdefault(self._lane_of(workspace_id), []).append((workspace_id, hold))
        for lane, holds in by_lane.items():
            for first in range(0, len(holds), RENEW_BATCH):
                await self._renew_batch(lane, holds[first : first + RENEW_BATCH])

    async def _renew_batch(self, lane: int, holds: list[tuple[int, Asking]]) -> None:
        asked = [encode(RenewRequest(hold.prefix, hold.workspace, hold.rid, self.lease_ms)) for _, hold in holds]
        forgotten: dict[int, list[Asking]] = {}
        for (workspace_id, hold), reply in zip(holds, await self._run(scripts.RENEW, lane, asked), strict=True):
            if reply[0] == b"UNKNOWN" and hold.rid in self._open:
                forgotten.setdefault(workspace_id, []).append(hold)
            elif reply[0] in (b"NEED_REBUILD", b"STATE"):
                self._lost(workspace_id, reply[0].decode())
        for workspace_id, lost in forgotten.items():
            known = await self._known(workspace_id, [hold.rid for hold in lost])
            await self._adopt(workspace_id, [h for h in lost if h.rid not in known and h.rid in self._open])

    async def _adopt(self, workspace_id: int, holds: list[Asking]) -> None:
        for first in range(0, len(holds), RENEW_BATCH):
            some = holds[first : first + RENEW_BATCH]
            log.warning("workspace %d: presenting %d holds again that the money Redis forgot", workspace_id, len(some))
            await self._run(scripts.ADOPT, self._lane_of(workspace_id), [encode(hold.whole()) for hold in some])

    async def _caught_up(self, workspace_id: int, epoch: int, seq: int) -> None:
        """The workspace was rebuilt since this process last saw it. What a rebuild was told it did not lose; a process that it did not wait
        for presents what Redis may have forgotten before it asks for anything new. Callers of the same moment wait for the same healing."""
        fence = self._fences.setdefault(workspace_id, Fence())
        if fence.epoch < epoch and workspace_id not in self._healing:
            before = fence.epoch
            fence.saw(epoch, seq)
            # A rebuild asks under one epoch and opens under the next.
            if self._handed_in.get(workspace_id) == epoch - 1:
                self._outbox(workspace_id).memory.forget(workspace_id, lambda parcel: parcel.epoch < epoch)
            elif before:
                self._healing[workspace_id] = self._errand(self._present_again(workspace_id))
                self._healing[workspace_id].add_done_callback(lambda _: self._healing.pop(workspace_id, None))
        if workspace_id in self._healing:
            await asyncio.shield(self._healing[workspace_id])

    async def _present_again(self, workspace_id: int) -> None:
        """Open holds and remembered finishes: each is known to Redis, or to the books, or is presented again."""
        memory = self._outbox(workspace_id).memory
        repeated = [self._again(parcel) for parcel in memory.of(workspace_id)]
        memory.forget(workspace_id, lambda parcel: True)
        await self._renew_or_say_why([rid for rid, (owner, _) in self._open.items() if owner == workspace_id])
        if repeated:
            await asyncio.wait(repeated, timeout=PRESENT_S)

    def _again(self, parcel: Parcel) -> asyncio.Future[str]:
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._outbox(parcel.workspace_id).put(
            Parcel(parcel.workspace_id, parcel.request, answered, hold=parcel.hold, sure=parcel.sure)
        )
        return answered

    async def _look(self) -> None:
        """Notice a rebuild, or a loss, within a moment, also of workspaces that make no call just now."""
        mine = {owner for owner, _ in self._open.values()}
        mine.update(*(outbox.workspaces() for outbox in self._outboxes.values()))
        turns = sorted(mine)
        if len(turns) > MOST_WATCHED:
            self._turn = (self._turn + MOST_WATCHED) % len(turns)
            turns = (turns[self._turn :] + turns[: self._turn])[:MOST_WATCHED]
        by_lane: dict[int, list[int]] = {}
        if self._presence is not None:
            by_lane = {lane: [] for lane in ((0,) if self._cluster is None else range(keys.PARTITIONS))}
        for workspace_id in turns:
            by_lane.setdefault(self._lane_of(workspace_id), []).append(workspace_id)
        await asyncio.gather(*(self._look_at(lane, some) for lane, some in by_lane.items()))

    async def _look_at(self, lane: int, workspace_ids: list[int]) -> None:
        bases = [keys.workspace_prefix(workspace_id).encode() for workspace_id in workspace_ids]
        seen = [(self.seen(workspace_id).epoch, self.seen(workspace_id).seq) for workspace_id in workspace_ids]
        asked, *metas = await self._run(scripts.LOOK, lane, bases)
        for workspace, epoch in zip(asked[::2], asked[1::2], strict=True):
            self._asked(int(workspace), int(epoch))
        for workspace_id, before, (state, epoch, seq) in zip(workspace_ids, seen, metas, strict=True):
            if state == b"rebuilding":
                since = self._rebuilding.setdefault(workspace_id, time.monotonic())
                if time.monotonic() - since > TAKE_OVER_S:
                    self._lost(workspace_id, "left half-rebuilt")
                continue
            self._rebuilding.pop(workspace_id, None)
            if state in (b"missing", b"corrupt", b"restarted"):
                self._lost(workspace_id, state.decode())
            elif (epoch, seq) < before:
                self._lost(workspace_id, "rolled back")
            elif epoch > self.seen(workspace_id).epoch:
                self._errand(self._caught_up(workspace_id, epoch, seq))

    # --- Handing in (recovery.py says why) ----------------------------------------------------------------------------

    def _asked(self, workspace_id: int, epoch: int) -> None:
        """A rebuild waits for this gateway."""
        if self._presence is None or workspace_id in self._handing:
            return
        if self._handed_in.get(workspace_id, 0) < epoch and epoch >= self.seen(workspace_id).epoch:
            self._handing.add(workspace_id)
            self._errand(self._hand_in(workspace_id, epoch, self._presence.id))

    async def _hand_in(self, workspace_id: int, epoch: int, gateway: int) -> None:
        """Tell a rebuild all that this process holds or has ended. From this moment an OK of an older epoch is none (`admit`)."""
        self._fences.setdefault(workspace_id, Fence()).saw(epoch, 0)
        packed = [encode(handed) for handed in self._held(workspace_id)]
        try:
            for first in range(0, max(len(packed), 1), RENEW_BATCH):
                piece = packed[first : first + RENEW_BATCH]
                head = (
                    keys.partition_prefix(keys.partition_of(workspace_id)), str(workspace_id), str(epoch), str(gateway),
                    "first" if first == 0 else "", "last" if first + RENEW_BATCH >= len(packed) else "",
                )  # fmt: skip
                lane, words = self._lane_of(workspace_id), [word.encode() for word in head]
                outcome: Any = (await self._run(scripts.HAND_IN, lane, [*words, *piece]))[0]
                if outcome != b"OK":
                    return  # that rebuild is over, or another one asks
            self._handed_in[workspace_id] = epoch
        except NO_ANSWER as error:
            log.warning("workspace %d: not handed in yet (%s)", workspace_id, type(error).__name__)
        finally:
            self._handing.discard(workspace_id)

    def _held(self, workspace_id: int) -> list[Handed]:
        """What this process knows of calls that the books may not have."""
        outbox = self._outbox(workspace_id)
        doubtful = [p for p in self._in_doubt.values() if p.workspace_id == workspace_id]
        found = [
            Handed(parcel.hold.whole(), parcel.request, parcel.sure)
            for parcel in (*outbox.memory.of(workspace_id), *doubtful, *outbox.waiting(workspace_id))
            if parcel.hold is not None
        ]
        ended = {handed.hold.rid for handed in found}
        found += [
            Handed(hold.whole(), None, True)
            for rid, (owner, hold) in self._open.items()
            if owner == workspace_id and rid not in ended
        ]
        return found

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
        number = 0 if self._cluster is None else keys.partition_of(workspace_id)
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = Lane(
                partial(self._start_admits, number),
                answer_s=self._reserve_s,
                overdue=self._pipe.doubt if self._pipe else lambda: None,
            )
        return lane

    def _outbox(self, workspace_id: int) -> Outbox:
        number = 0 if self._cluster is None else keys.partition_of(workspace_id)
        outbox = self._outboxes.get(number)
        if outbox is None:
            outbox = self._outboxes[number] = Outbox(partial(self._start, scripts.FINISH, number), self._answered)
        return outbox

    def _start_admits(self, lane: int, payloads: list[bytes], answered: Answered) -> None:
        self._start(scripts.ADMIT, lane, [b"%d" % (time.time_ns() // 1_000_000), _CEILING, *payloads], answered)

    def _start(self, script: scripts.Script, lane: int, arguments: list[bytes], answered: Answered) -> None:
        """Run a script and return at once; a cluster's goes through the library, which follows slots that move."""
        if self._pipe is not None:
            self._pipe.run(script, _stream_key(lane), arguments, answered)
        else:
            self._errand(self._run_and_tell(script, lane, arguments, answered))

    async def _run_and_tell(
        self, script: scripts.Script, lane: int, arguments: list[bytes], answered: Answered
    ) -> None:
        try:
            replies = await self._run_in_cluster(script, lane, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            answered(None, error)
        else:
            answered(replies, None)

    async def _run(self, script: scripts.Script, lane: int, arguments: list[bytes]) -> list[Reply]:
        """The same, for who waits. Raises RedisError, OSError."""
        if self._pipe is None:
            return await self._run_in_cluster(script, lane, arguments)
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._pipe.run(script, keys.stream_key(lane), arguments, partial(_resolve, future))
        return await future

    async def _run_in_cluster(self, script: scripts.Script, lane: int, arguments: list[bytes]) -> list[Reply]:
        if self._cluster is not None:
            await self._cluster.initialize()  # once, before many ask at the same moment: it replaces connections
        replies: list[Reply] = await store.call(self._redis, script, keys.stream_key(lane), arguments)
        return replies


@lru_cache(maxsize=16_384)
def _place(workspace_id: int) -> tuple[str, str]:
    """The prefix of a workspace's keys and its id, as scripts want them."""
    return keys.partition_prefix(keys.partition_of(workspace_id)), str(workspace_id)


_stream_key = lru_cache(maxsize=keys.PARTITIONS)(keys.stream_key)
_CEILING = b"%d" % ADMIT_CEILING_PERCENT


def _resolve(future: asyncio.Future[list[Reply]], replies: list[Reply] | None, error: Exception | None) -> None:
    if future.done():
        return  # whoever asked has left
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(replies or [])
