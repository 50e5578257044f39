"""How long the money Redis is waited for: its short silences and our own stalls cost no call, its long ones cost calls little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from guardrails.limiter import pace, store
from guardrails.limiter.lanes import PATIENCE, Lane, StoreFailed
from guardrails.limiter.limiter import Limiter
from guardrails.limiter.patience import within
from guardrails.limiter.wire import Ok
from tests.guardrails.conftest import Bench, W, asking, counter

ANSWER_S = 0.1


class Store:
    """Takes batches, and answers them when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[bytes], Callable[..., None]]] = []
        self.doubts = 0

    def start(self, payloads: list[bytes], answered: Callable[..., None]) -> None:
        self.asked.append((payloads, answered))

    def doubted(self) -> None:
        self.doubts += 1

    def lane(self, **options: Any) -> Lane:
        return Lane(self.start, answer_s=ANSWER_S, overdue=self.doubted, **options)

    def answer(self, batch: int) -> None:
        payloads, answered = self.asked[batch]
        answered([[payload] for payload in payloads], None)

    async def sees(self, batches: int) -> None:
        while len(self.asked) < batches:
            await asyncio.sleep(0.001)


def asks(lane: Lane, payload: bytes) -> asyncio.Future[Any]:
    return asyncio.ensure_future(lane.ask(payload, lambda: None))


async def test_a_store_that_is_silent_for_a_moment_costs_nobody_a_call() -> None:
    silent = Store()
    lane = silent.lane(in_flight=1)
    first = asks(lane, b"first")
    await silent.sees(1)
    second = asks(lane, b"second")  # waits behind the first
    while not silent.doubts:
        await asyncio.sleep(0.001)
    await silent.sees(2)  # on another connection: the first one's may be dead
    silent.answer(0)
    silent.answer(1)
    assert await asyncio.gather(first, second) == [[b"first"], [b"second"]]
    assert silent.doubts == 1


async def test_a_dead_connection_costs_only_what_was_asked_on_it() -> None:
    half = Store()
    lane = half.lane(in_flight=1)
    lost, saved = asks(lane, b"lost"), asks(lane, b"saved")
    await half.sees(2)
    half.answer(1)
    waits = [asks(lane, b"next")]
    await half.sees(3)
    waits.append(asks(lane, b"queued"))
    with pytest.raises(StoreFailed):
        await lost
    half.answer(2)
    await half.sees(4)
    half.answer(3)
    assert await asyncio.gather(saved, *waits) == [[b"saved"], [b"next"], [b"queued"]]


async def test_a_store_that_stays_silent_is_waited_for_less_until_it_has_answered_again() -> None:
    silent = Store()
    lane = silent.lane()
    for patience in (PATIENCE, 1, 1):
        began = time.monotonic()
        with pytest.raises(StoreFailed) as failed:
            await asks(lane, b"x")
        assert failed.value.sent
        assert failed.value.reason == "unreachable"
        assert time.monotonic() - began >= ANSWER_S * patience
        assert str(failed.value).endswith(f"within {ANSWER_S * patience:g} s")
    back = asks(lane, b"back")
    await silent.sees(4)
    silent.answer(3)
    assert await back == [b"back"]
    with pytest.raises(StoreFailed, match=f"within {ANSWER_S * PATIENCE:g} s"):
        await asks(lane, b"y")


async def test_what_had_no_turn_says_so() -> None:
    lane = Store().lane(in_flight=1, waiting=1)
    tasks = [asks(lane, b"%d" % n) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreFailed) as failed:
        await tasks[2]
    assert not failed.value.sent
    assert failed.value.reason == "overloaded"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_process_that_stood_still_reads_the_answers_that_came_meanwhile(bench: Bench) -> None:
    limiter = bench.limiter(reserve_s=0.1)
    await limiter.admit(W, asking([]))
    client = store.connect(bench.url)
    await client.ping()
    waiting = [
        asyncio.ensure_future(one)
        for one in (
            limiter.admit(W, asking([counter(0, 10, 100)])),
            limiter.ready(),
            pace.ask(client, W, 1, [], fresh=True),
            within(0.05, client.time()),
        )
    ]
    await asyncio.sleep(0)
    time.sleep(0.8)  # longer than any of them waits, and long enough for the answers to lie in the sockets
    admitted, ready, paced, clock = await asyncio.gather(*waiting)
    assert isinstance(admitted, Ok)
    assert ready == ""
    assert isinstance(paced, Ok)
    assert abs(clock[0] - time.time()) < 5
    await client.aclose()


async def test_who_is_asked_too_long_is_not_waited_for() -> None:
    asked = asyncio.Event()
    with pytest.raises(TimeoutError):
        await within(0.02, asked.wait())


async def test_a_gateway_that_rebuilds_do_not_know_is_not_ready(bench: Bench) -> None:
    class Unregistered:
        registered = False

    async def nobody(workspace: int, rids: list[str]) -> set[str]:
        return set()

    limiter = Limiter(
        store.connect(bench.url),
        lost=lambda workspace, why: None,
        known_to_ledger=nobody,
        presence=Unregistered(),  # type: ignore[arg-type]
    )
    assert (await limiter.ready()).startswith("starting")
    await limiter.close(0)
