"""The limiter and its scripts on a real server: the edge of the cap, fences, leases, lost answers, rates."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter as Tally
from typing import Any

import pytest

from billing.domain import keys
from config.stack.redis import RedisServer
from guardrails.limiter import control, scripts, store
from guardrails.limiter.limiter import BudgetStoreUnavailable
from guardrails.limiter.wire import (
    ClockSkew,
    Closed,
    CounterAsk,
    Denied,
    Duplicate,
    FinishKind,
    Full,
    Limited,
    Lost,
    Ok,
    OtherPeriod,
    RateAsk,
    ShortRequest,
    StalePolicy,
    Throttled,
    TooManyValues,
    encode,
    packed,
)
from tests.guardrails.conftest import Bench, W, asking, budget_suffix, counter, now_ms
from workspaces.ids import uuid7

SETTLE, VOID, EXPIRE, LATE = FinishKind.SETTLE, FinishKind.VOID, FinishKind.EXPIRE, FinishKind.LATE


# --- The edge of the cap (I1, F32) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", [0, 3, 6])
async def test_a_thousand_calls_at_the_edge_of_seven_budgets_admit_exactly_the_floor(
    bench: Bench, binding: int
) -> None:
    gates = [bench.limiter(), bench.limiter()]
    hold, floor = 997, 25
    limits = [hold * floor * 3] * 7
    limits[binding] = hold * floor + hold - 1
    started = time.monotonic()
    answers = await asyncio.gather(
        *(
            gates[n % 2].admit(W, asking([counter(i, hold, limit) for i, limit in enumerate(limits)]))
            for n in range(1000)
        )
    )
    assert Tally(type(answer) for answer in answers) == {Ok: floor, Denied: 1000 - floor}
    assert {answer.index for answer in answers if isinstance(answer, Denied)} == {binding}
    assert bench.counters() == {budget_suffix(i): (0, hold * floor) for i in range(7)}
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(("limit", "hold", "admitted"), [(0, 1, 0), (1, 1, 1), (1, 2, 0), (0, 0, 1)])
async def test_the_smallest_caps_are_exact(bench: Bench, limit: int, hold: int, admitted: int) -> None:
    answer = await bench.limiter().admit(W, asking([counter(0, hold, limit)]))
    assert isinstance(answer, Ok) == bool(admitted)


async def test_amounts_near_the_largest_cap_are_exact(bench: Bench) -> None:
    limiter, cap = bench.limiter(), 9_000_000_000_000_000
    assert isinstance(await limiter.admit(W, asking([counter(0, cap - 1, cap)])), Ok)
    assert isinstance(await limiter.admit(W, asking([counter(0, 2, cap)])), Denied)
    last = await limiter.admit(W, asking([counter(0, 1, cap)]))
    assert isinstance(last, Ok)
    assert last.used == [cap]
    assert bench.counters() == {budget_suffix(0): (0, cap)}


async def test_a_refusal_names_every_budgets_standing(bench: Bench) -> None:
    limiter = bench.limiter()
    first = asking([counter(0, 60, 100), counter(1, 60, 1000)])
    assert isinstance(await limiter.admit(W, first), Ok)
    await limiter.finish(W, first.rid, SETTLE, cost_nano=10)
    await limiter.admit(W, asking([counter(0, 60, 100), counter(1, 60, 1000)]))
    refused = await limiter.admit(W, asking([counter(0, 60, 100), counter(1, 60, 1000)]))
    assert isinstance(refused, Denied)
    assert (refused.index, refused.settled, refused.held) == (0, [10, 10], [60, 60])


async def test_a_soft_budget_counts_and_never_refuses(bench: Bench) -> None:
    answer = await bench.limiter().admit(W, asking([counter(0, 10**12)]))
    assert isinstance(answer, Ok)
    assert answer.used == [10**12]


# --- Finishing --------------------------------------------------------------------------------------------------------


async def test_a_finish_counts_once_however_often_it_is_sent(bench: Bench) -> None:
    limiter = bench.limiter()
    ask = asking([counter(0, 100, 1000), counter(1, 1, 10, unit="calls"), counter(2, 500, 5000, unit="tokens")])
    await limiter.admit(W, ask)
    outcomes = [await limiter.finish(W, ask.rid, SETTLE, cost_nano=30, tokens=77) for _ in range(3)]
    assert outcomes == ["OK", "ALREADY", "ALREADY"]
    assert bench.counters() == {budget_suffix(0): (30, 0), budget_suffix(1): (1, 0), budget_suffix(2): (77, 0)}
    assert [event["k"] for event in bench.events()] == ["hold", "settle"]


@pytest.mark.parametrize("order", [(VOID, SETTLE), (SETTLE, VOID), (EXPIRE, VOID, SETTLE), (EXPIRE, LATE, SETTLE)])
async def test_any_order_of_ends_leaves_one_charge_and_nothing_held(
    bench: Bench, order: tuple[FinishKind, ...]
) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    for kind in order:
        await limiter.finish(W, ask.rid, kind, cost_nano=40)
    events = [(event["k"], int(event["c"])) for event in bench.events()]
    settled, held = bench.counters()[budget_suffix(0)]
    assert held == 0
    assert settled == sum(cost for _, cost in events)
    assert settled == {VOID: 0, SETTLE: 40, EXPIRE: 0 if order[1] is VOID else 40}[order[0]]


async def test_the_truth_after_an_expiry_is_one_signed_correction(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    await limiter.finish(W, ask.rid, EXPIRE)
    assert bench.counters()[budget_suffix(0)] == (100, 0)
    assert [await limiter.finish(W, ask.rid, SETTLE, cost_nano=35) for _ in range(2)] == ["OK", "ALREADY"]
    assert bench.counters()[budget_suffix(0)] == (35, 0)
    assert [(event["k"], event["c"], event["b"]) for event in bench.events()][-1] == (
        "adjust", "-65", f'[["{budget_suffix(0)}","nano",-65]]',
    )  # fmt: skip


async def test_late_truth_does_not_end_a_call_that_still_runs(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    assert await limiter.finish(W, ask.rid, LATE, cost_nano=35) == "OPEN"
    assert bench.counters()[budget_suffix(0)] == (0, 100)


async def test_a_cost_above_the_hold_is_recorded_in_full(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 120)])
    await limiter.admit(W, ask)
    await limiter.finish(W, ask.rid, SETTLE, cost_nano=500)
    assert bench.counters()[budget_suffix(0)] == (500, 0)
    assert isinstance(await limiter.admit(W, asking([counter(0, 1, 120)])), Denied)


async def test_a_void_that_overtakes_its_admit_makes_it_a_duplicate(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    assert await limiter.finish(W, ask.rid, VOID) == "OK"
    assert isinstance(await limiter.admit(W, ask), Duplicate)
    assert bench.counters() == {}
    assert bench.events() == []


async def test_held_below_the_amount_stops_the_workspace_instead_of_guessing(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    bench.store.hset(keys.workspace_prefix(W) + budget_suffix(0), "h", 99)
    finishing = limiter.finish(W, ask.rid, SETTLE, cost_nano=1)
    await asyncio.sleep(0.1)
    assert (W, "CORRUPT") in bench.lost
    assert control.read_meta(bench.store, W).state == "corrupt"
    assert isinstance(await limiter.admit(W, asking([])), Lost)
    hold = control.SeedHold(ask.rid, 100, [(budget_suffix(0), "nano", 100)], ask.ctx, now_ms(), 30_000)
    bench.seed(epoch=2, counters=[control.SeedCounter(budget_suffix(0), 0, 100, 10**15)], holds=[hold], seq=1)
    assert await asyncio.wait_for(finishing, 3) == "OK"  # it was repeated until it could be taken
    assert bench.counters()[budget_suffix(0)] == (1, 0)


# --- Leases and the sweeper (I8) --------------------------------------------------------------------------------------


async def test_a_hold_nobody_comes_back_for_is_charged_at_the_hold(bench: Bench) -> None:
    limiter, ask = bench.limiter(lease_ms=50), asking([counter(0, 100, 1000)])
    ask.lease_ms = 50
    await limiter.admit(W, ask)
    partition = keys.partition_of(W)
    assert control.sweep(bench.store, partition, grace_ms=0).expired == 0
    await asyncio.sleep(0.08)
    assert control.sweep(bench.store, partition, grace_ms=0).expired == 1
    assert bench.counters()[budget_suffix(0)] == (100, 0)
    assert bench.events()[-1]["k"] == "expire"
    assert control.sweep(bench.store, partition, grace_ms=0).expired == 0


async def test_a_running_call_keeps_its_hold_and_its_slot(bench: Bench) -> None:
    limiter = bench.limiter(lease_ms=150, renew_s=0.05)
    ask = asking([counter(0, 100, 1000)], [RateAsk(keys.rate_suffix(budget_suffix(9)[2:38], "concurrency"), "c", 1)])
    ask.lease_ms = 150
    await limiter.admit(W, ask)
    for _ in range(6):
        await asyncio.sleep(0.06)
        control.sweep(bench.store, keys.partition_of(W), grace_ms=0)
    assert bench.counters()[budget_suffix(0)] == (0, 100)
    assert isinstance(await limiter.admit(W, asking([], ask.rates)), Limited)
    await limiter.finish(W, ask.rid, SETTLE, cost_nano=1)
    assert isinstance(await limiter.admit(W, asking([], ask.rates)), Ok)


async def test_a_sweeper_whose_clock_jumped_expires_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    real = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real + 3_600_000_000_000)
    assert control.sweep(bench.store, keys.partition_of(W)).skewed
    assert bench.counters()[budget_suffix(0)] == (0, 100)


async def test_counters_of_long_ended_periods_leave_and_the_index_stays_true(bench: Bench) -> None:
    old = control.SeedCounter(budget_suffix(1, 1000), 5, 0, 2000)
    busy = control.SeedCounter(budget_suffix(2, 1000), 5, 7, 2000)
    bench.seed(epoch=2, counters=[old, busy])
    partition = keys.partition_of(W)
    for member in bench.store.zrange(keys.due_key(partition), 0, -1):
        bench.store.zadd(keys.due_key(partition), {member: 1})
    assert control.sweep(bench.store, partition).retired == 1
    assert set(bench.counters()) == {budget_suffix(2, 1000)}
    assert isinstance(await bench.limiter().admit(W, asking([counter(0, 1, 10)])), Ok)


# --- Fences (F16, F17, F22, F33) --------------------------------------------------------------------------------------


async def test_nothing_is_admitted_between_a_flush_and_the_rebuild(bench: Bench) -> None:
    limiter = bench.limiter()
    await limiter.admit(W, asking([]))
    bench.store.flushdb()
    for _ in range(3):
        assert isinstance(await limiter.admit(W, asking([counter(0, 1, 1000)])), Lost)
    bench.seed(epoch=2, counters=[control.SeedCounter(budget_suffix(0), 0, 990, 10**15)], seq=1)
    assert isinstance(await limiter.admit(W, asking([counter(0, 11, 1000)])), Denied)
    assert isinstance(await limiter.admit(W, asking([counter(0, 10, 1000)])), Ok)


@pytest.mark.parametrize("loss", ["counter", "half a counter", "index entry", "index", "count"])
async def test_a_lost_piece_is_never_taken_for_zero(bench: Bench, loss: str) -> None:
    limiter, base = bench.limiter(), keys.workspace_prefix(W)
    await limiter.admit(W, asking([counter(0, 100, 1000), counter(1, 100, 1000)]))
    match loss:
        case "counter":
            bench.store.delete(base + budget_suffix(0))
        case "half a counter":
            bench.store.hdel(base + budget_suffix(0), "h")
        case "index entry":
            bench.store.hdel(keys.index_key(W), budget_suffix(0))
            bench.store.delete(base + budget_suffix(0))
        case "index":
            bench.store.delete(keys.index_key(W))
        case "count":
            bench.store.hdel(keys.meta_key(W), "n")
    assert isinstance(await limiter.admit(W, asking([counter(0, 1, 1000)])), Lost)


async def test_a_redis_that_forgot_acknowledged_writes_is_refused(bench: Bench) -> None:
    limiter = bench.limiter()
    for _ in range(3):
        await limiter.admit(W, asking([counter(0, 1, 1000)]))
    bench.store.hset(keys.meta_key(W), "seq", 2)
    assert await limiter.admit(W, asking([counter(0, 1, 1000)])) == Lost("rolled back")


async def test_a_fresh_gateway_is_fenced_by_what_postgres_has_seen(bench: Bench) -> None:
    limiter = bench.limiter()
    limiter.fence(W, 1, 500)
    assert await limiter.admit(W, asking([])) == Lost("rolled back")
    another = bench.limiter()
    another.fence(W, 2, 0)  # a backup from before the last rebuild
    assert await another.admit(W, asking([])) == Lost("rolled back")


async def test_an_old_policy_is_refused_and_a_newer_one_heals_a_lost_push(bench: Bench) -> None:
    limiter = bench.limiter()
    control.push_policy(bench.store, W, 7, "active")
    assert await limiter.admit(W, asking([], ver=6)) == StalePolicy(7)
    assert isinstance(await limiter.admit(W, asking([], ver=9)), Ok)
    assert await limiter.admit(W, asking([], ver=8)) == StalePolicy(9)


async def test_an_older_push_that_arrives_late_changes_nothing(bench: Bench) -> None:
    control.push_policy(bench.store, W, 8, "active")
    control.push_policy(bench.store, W, 7, "suspended")
    assert isinstance(await bench.limiter().admit(W, asking([], ver=8)), Ok)


@pytest.mark.parametrize("state", ["suspended", "deleting"])
async def test_a_closed_workspace_admits_nothing_and_finishes_what_runs(bench: Bench, state: str) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    control.push_policy(bench.store, W, 2, state)
    assert await limiter.admit(W, asking([], ver=2)) == Closed(state)
    assert await limiter.finish(W, ask.rid, SETTLE, cost_nano=5) == "OK"


async def test_one_jumping_clock_admits_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = bench.limiter()
    real = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real + 40 * 86_400 * 10**9)
    limiter.fence(W, 1, 0)
    assert isinstance(await limiter.admit(W, asking([])), ClockSkew)


async def test_the_period_is_decided_by_the_clock_of_redis(bench: Bench) -> None:
    limiter, now = bench.limiter(), now_ms()
    tomorrow = counter(0, 1, 10, suffix=budget_suffix(0, now + 10_000), start_ms=now + 10_000, end_ms=now + 20_000)
    answer = await limiter.admit(W, asking([tomorrow]))
    assert isinstance(answer, OtherPeriod)
    assert abs(answer.at_ms - now) < 5_000
    assert bench.counters() == {}


# --- Each value and cardinality (F37) ---------------------------------------------------------------------------------


async def test_a_new_value_is_capped_from_its_very_first_call_and_values_are_bounded(bench: Bench) -> None:
    limiter = bench.limiter()

    def each(value: str, most: int = 3) -> Any:
        return counter(0, 60, 100, suffix=budget_suffix(0, 0, value), label=value, most_values=most)

    for value in ("ann", "ben", "cem"):
        assert isinstance(await limiter.admit(W, asking([each(value)])), Ok)
        assert isinstance(await limiter.admit(W, asking([each(value)])), Denied)
    assert isinstance(await limiter.admit(W, asking([each("dan")])), TooManyValues)
    assert isinstance(await limiter.admit(W, asking([each("__other__", most=0)])), Ok)
    assert {c.label for c in control.read_counters(bench.store, W).values()} == {"ann", "ben", "cem", "__other__"}


# --- Rates and throttle -----------------------------------------------------------------------------------------------


def rate(metric: str, limit: int, *, burst: int = 0, cost: int = 1, window_us: int = 3_600_000_000_000) -> RateAsk:
    suffix = keys.rate_suffix(budget_suffix(9)[2:38], metric)
    return RateAsk(
        suffix, "c" if metric == "concurrency" else "g", limit, window_us, burst or limit, cost, int(metric == "tpm")
    )


async def test_the_slot_of_a_call_that_never_ended_is_free_when_its_lease_is_over_and_leaves_no_trace(
    bench: Bench,
) -> None:
    limiter, at_once = bench.limiter(), rate("concurrency", 1)
    slots = keys.workspace_prefix(W) + at_once.suffix
    dead, alive = asking([], [at_once]), asking([], [at_once])
    await limiter.admit(W, dead)
    limiter.entrust(dead.rid)
    assert isinstance(await limiter.admit(W, asking([], [at_once])), Limited)
    bench.store.zadd(slots, {dead.rid: now_ms() - 1})
    assert isinstance(await limiter.admit(W, alive), Ok)
    assert bench.store.zrange(slots, 0, -1) == [alive.rid.encode()]
    assert 0 < bench.store.pttl(slots) <= 60_000


async def test_a_burst_passes_its_burst_and_the_rest_waits_honestly(bench: Bench) -> None:
    limiter = bench.limiter()
    limit = rate("rpm", 600, burst=10, window_us=60_000_000)
    answers = await asyncio.gather(*(limiter.admit(W, asking([], [limit])) for _ in range(12)))
    refused = [answer for answer in answers if isinstance(answer, Limited)]
    assert 1 <= len(refused) <= 2  # one comes back every 100 ms
    assert 0 < refused[0].retry_ms <= 100
    await asyncio.sleep(refused[-1].retry_ms / 1000 + 0.005)
    assert isinstance(await limiter.admit(W, asking([], [limit])), Ok)


async def test_a_refused_call_uses_up_no_rate_and_no_budget(bench: Bench) -> None:
    limiter = bench.limiter()
    for _ in range(5):
        assert isinstance(await limiter.admit(W, asking([counter(0, 11, 10)], [rate("rpm", 1)])), Denied)
    assert isinstance(await limiter.admit(W, asking([counter(0, 10, 10)], [rate("rpm", 1)])), Ok)
    assert isinstance(await limiter.admit(W, asking([], [rate("rpm", 1)])), Limited)


async def test_tokens_a_minute_are_corrected_to_what_was_used(bench: Bench) -> None:
    limiter = bench.limiter()
    ask = asking([], [rate("tpm", 1000, cost=900)])
    await limiter.admit(W, ask)
    assert isinstance(await limiter.admit(W, asking([], [rate("tpm", 1000, cost=900)])), Limited)
    await limiter.finish(W, ask.rid, SETTLE, tokens=100)
    answer = await limiter.admit(W, asking([], [rate("tpm", 1000, cost=900)]))
    assert isinstance(answer, Ok)
    assert answer.rates[0][0] == 0


async def test_more_tokens_than_a_limit_ever_allows_say_so(bench: Bench) -> None:
    assert await bench.limiter().admit(W, asking([], [rate("tpm", 1000, cost=1001)])) == Limited(0, -1)


async def test_past_its_threshold_a_budget_spaces_its_calls_at_a_set_rate(bench: Bench) -> None:
    limiter = bench.limiter()

    def slow() -> Any:
        return counter(0, 10, 1000, throttle_at=10, throttle_per_minute=600, cap=1000)

    assert isinstance(await limiter.admit(W, asking([slow()])), Ok)
    assert isinstance(await limiter.admit(W, asking([slow()])), Ok)
    spaced = await limiter.admit(W, asking([slow()]))
    assert isinstance(spaced, Throttled)
    assert 0 < spaced.retry_ms <= 100
    await asyncio.sleep(spaced.retry_ms / 1000 + 0.005)
    assert isinstance(await limiter.admit(W, asking([slow()])), Ok)


async def test_the_default_pace_spreads_what_is_left_over_what_remains(bench: Bench) -> None:
    limiter, now = bench.limiter(), now_ms()

    def paced() -> Any:
        return counter(
            0,
            100,
            1000,
            suffix=budget_suffix(0, now - 1000),
            start_ms=now - 1000,
            end_ms=now + 9_000,
            throttle_at=100,
            cap=1000,
        )

    first = asking([paced()])
    await limiter.admit(W, first)
    second = asking([paced()])
    assert isinstance(await limiter.admit(W, second), Ok)
    waiting = await limiter.admit(W, asking([paced()]))
    assert isinstance(waiting, Throttled)
    assert 800 < waiting.retry_ms <= 1000  # 9 s for 900 nano: 100 nano is a second
    await limiter.finish(W, second.rid, SETTLE, cost_nano=5)  # it cost 5, not 100: the pace is corrected to the truth
    await asyncio.sleep(0.06)
    assert isinstance(await limiter.admit(W, asking([paced()])), Ok)


# --- Lost answers, slow and full servers (F14, F15, F19, F21) ---------------------------------------------------------


async def test_a_stopped_redis_costs_less_than_a_second_and_what_it_took_is_undone(
    bench: Bench, redis_server: RedisServer
) -> None:
    url = redis_server.url()
    bench.store = store.connect_sync(url)
    bench.seed()
    limiter = bench.limiter(url)
    await limiter.admit(W, asking([]))
    pid = bench.store.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        results = await asyncio.gather(
            *(limiter.admit(W, asking([counter(0, 10, 1000)])) for _ in range(500)), return_exceptions=True
        )
        assert all(isinstance(result, BudgetStoreUnavailable) for result in results)
        assert time.monotonic() - started < 3  # three quarters of a second on an idle machine
        assert limiter.unanswered > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await limiter.drain(5)
    assert bench.counters().get(budget_suffix(0), (0, 0)) == (0, 0)
    assert isinstance(await limiter.admit(W, asking([counter(0, 10, 1000)])), Ok)


async def test_a_caller_that_goes_away_while_it_is_admitted_leaves_no_hold(bench: Bench) -> None:
    limiter = bench.limiter()
    await limiter.admit(W, asking([]))
    tasks = [asyncio.ensure_future(limiter.admit(W, asking([counter(0, 10, 10_000)]))) for _ in range(300)]
    for turns in range(300):
        tasks[turns].cancel()
        if turns % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    admitted = sum(not task.cancelled() and isinstance(task.result(), Ok) for task in tasks)
    assert await limiter.drain(5)
    assert bench.counters().get(budget_suffix(0), (0, 0))[1] == admitted * 10


async def test_killed_and_restarted_redis_forgets_no_hold_and_finishes_wait_for_it(
    bench: Bench, redis_server: RedisServer
) -> None:
    url = redis_server.url()
    bench.store = store.connect_sync(url)
    bench.seed()
    limiter = bench.limiter(url)
    asks = [asking([counter(0, 10, 1000)]) for _ in range(20)]
    assert all(isinstance(answer, Ok) for answer in await asyncio.gather(*(limiter.admit(W, ask) for ask in asks)))
    redis_server.kill()
    finishing = [limiter.finish(W, ask.rid, SETTLE, cost_nano=7) for ask in asks]
    with pytest.raises(BudgetStoreUnavailable):
        await limiter.admit(W, asking([]))
    redis_server.start()
    while (W, "STATE") not in bench.lost:
        await asyncio.sleep(0.02)
    assert await limiter.admit(W, asking([])) == Lost("restarted")  # it could be an older copy
    assert bench.counters()[budget_suffix(0)] == (0, 200)
    control.begin_rebuild(bench.store, W, 2)
    control.commit_rebuild(bench.store, W, epoch=2, seq=20, ver=1, state="active", counters=1)  # it was not
    assert set(await asyncio.wait_for(asyncio.gather(*finishing), 10)) <= {"OK", "ALREADY"}
    assert bench.counters()[budget_suffix(0)] == (140, 0)
    assert isinstance(await limiter.admit(W, asking([counter(0, 10, 1000)])), Ok)


async def test_at_85_percent_of_memory_new_calls_wait_and_finishes_pass(
    bench: Bench, redis_server: RedisServer
) -> None:
    url = redis_server.url()
    bench.store = store.connect_sync(url)
    bench.seed()
    limiter, ask = bench.limiter(url), asking([counter(0, 10, 1000)])
    await limiter.admit(W, ask)
    used = bench.store.info("memory")["used_memory"]
    bench.store.config_set("maxmemory", int(used / 0.9))
    await asyncio.sleep(0.05)  # how full it is is asked every 20 ms
    assert isinstance(await limiter.admit(W, asking([counter(0, 10, 1000)])), Full)
    bench.store.config_set("maxmemory", 1)  # even with nothing left, what runs is settled
    assert await asyncio.wait_for(limiter.finish(W, ask.rid, SETTLE, cost_nano=5), 2) == "OK"


async def test_budgets_that_were_packed_before_are_held_on_like_those_in_full(bench: Bench) -> None:
    """Many in one script call, each with its own amounts: what is unpacked once must not carry one call's amounts to another."""
    bench.seed(W + 1)
    kinds = [
        [counter(0, 0, 10_000), counter(1, 0, unit="tokens"), counter(2, 0, 3, unit="calls")],
        [counter(0, 0, 10_000), counter(3, 0, unit="nano")],
    ]
    calls = [(kinds[n % 2], 997 * (n + 1), 13 * n) for n in range(8)]

    def short(kind: list[CounterAsk], nano: int, tokens: int, workspace: int) -> ShortRequest:
        full = asking([], workspace=workspace)
        head = full.prefix, full.workspace, full.rid, 0, 1, 0, nano, 30_000, full.ctx
        return ShortRequest(*head, packed(kind), [], tokens)

    limiter = bench.limiter()
    shorts = [short(*call, W) for call in calls]
    wholes = [short(*call, W + 1).whole() for call in calls]
    answers = await asyncio.gather(*(limiter.admit(W, ask) for ask in shorts))
    in_full = await asyncio.gather(*(limiter.admit(W + 1, ask) for ask in wholes))
    said = [(type(answer), getattr(answer, "used", None), getattr(answer, "index", None)) for answer in answers]
    assert said == [(type(one), getattr(one, "used", None), getattr(one, "index", None)) for one in in_full]
    assert {Ok, Denied} == {type(answer) for answer in answers}
    assert bench.counters(W) == bench.counters(W + 1)
    charges = {(event["w"], event["h"]): event["b"] for event in bench.events() + bench.events(W + 1)}
    held = [nano for (_, nano, _), answer in zip(calls, answers, strict=True) if isinstance(answer, Ok)]
    assert [charges[str(W), str(nano)] for nano in held] == [charges[str(W + 1), str(nano)] for nano in held]


def test_a_script_that_fails_in_the_middle_has_written_what_it_decided_before(bench: Bench) -> None:
    """Calls of one script call share their reads and writes: one that cannot be decided must not take the others' writes with it."""
    spoiled = RateAsk(keys.rate_suffix("000000ff-0000-7000-8000-000000000000", "rpm"), "g", 10, 60_000_000, 10)
    bench.store.rpush(keys.workspace_prefix(W) + spoiled.suffix, "not a rate")
    asks = [asking([counter(0, 10, 1000)]), asking([counter(0, 10, 1000)], [spoiled])]
    for ask in asks:
        ask.epoch = 1
    payloads = [encode(ask) for ask in asks]
    with pytest.raises(store.StoreError):
        store.call_sync(bench.store, scripts.ADMIT, keys.stream_key(keys.partition_of(W)), [now_ms(), 85, *payloads])
    assert bench.counters() == {budget_suffix(0): (0, 10)}
    assert [event["q"] for event in bench.events()] == ["1"]
    meta = control.read_meta(bench.store, W)
    assert meta is not None
    assert meta.seq == 1
    assert list(control.open_holds(bench.store, W)) == [asks[0].rid]


@pytest.mark.parametrize("held", [0, 100])
@pytest.mark.parametrize("start", [2**53 - 100, 2**53 - 2, 2**53 + 1])
async def test_a_sum_beyond_what_a_double_holds_stays_exact(bench: Bench, start: int, held: int) -> None:
    """A soft budget over all time may pass nine million dollars, also with one of several calls that end together."""
    limiter, asks = bench.limiter(), [asking([counter(0, held, -1)]) for _ in range(3)]
    for ask in asks:
        await limiter.admit(W, ask)
    bench.store.hincrby(keys.workspace_prefix(W) + budget_suffix(0), "s", start)
    await asyncio.gather(*[limiter.finish(W, ask.rid, SETTLE, cost_nano=3) for ask in asks])
    assert bench.counters()[budget_suffix(0)] == (start + 9, 0)


async def test_a_hold_that_redis_forgot_is_presented_again_by_the_gateway_that_carries_it(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    bench.store.flushdb()
    bench.seed(epoch=2)  # from books that never heard of the attempt
    await limiter.admit(W, asking([]))  # learns of the new epoch
    assert await limiter.drain(3)
    assert bench.counters()[budget_suffix(0)] == (0, 100)
    assert await limiter.finish(W, ask.rid, SETTLE, cost_nano=60) == "OK"
    assert bench.counters()[budget_suffix(0)] == (60, 0)


async def test_a_finish_that_redis_forgot_but_the_ledger_knows_is_not_charged_again(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    bench.store.flushdb()
    bench.seed(epoch=2, counters=[control.SeedCounter(budget_suffix(0), 60, 0, 10**15)])
    bench.known.add(ask.rid)
    assert await limiter.finish(W, ask.rid, SETTLE, cost_nano=60) == "known"
    assert bench.counters()[budget_suffix(0)] == (60, 0)


async def test_a_finish_answered_in_redis_last_seconds_is_repeated_after_it_lost_them(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    assert await limiter.finish(W, ask.rid, SETTLE, cost_nano=60) == "OK"
    hold = control.SeedHold(ask.rid, 100, [(budget_suffix(0), "nano", 100)], ask.ctx, now_ms(), 30_000)
    bench.store.flushdb()
    bench.seed(epoch=2, counters=[control.SeedCounter(budget_suffix(0), 0, 100, 10**15)], holds=[hold], seq=1)
    await limiter.admit(W, asking([]))
    assert await limiter.drain(3)
    assert bench.counters()[budget_suffix(0)] == (60, 0)


async def test_a_whole_call_in_redis_last_seconds_is_booked_again_after_it_lost_them(bench: Bench) -> None:
    limiter, ask = bench.limiter(), asking([counter(0, 100, 1000)])
    await limiter.admit(W, ask)
    assert await limiter.finish(W, ask.rid, SETTLE, cost_nano=60) == "OK"
    bench.store.flushdb()
    bench.seed(epoch=2)  # from books that read neither its hold nor its end
    await limiter.admit(W, asking([]))
    assert await limiter.drain(3)
    assert bench.counters()[budget_suffix(0)] == (60, 0)
    assert [event["k"] for event in bench.events() if event["r"] == ask.rid] == ["hold", "settle"]


async def test_a_script_unknown_to_the_server_is_sent_once_in_full(bench: Bench) -> None:
    limiter = bench.limiter()
    await limiter.admit(W, asking([]))
    bench.store.script_flush()
    assert isinstance(await limiter.admit(W, asking([])), Ok)
    assert bench.store.script_exists(scripts.ADMIT.sha) == [True]


async def test_a_hostile_value_cannot_stand_in_a_key(bench: Bench) -> None:
    for text in ("x}:{p00", "a:b", "new\nline", "x" * 65_536, "0" * 36):
        with pytest.raises(ValueError, match="UUID"):
            keys.counter_suffix(text, 0)
    assert len(keys.counter_suffix(budget_suffix(1)[2:38], 0, keys.value_digest("x}:{p00\n" * 1000))) < 120


@pytest.mark.parametrize("ahead_s", [-3600, 3600, 40 * 86400])
async def test_an_attempt_named_by_a_wrong_clock_is_refused_although_the_clock_is_right_again(
    bench: Bench, ahead_s: int
) -> None:
    ask = asking([counter(0, 10, 1000)])
    ask.rid = str(uuid7(now_ms() + 1000 * ahead_s))
    assert isinstance(await bench.limiter().admit(W, ask), ClockSkew)  # the books could not file it
    assert bench.counters() == {}


async def test_every_key_of_a_workspace_is_in_one_slot(bench: Bench) -> None:
    limiter = bench.limiter()
    await limiter.admit(
        W, asking([counter(0, 1, 10, label="v", most_values=5, suffix=budget_suffix(0, 0, "v"))], [rate("rpm", 5)])
    )
    tag = keys.partition_prefix(keys.partition_of(W)).encode()
    of_the_store = keys.partition_prefix(0).encode() + b"vitals"
    assert all(key.startswith(tag) for key in bench.store.scan_iter() if key != of_the_store)


@pytest.mark.long
async def test_what_a_lone_admission_and_a_busy_core_cost(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    limiter = bench.limiter()
    rates = [rate("rpm", 10**8), rate("rph", 10**8), rate("concurrency", 10**6)]

    async def one() -> float:
        ask = asking([counter(i, 1000, 10**15) for i in range(7)], rates)
        started = time.perf_counter()
        assert isinstance(await limiter.admit(W, ask), Ok)
        took = time.perf_counter() - started
        await limiter.finish(W, ask.rid, SETTLE, cost_nano=600, payload=b'{"basis":"measured","price_status":"exact"}')
        return took

    lone = sorted([await one() for _ in range(200)])
    started, processor = time.perf_counter(), time.process_time()

    async def worker() -> None:
        for _ in range(30):
            await one()

    await asyncio.gather(*(worker() for _ in range(64)))
    elapsed, calls = time.perf_counter() - started, 64 * 30
    with capsys.disabled():
        print(
            f"\n  admission with 7 budgets and 3 rates: median {lone[100] * 1e3:.2f} ms alone; "
            f"{calls / elapsed:,.0f} admit+settle a second, {(time.process_time() - processor) / calls * 1e6:.0f} us of client CPU each"
        )
    assert lone[100] < 0.005


async def test_encoded_requests_are_small(bench: Bench) -> None:
    assert len(encode(asking([counter(i, 1000, 10**15) for i in range(7)]))) < 900
