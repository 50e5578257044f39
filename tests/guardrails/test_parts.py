"""A hold whose cost comes in parts, on a real server: the cap holds meanwhile, each part is charged once, what is left goes back."""

from __future__ import annotations

from guardrails.limiter.parts import Part, settle_parts
from guardrails.limiter.wire import AdmitRequest, FinishKind, Ok
from tests.guardrails.conftest import CONTEXT, Bench, W, asking, budget_suffix, counter
from workspaces.ids import uuid7


def part(cost: int, *, calls: int = 0) -> Part:
    return Part(str(uuid7()), cost, 7, calls, CONTEXT, "")


async def held(bench: Bench, amount: int) -> AdmitRequest:
    request = asking([counter(0, amount, 1_000), counter(1, 1, 10, unit="calls")])
    request.lease_ms = 3_600_000
    limiter = bench.limiter()
    assert isinstance(await limiter.admit(W, request), Ok)
    limiter.entrust(request.rid)
    assert limiter.open_holds == 0
    return request


async def test_parts_take_their_room_out_of_what_is_held(bench: Bench) -> None:
    request = await held(bench, 900)
    parts = [part(100, calls=1), part(200)]
    assert settle_parts(bench.store, W, request.rid, parts)
    assert bench.counters() == {budget_suffix(0): (300, 600), budget_suffix(1): (1, 0)}
    assert settle_parts(bench.store, W, request.rid, parts)  # read again
    assert bench.counters() == {budget_suffix(0): (300, 600), budget_suffix(1): (1, 0)}
    assert await bench.limiter().finish(W, request.rid, FinishKind.VOID) == "OK"
    assert bench.counters() == {budget_suffix(0): (300, 0), budget_suffix(1): (1, 0)}
    told = [(event["k"], int(event["c"])) for event in bench.events()]
    assert told == [("hold", 0), ("settle", 100), ("settle", 200), ("void", 0)]


async def test_parts_that_come_to_more_than_was_held_are_charged_in_full(bench: Bench) -> None:
    request = await held(bench, 100)
    assert settle_parts(bench.store, W, request.rid, [part(80), part(80)])
    assert bench.counters()[budget_suffix(0)] == (160, 0)
    assert await bench.limiter().finish(W, request.rid, FinishKind.VOID) == "OK"
    assert bench.counters()[budget_suffix(0)] == (160, 0)


async def test_a_hold_that_ran_out_is_charged_whole_and_corrected_by_its_parts(bench: Bench) -> None:
    request = await held(bench, 900)
    limiter = bench.limiter()
    assert await limiter.finish(W, request.rid, FinishKind.EXPIRE) == "OK"
    assert bench.counters()[budget_suffix(0)] == (900, 0)
    assert settle_parts(bench.store, W, request.rid, [part(100), part(200)])
    assert await limiter.finish(W, request.rid, FinishKind.VOID) == "OK"
    assert bench.counters()[budget_suffix(0)] == (300, 0)


async def test_parts_of_what_nobody_knows_or_what_has_ended_change_nothing(bench: Bench) -> None:
    request = await held(bench, 900)
    assert not settle_parts(bench.store, W, str(uuid7()), [part(100)])
    assert await bench.limiter().finish(W, request.rid, FinishKind.VOID) == "OK"
    assert not settle_parts(bench.store, W, request.rid, [part(100)])
    assert bench.counters()[budget_suffix(0)] == (0, 0)
