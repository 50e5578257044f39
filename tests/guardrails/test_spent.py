"""Refusals that share their evidence: cheap, and right all the same (`guardrails.spent`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.domain.money import NANO_PER_USD
from billing.domain.quote import Quote
from guardrails import actions
from guardrails.admitted import Admitted
from guardrails.domain.refusals import OverBudget, Refusal
from guardrails.gate import Gate
from guardrails.limiter.wire import AdmitReply, AdmitRequest
from tests.cast import Cast
from tests.guardrails.conftest import quote
from tests.guardrails.test_admission import DONE, Caller, sync
from workspaces import actions as workspace_actions

USD = NANO_PER_USD


@pytest.fixture
async def app(gate: Gate, committed_cast: Cast) -> Caller:
    minted = await sync(
        workspace_actions.create_virtual_key, workspace=committed_cast.acme, by=committed_cast.alice.actor, name="app"
    )
    return Caller(gate, committed_cast, minted.text)


@contextmanager
def questions(gate: Gate, before_each: Callable[[], None] = lambda: None) -> Iterator[list[AdmitRequest]]:
    """Those that reach the limiter meanwhile."""
    asked: list[AdmitRequest] = []
    admit = gate.limiter.admit

    async def counted(
        workspace_id: int, request: AdmitRequest, leaving: Callable[[], None] | None = None
    ) -> AdmitReply:
        asked.append(request)
        before_each()
        return await admit(workspace_id, request, leaving)

    gate.limiter.admit = counted  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        del gate.limiter.admit


async def spend(app: Caller, amount: int) -> None:
    await app.gate.admission.settle(await app.call(amount), amount, 10, DONE)


async def all_of(app: Caller, calls: int, amount: int = USD, **more: Any) -> list[Admitted | Refusal]:
    grant = await app.grant()
    said = await asyncio.gather(*(app.call(amount, grant=grant, **more) for _ in range(calls)), return_exceptions=True)
    assert all(isinstance(one, Admitted | Refusal) for one in said), said
    return said  # type: ignore[return-value]


async def test_calls_that_wait_together_over_a_spent_budget_share_an_answer(app: Caller) -> None:
    await app.budget("3", name="Production")
    await spend(app, 3 * USD)
    first = await app.refused()  # from here on it is known

    with questions(app.gate) as asked:
        said = await all_of(app, 50)

    assert len(asked) <= 5
    assert {(type(one), getattr(one, "message", "")) for one in said} == {(OverBudget, first.message)}
    assert all(isinstance(one, OverBudget) and one.facts == first.facts for one in said)


async def test_a_raise_bites_on_the_next_call_though_the_budget_was_known_to_be_spent(app: Caller) -> None:
    made = await app.budget("3")
    await spend(app, 3 * USD)
    await all_of(app, 10)

    await sync(
        actions.grant_raise, workspace=app.acme, by=app.cast.alice.actor, budget_id=made.pk, amount="2", reason="Launch",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )  # fmt: skip
    said = await all_of(app, 10)

    assert [isinstance(one, Admitted) for one in said].count(True) == 2


async def test_room_that_was_given_back_is_used_to_the_last_call(app: Caller) -> None:
    await app.budget("5")
    held = [await app.call() for _ in range(5)]
    assert not [one for one in await all_of(app, 10) if isinstance(one, Admitted)]

    await asyncio.gather(*(app.gate.admission.void(one, DONE) for one in held))
    said = await all_of(app, 20)

    assert [isinstance(one, Admitted) for one in said].count(True) == 5


async def test_who_comes_after_the_question_was_sent_asks_for_himself(app: Caller) -> None:
    """Between the leader's answer and the follower, the room may have been given back."""
    await app.budget("1")
    held = await app.call()
    await app.refused()
    grant = await app.grant()

    with questions(app.gate) as asked:
        leader = asyncio.ensure_future(app.call(grant=grant))
        await asyncio.sleep(0)  # nothing else is under way: its question leaves at once
        await app.gate.admission.void(held, DONE)
        follower = await app.call(grant=grant)
        await asyncio.gather(leader, return_exceptions=True)

    assert isinstance(follower, Admitted)
    assert len(asked) == 2


async def test_a_smaller_call_is_not_refused_by_the_evidence_of_a_larger_one(app: Caller) -> None:
    await app.budget("3")
    await spend(app, 2 * USD)
    await app.refused(2 * USD)
    grant = await app.grant()

    said = await asyncio.gather(
        *(app.call(2 * USD, grant=grant) for _ in range(5)), app.call(USD, grant=grant), return_exceptions=True
    )

    assert [type(one) for one in said] == [OverBudget] * 5 + [Admitted]


async def test_a_call_that_would_fit_when_counted_is_counted(app: Caller) -> None:
    await app.budget("3")
    await spend(app, 2 * USD)
    await app.refused(2 * USD)
    grant = await app.grant()

    said = await asyncio.gather(
        *(app.call(2 * USD, grant=grant) for _ in range(5)),
        app.call(2 * USD, grant=grant, exact=lambda: smaller(USD)),
        return_exceptions=True,
    )

    assert [type(one) for one in said] == [OverBudget] * 5 + [Admitted]


def smaller(amount: int) -> Quote:
    return Quote(amount, input_tokens_bound=1, tokens_bound=1)


@pytest.mark.parametrize("how", ["cancelled", "answered otherwise"])
async def test_followers_of_a_leader_who_learns_nothing_ask_for_themselves(app: Caller, how: str) -> None:
    await app.budget("2")
    await spend(app, USD)
    held = await app.call()
    await app.refused()
    grant = await app.grant()
    busy = [asyncio.ensure_future(app.call(grant=grant, dims={"user": f"u{n}"})) for n in range(2)]
    leader = asyncio.ensure_future(app.call(grant=grant))
    follower = asyncio.ensure_future(app.call(grant=grant))
    await asyncio.sleep(0)
    if how == "cancelled":
        leader.cancel()
    await app.gate.admission.void(held, DONE)
    said = await asyncio.gather(*busy, leader, follower, return_exceptions=True)

    passed = [one for one in said if isinstance(one, Admitted)]
    assert len(passed) <= 1
    assert all(isinstance(one, Admitted | OverBudget | asyncio.CancelledError) for one in said)
    for one in passed:
        await app.gate.admission.void(one, DONE)
    assert isinstance(await app.call(), Admitted)


async def test_each_value_has_evidence_of_its_own(app: Caller) -> None:
    await app.budget("1", scope="user", value=None)
    for user in ("a", "b"):
        await app.gate.admission.settle(await app.call(dims={"user": user}), USD, 10, DONE)
        await app.refused(dims={"user": user})
    grant = await app.grant()

    said = await asyncio.gather(
        *(app.call(grant=grant, dims={"user": user}) for user in "aabbc"), return_exceptions=True
    )

    assert [type(one) for one in said] == [OverBudget] * 4 + [Admitted]
    assert [one.facts["value"] for one in said if isinstance(one, OverBudget)] == ["a", "a", "b", "b"]


def test_the_least_that_a_call_can_cost_is_never_above_what_it_costs_when_counted() -> None:
    asked = quote(USD)

    assert asked.least(asked.output_tokens_cap) <= (asked.amount_nano or 0)
