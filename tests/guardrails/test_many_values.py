"""A flood of new values (F37): each-value budgets and rate limits keep a bounded number of them apart, and the rest share one `__other__`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from billing.domain import keys
from billing.domain.dimensions import OTHER
from guardrails.domain.budgets import Scope
from guardrails.domain.rates import Metric, RateLimit, RateMatch
from guardrails.limiter import control, scripts
from guardrails.limiter.control import SeedCounter
from guardrails.limiter.wire import AdmitRequest, FinishKind, Limited, Ok, RateAsk, TooManyValues
from guardrails.met import MOST_VALUES, rate_ask
from tests.guardrails.conftest import Bench, W, asking, budget_suffix, counter

LIMIT = "000000ff-0000-7000-8000-000000000000"


def per_customer(value: str, *, limit: int = 2, most: int = MOST_VALUES, metric: Metric = Metric.RPH) -> RateAsk:
    ask = rate_ask(RateMatch(RateLimit(LIMIT, "", Scope("customer", None), metric, limit), value))
    ask.most_values, ask.window_us = most, 10**15  # no test lives to see the next window
    return ask


def customer(value: str, *, most: int = MOST_VALUES) -> Any:
    return counter(0, 60, 100, suffix=budget_suffix(0, 0, value), label=value, most_values=most)


async def test_new_values_of_a_rate_limit_beyond_the_bound_share_one_limit(bench: Bench) -> None:
    limiter = bench.limiter()

    async def call(value: str) -> object:
        return await limiter.admit(W, asking([], [per_customer(value, most=3)]))

    for value in ("ann", "ben", "cem"):
        assert isinstance(await call(value), Ok)
    assert isinstance(await call("dan"), Ok)
    assert isinstance(await call("eve"), Ok)
    assert isinstance(await call("fay"), Limited)  # dan and eve have used up what the newcomers share
    assert isinstance(await call("ann"), Ok)  # who was there before has a limit of their own
    assert isinstance(await call("ann"), Limited)
    assert len(list(bench.store.scan_iter("*:42:rl:*"))) == 4


async def test_a_refused_newcomer_is_not_counted(bench: Bench) -> None:
    limiter = bench.limiter()
    for value in ("ann", "ben", "cem"):
        await limiter.admit(W, asking([counter(0, 11, 10)], [per_customer(value, most=1)]))
    assert isinstance(await limiter.admit(W, asking([], [per_customer("dan", most=1)])), Ok)
    assert list(bench.store.scan_iter("*:42:rl:*")) == [
        keys.workspace_prefix(W).encode() + per_customer("dan").suffix.encode()
    ]


async def test_tokens_of_newcomers_are_corrected_on_what_they_share(bench: Bench) -> None:
    limiter = bench.limiter()

    def tokens(value: str) -> AdmitRequest:
        ask = per_customer(value, limit=1000, most=1, metric=Metric.TPM)
        ask.cost = 900
        return asking([], [ask])

    await limiter.admit(W, tokens("ann"))
    shared = tokens("ben")
    assert isinstance(await limiter.admit(W, shared), Ok)
    assert isinstance(await limiter.admit(W, tokens("cem")), Limited)
    await limiter.finish(W, shared.rid, FinishKind.SETTLE, tokens=10)
    assert isinstance(await limiter.admit(W, tokens("cem")), Ok)


def test_the_scripts_know_the_digest_of_what_is_shared() -> None:
    assert f"'{keys.value_digest(OTHER)}'" in scripts.ADMIT.text
    assert f"'{keys.value_digest(OTHER)}'" in scripts.PACE.text


async def test_a_rebuild_does_not_make_room_for_more_values(bench: Bench) -> None:
    limiter = bench.limiter()
    for value in ("ann", "ben"):
        assert isinstance(await limiter.admit(W, asking([customer(value, most=3)])), Ok)
    bench.store.flushdb()
    seeds = [
        SeedCounter(budget_suffix(0, 0, value), 60, 0, 8 * 10**12, value) for value in ("ann", "ben", "cem", OTHER)
    ]
    assert control.families_of(seeds) == [(budget_suffix(0, 0)[2:], 3, 8 * 10**12)]
    for epoch in (2, 3):  # the second one after a loss of nothing
        control.begin_rebuild(bench.store, W, epoch)
        control.wipe(bench.store, W, epoch)
        control.seed(bench.store, W, epoch, seeds, [])
        control.commit_rebuild(
            bench.store, W, epoch=epoch, seq=9, ver=1, state="active", counters=4, families=control.families_of(seeds)
        )
    assert isinstance(await limiter.admit(W, asking([customer("dan", most=3)])), TooManyValues)
    assert isinstance(await limiter.admit(W, asking([customer("dan", most=4)])), Ok)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_hundred_thousand_new_customers_take_a_bounded_memory(bench: Bench) -> None:
    """Budget and rate limit for each customer: 10,000 counters and states of their own, one shared, whatever else comes."""
    limiter = bench.limiter(reserve_s=5.0)

    async def call(number: int) -> object:
        ask = asking([customer(f"c{number}")], [per_customer(f"c{number}", limit=10**9)])
        answer = await limiter.admit(W, ask)
        if isinstance(answer, TooManyValues):
            ask.budgets = [counter(0, 0, 100, suffix=budget_suffix(0, 0, OTHER), label=OTHER)]
            answer = await limiter.admit(W, ask)
        if isinstance(answer, Ok):
            await limiter.finish(W, ask.rid, FinishKind.SETTLE, cost_nano=0)
        return answer

    async def calls(first: int, last: int) -> None:
        for start in range(first, last, 500):
            answers = await asyncio.gather(*(call(n) for n in range(start, start + 500)))
            assert all(isinstance(answer, Ok) for answer in answers)

    await calls(0, MOST_VALUES)
    assert len(bench.counters()) == MOST_VALUES
    states = len(list(bench.store.scan_iter("*:42:rl:*", count=5000)))
    assert states <= MOST_VALUES
    await calls(MOST_VALUES, 100_000)
    assert len(bench.counters()) == MOST_VALUES + 1
    assert len(list(bench.store.scan_iter("*:42:rl:*", count=5000))) <= MOST_VALUES * 3 + 1
