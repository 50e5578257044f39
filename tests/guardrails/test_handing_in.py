"""After a loss that the books had not read: nothing is admitted before each living gateway has handed in what it holds (recovery.py's argument)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from billing.domain import keys as money_keys
from billing.domain.events import Kind
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain
from guardrails import actions, recovery
from guardrails.domain.refusals import BudgetStoreUnavailable, OverBudget, RateLimited
from guardrails.gate import Gate, open_gate
from guardrails.handed_in import Known, lost_events
from guardrails.limiter import control, scripts
from guardrails.limiter.limiter import BudgetStoreUnavailable as NoAnswer
from guardrails.limiter.limiter import Limiter
from guardrails.limiter.outbox import Memory, Parcel
from guardrails.limiter.wire import FinishKind, FinishRequest, Handed
from guardrails.presence import Booked
from tests.cast import Cast
from tests.guardrails.conftest import Bench, W, asking, budget_suffix, counter
from tests.guardrails.test_admission import DONE, USD, Caller, books, sync
from workspaces import actions as workspace_actions
from workspaces.ids import uuid7


@pytest.fixture
async def app(gate: Gate, committed_cast: Cast) -> Caller:
    minted = await sync(
        workspace_actions.create_virtual_key, workspace=committed_cast.acme, by=committed_cast.alice.actor, name="app"
    )
    return Caller(gate, committed_cast, minted.text)


class Held:
    """Script calls of one gateway that wait, as in a process that is stopped: asked, or answered, only when `go` is set."""

    def __init__(self, limiter: Limiter, script: scripts.Script, *, answers: bool = False) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()
        run, start = limiter._run, limiter._start

        async def held(what: scripts.Script, lane: int, arguments: list[bytes]) -> list[Any]:
            if what is script and not answers:
                self.reached.set()
                await self.go.wait()
            replies = await run(what, lane, arguments)
            if what is script and answers:
                self.reached.set()
                await self.go.wait()
            return replies

        def started(what: scripts.Script, lane: int, arguments: list[bytes], answered: Any) -> None:
            if what is not script:
                start(what, lane, arguments, answered)
            elif answers:
                start(what, lane, arguments, lambda replies, error: self._later(answered, replies, error))
            else:
                self._later(start, what, lane, arguments, answered)

        limiter._run = held  # type: ignore[method-assign]
        limiter._start = started  # type: ignore[method-assign]

    def _later(self, act: Callable[..., None], *given: Any) -> None:
        async def wait() -> None:
            self.reached.set()
            await self.go.wait()
            act(*given)

        task = asyncio.ensure_future(wait())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)


@asynccontextmanager
async def another(caller: Caller) -> AsyncIterator[Caller]:
    """A second gateway."""
    gate = open_gate()
    try:
        yield Caller(gate, caller.cast, caller.key)
    finally:
        await gate.close(2.0)


async def until(true: Callable[[], Awaitable[bool]], timeout_s: float = 15) -> None:
    """Look again and again; fails when it never becomes true."""
    ends = time.monotonic() + timeout_s
    while not await true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.05)


async def admits(caller: Caller, amount: int) -> bool:
    try:
        await caller.call(amount)
    except BudgetStoreUnavailable:
        return False
    return True


def counted(money: Any, app: Caller, budget: Any) -> tuple[int, int]:
    counters = control.read_counters(money, app.acme.pk).values()
    mine = [c for c in counters if str(budget.pk) in c.suffix]
    return sum(c.settled for c in mine), sum(c.held for c in mine)


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
async def test_a_gateway_that_is_late_is_waited_for_and_the_cap_holds(app: Caller, money: Any, ended: bool) -> None:
    budget = await app.budget("3")
    await app.call(USD // 10)
    async with another(app) as late:
        carried = await late.call(2 * USD)
        if ended:
            assert await late.gate.admission.settle(carried, 2 * USD, 10, DONE) == "OK"
        stopped = Held(late.gate.limiter, scripts.HAND_IN)
        await sync(money.flushdb)  # the books have read nothing of all this
        assert not await admits(app, 2 * USD)
        await asyncio.wait_for(stopped.reached.wait(), 5)
        assert not await admits(app, 2 * USD)
        assert sum(await sync(counted, money, app, budget)) == 0
        stopped.go.set()
        refusals: list[object] = []

        async def over_budget() -> bool:
            refusals.append(await app.refused(2 * USD))
            return isinstance(refusals[-1], OverBudget)

        await until(over_budget)
        assert sum(await sync(counted, money, app, budget)) == 2 * USD + USD // 10
        await app.call(USD // 2)
        if not ended:
            assert await late.gate.admission.settle(carried, 2 * USD, 10, DONE) == "OK"
    assert (await sync(counted, money, app, budget))[0] == 2 * USD
    assert (await sync(books, app.acme)).differences == []


async def test_running_calls_keep_their_slots_and_long_holds_their_time_when_everything_was_lost(
    app: Caller, money: Any
) -> None:
    await sync(actions.create_rate_limit, workspace=app.acme, by=app.cast.alice.actor, metric="concurrency", limit=2)
    running = [await app.call(1), await app.call(1)]
    batch = await app.call(USD, lease_ms=3_600_000)
    await sync(money.flushdb)

    async def limited() -> bool:
        return isinstance(await app.refused(1), RateLimited)

    await until(limited)
    deadlines = await sync(control.deadlines, money, app.acme.pk)
    assert deadlines[batch.rid] - time.time() * 1000 > 3_000_000
    assert await app.gate.admission.settle(running[0], 1, 10, DONE) == "OK"
    await app.call(1)


async def test_a_dead_gateway_is_not_waited_for(app: Caller, money: Any) -> None:
    await app.budget("3")
    await app.call(USD)
    async with another(app) as dead:
        await dead.call(1)
        Held(dead.gate.limiter, scripts.HAND_IN)
        await asyncio.to_thread(dead.gate.presence.stop)  # the kernel closes its connections
        await sync(money.flushdb)
        await until(lambda: admits(app, USD))
        assert isinstance(await app.refused(2 * USD), OverBudget)  # what this gateway carries was handed in
        for task in dead.gate.limiter._errands:
            task.cancel()


async def test_an_older_copy_is_noticed_whoever_asks_first(app: Caller, money: Any) -> None:
    """The gateway that asks has seen less than the copy has: only another one knows better."""
    await app.budget("3")
    await app.call(USD // 10)
    base = money_keys.workspace_prefix(app.acme.pk).encode()
    copy = {key: money.dump(key) for key in money.scan_iter() if key.startswith(base)}
    async with another(app) as other:
        await other.call(2 * USD)
        for key in list(money.scan_iter()):
            if key.startswith(base):
                money.delete(key)
        for key, value in copy.items():
            money.restore(key, 0, value)
        money.hset(money_keys.meta_key(app.acme.pk), "run", "0" * 40)  # the process that wrote the copy
        money.delete(money_keys.stream_key(money_keys.partition_of(app.acme.pk)))
        refusal = await app.refused(2 * USD)
        if isinstance(refusal, BudgetStoreUnavailable):
            await until(lambda: admits(app, 1))
            refusal = await app.refused(2 * USD)
        assert isinstance(refusal, OverBudget)


async def test_what_the_books_have_is_no_longer_remembered(app: Caller) -> None:
    for _ in range(3):
        assert await app.gate.admission.settle(await app.call(USD), USD, 10, DONE) == "OK"
    memory = app.gate.limiter._outbox(app.acme.pk).memory
    assert len(memory) == 3
    await sync(drain, money_stream(), money_keys.partition_of(app.acme.pk))

    async def forgotten() -> bool:
        return len(memory) == 0

    await until(forgotten)


# --- The parts --------------------------------------------------------------------------------------------------------


async def test_an_ok_from_before_a_hand_in_is_no_ok(bench: Bench) -> None:
    limiter = bench.limiter(reserve_s=5.0)
    await limiter.admit(W, asking([counter(0, 1, 1000)]))
    slow = Held(limiter, scripts.ADMIT, answers=True)
    admitting = asyncio.ensure_future(limiter.admit(W, asking([counter(0, 100, 1000)])))
    await slow.reached.wait()
    control.begin_rebuild(bench.store, W, 2)
    await limiter._hand_in(W, 2, 7)
    slow.go.set()
    with pytest.raises(NoAnswer):
        await admitting
    control.begin_rebuild(bench.store, W, 3)
    control.commit_rebuild(bench.store, W, epoch=3, seq=2, ver=1, state="active", counters=1)
    assert await limiter.drain(3)
    assert bench.counters()[budget_suffix(0)] == (0, 1)


async def test_an_end_is_handed_in_while_its_answer_is_awaited(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    slow = Held(limiter, scripts.FINISH, answers=True)
    ended = limiter.finish(W, ask.rid, FinishKind.SETTLE, cost_nano=60)
    await slow.reached.wait()
    assert [(one.hold.rid, one.end.cost) for one in limiter._held(W) if one.end] == [(ask.rid, 60)]
    slow.go.set()
    assert await asyncio.wait_for(ended, 3) == "OK"
    assert [(one.hold.rid, one.end.cost) for one in limiter._held(W) if one.end] == [(ask.rid, 60)]


async def test_a_list_for_an_older_rebuild_is_refused(bench: Bench) -> None:
    limiter = bench.limiter()
    await limiter.admit(W, asking([counter(0, 1, 1000)]))
    control.begin_rebuild(bench.store, W, 2)
    control.begin_rebuild(bench.store, W, 4)
    await limiter._hand_in(W, 2, 7)
    assert control.ask(bench.store, W, 4).said == frozenset()
    await limiter._hand_in(W, 4, 7)
    assert control.ask(bench.store, W, 4).said == {7}


async def test_steps_of_a_rebuild_are_refused_when_redis_was_replaced_meanwhile(bench: Bench) -> None:
    control.begin_rebuild(bench.store, W, 2)
    bench.store.hset(money_keys.meta_key(W), "run", "0" * 40)
    with pytest.raises(control.Refused):
        control.seed(bench.store, W, 2, [control.SeedCounter(budget_suffix(0), 0, 0, 10**15)], [])


async def test_memory_keeps_what_is_not_booked_and_gives_up_the_oldest_first() -> None:
    def parcel(workspace: int, seq: int, epoch: int = 1) -> Parcel:
        request = FinishRequest("", str(workspace), str(uuid7()), "settle", 1, 1, 1, "")
        made = Parcel(workspace, request, asyncio.get_running_loop().create_future())
        made.seq, made.epoch = seq, epoch
        return made

    memory = Memory(most=16)
    for workspace, seq in ((1, 1), (2, 1), (1, 2), (1, 3)):
        memory.keep(parcel(workspace, seq))
    memory.forget(1, lambda p: Booked(2, 9).has(p.epoch, p.seq))  # numbers of another epoch say nothing
    memory.forget(1, lambda p: Booked(1, 9, ((1, 1),)).has(p.epoch, p.seq))  # the first is missing
    assert [p.seq for p in memory.of(1)] == [1, 2, 3]
    memory.forget(1, lambda p: Booked(1, 2).has(p.epoch, p.seq))
    assert [p.seq for p in memory.of(1)] == [3]
    for seq in range(4, 20):
        memory.keep(parcel(1, seq))
    assert (len(memory), [p.seq for p in memory.of(2)], memory.of(1)[0].seq) == (16, [1], 5)


HOLD = asking([counter(0, 100), counter(1, 50, unit="tokens"), counter(2, 1, unit="calls")])


def end(kind: str, cost: int = 0, tokens: int = 0) -> Handed:
    request = FinishRequest(HOLD.prefix, HOLD.workspace, HOLD.rid, kind, cost, tokens, 1, "")
    return Handed(HOLD, request, True)


RUNS, UNSURE = Handed(HOLD, None, True), Handed(HOLD, end("void").end, False)


@pytest.mark.parametrize(
    ("told", "known", "lost"),
    [
        ([RUNS], Known(), [(Kind.HOLD, 0, [100, 50, 1])]),
        ([RUNS], Known(open=True), []),
        ([RUNS], Known(charged="expired"), []),
        ([end("settle", 60, 20)], Known(), [(Kind.SETTLE, 60, [60, 20, 1])]),
        ([end("settle", 60, 20)], Known(open=True), [(Kind.SETTLE, 60, [60, 20, 1])]),
        ([end("settle", 60, 20)], Known(charged="settled"), []),
        ([end("settle", 60, 20)], Known(charged="expired"), [(Kind.ADJUST, -40, [-40, -30, 0])]),
        ([end("settle", 60, 20)], Known(charged="expired", corrected=True), []),
        ([end("void")], Known(), [(Kind.VOID, 0, [0, 0, 0])]),
        ([end("void")], Known(charged="expired"), [(Kind.ADJUST, -100, [-100, -50, -1])]),
        ([end("expire")], Known(), [(Kind.EXPIRE, 100, [100, 50, 1])]),
        (
            [end("expire"), end("settle", 60, 20)],
            Known(),
            [(Kind.EXPIRE, 100, [100, 50, 1]), (Kind.ADJUST, -40, [-40, -30, 0])],
        ),
        ([end("settle", 60, 20), end("settle", 60, 20)], Known(), [(Kind.SETTLE, 60, [60, 20, 1])]),
        ([UNSURE], Known(), []),
        ([UNSURE], Known(open=True), [(Kind.VOID, 0, [0, 0, 0])]),
        ([end("late", 60, 20)], Known(open=True), []),
    ],
)
def test_what_no_book_knows_is_written_again_and_nothing_else(
    told: list[Handed], known: Known, lost: list[tuple[Kind, int, list[int]]]
) -> None:
    events = lost_events(told, {HOLD.rid: known})
    assert [(e.kind, e.cost, [amount for _, _, amount in e.charges]) for e in events] == lost
    assert all(e.held == HOLD.amount and e.ctx == HOLD.ctx for e in events)


def test_nobody_waits_longer_than_twice_a_lease_and_a_bit() -> None:
    assert recovery.LONGEST_WAIT_MS > 2 * recovery.ADOPT_LEASE_MS
