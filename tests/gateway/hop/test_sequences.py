"""Every sequence of outcomes: one ledger line an attempt, nothing held afterwards, one answer for the client, nothing paid twice unasked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.gateway.hop.house import Answered, House
from workspaces import actions

FREE = ("503", "500", "529", "503/0", "429/0", "429", "429/9", "401", "403")
"""Errors that a provider does not bill."""
BILLED = ("drop", "html")
FINAL = ("400", "422", "ok", "cut")
MODELS = ("sim-small", "fast", "sure")

OUTCOMES = st.lists(st.sampled_from([*FREE, *FREE, *BILLED, *FINAL]), min_size=1, max_size=8)
CALLS = st.lists(
    st.tuples(OUTCOMES, st.sampled_from(MODELS), st.booleans(), st.sampled_from(["", "0", "1"]), st.booleans()),
    min_size=6,
    max_size=6,
)


@pytest.fixture
async def shop(house: House) -> House:
    more = {"provider": "simulator", "verify": False}
    await house.do(actions.add_credential, name="second", secret="sk-second", priority=1, **more)
    targets = ["simulator/sim-small", "simulator/sim-large", "simulator/sim-reasoner"]
    await house.do(actions.create_alias, name="fast", targets=targets)
    await house.do(actions.create_alias, name="sure", targets=targets, fallback_on=["no_answer", "server_error"])
    return house


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.generate],  # what fails is six calls: small enough to read
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(calls=CALLS)
async def test_the_books_hold_whatever_providers_do(shop: House, calls: list[Any]) -> None:
    answers = []
    for outcomes, model, stream, retries, elsewhere in calls:
        shop.forget()
        headers = {"sluice_retries": retries} if retries else {}
        if not elsewhere:
            headers["sluice_fallbacks"] = "off"
        answered = await shop.call(*outcomes, model=model, stream=stream, **headers)
        answers.append(answered)
        one_answer(shop, answered, stream=stream)
        consent = model == "sure" and elsewhere
        nothing_paid_twice(
            shop, answered, retries=int(retries or 2), elsewhere=elsewhere, consent=consent, stream=stream
        )
    entries = await shop.entries(*answers)
    for answered in answers:
        own = [entry for entry in entries if str(entry.call_id) == answered.headers["sluice-call-id"]]
        asked = shop.asked(answered)
        assert [str(entry.rid) for entry in own] == [one.attempt for one in asked], (
            "one line an attempt, in their order"
        )
        assert [entry.attempt for entry in own] == list(range(1, len(asked) + 1))
        assert {entry.leg for entry in own} == {0}
        for entry, one in zip(own, asked, strict=True):
            state, basis = expected(one.outcome)
            assert (entry.state, entry.basis) == (state, basis)
            assert (entry.cost_nano > 0) == (state == "settled")
    assert await shop.open_holds() == ([], 0)


def expected(outcome: str) -> tuple[str, str]:
    """How an attempt ends in the books: (state, basis)."""
    if outcome == "ok":
        return "settled", "measured"
    return ("settled", "assumed") if outcome in ("drop", "html", "cut") else ("void", "measured")


def one_answer(shop: House, answered: Answered, *, stream: bool) -> None:
    assert (answered.starts, answered.ends) == (1, 1)
    asked = shop.asked(answered)
    assert int(answered.headers["sluice-attempts"]) == len(asked)
    last = asked[-1].outcome
    if last == "ok" or (last == "cut" and stream):
        assert answered.status == 200
    else:
        first = asked[0].outcome.partition("/")[0]
        assert answered.status == (int(first) if first.isdigit() else 502), "the first error is the one that is told"


def nothing_paid_twice(
    shop: House, answered: Answered, *, retries: int, elsewhere: bool, consent: bool, stream: bool
) -> None:
    asked = shop.asked(answered)
    for one in asked[:-1]:
        final = ("ok", "400", "422", "cut") if stream else ("ok", "400", "422")
        assert one.outcome not in final, "an answer, or a wrong request, is the end"
        if one.outcome in ("drop", "html", "cut"):
            assert consent, "what may have been billed goes on only where an alias says so"
    places = [(one.secret, one.model) for one in asked]
    assert len(places) - len(set(places)) <= retries
    if not elsewhere:
        assert len(set(places)) == 1
