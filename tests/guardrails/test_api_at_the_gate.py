"""What is set over REST bites on the next call, and what REST tells is what admission counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from rest_framework.test import APIClient

from billing.domain.money import NANO_PER_USD
from guardrails.admitted import Admitted
from guardrails.domain.refusals import OverBudget, RateLimited, Refusal, WorkspaceClosed
from guardrails.gate import Gate
from tests.cast import Cast, token_of
from tests.guardrails.conftest import context_of, quote
from workspaces import actions
from workspaces.ids import uuid7

ACME = "/api/v1/workspaces/acme/"


async def sync(function: Callable[[], Any]) -> Any:
    """Synchronous work in a thread with a connection of its own, as the web process would do it."""

    def run() -> Any:
        try:
            return function()
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()


class Acme:
    """Alice's REST client and her application's virtual key."""

    def __init__(self, gate: Gate, client: APIClient, key: str) -> None:
        self.gate, self.client, self.key = gate, client, key

    async def rest(self, method: str, route: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await sync(lambda: getattr(self.client, method)(ACME + route, body, format="json"))
        assert answer.status_code < 300, answer.content
        return answer.json()  # type: ignore[no-any-return]

    async def call(self, usd: int = 1, customer: str = "initech") -> Admitted:
        grant = await self.gate.policies.recognise(self.key)
        dims = {**grant.key.pins, "virtual_key": grant.key.id, "customer": customer}
        asked = quote(usd * NANO_PER_USD)
        return await self.gate.admission.admit(grant, dims, {}, asked, context_of(grant), rid=str(uuid7()))

    async def refused(self, **call: Any) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.call(**call)
        return caught.value


@pytest.fixture
async def acme(gate: Gate, committed_cast: Cast) -> Acme:
    def made() -> tuple[APIClient, str]:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(committed_cast.alice)}")
        alice = committed_cast.alice.actor
        return client, actions.create_virtual_key(workspace=committed_cast.acme, by=alice, name="app").text

    client, key = await sync(made)
    return Acme(gate, client, key)


async def test_a_budget_made_over_rest_holds_the_next_call_and_tells_what_is_held(acme: Acme) -> None:
    await acme.call()
    made = await acme.rest("post", "budgets/", {"cap": "3", "period": "day", "message": "Ask Alice."})
    await acme.call(usd=2)
    shown = await acme.rest("get", f"budgets/{made['id']}/")
    assert (shown["settled"], shown["held"], shown["left"], shown["live"]) == ("0", "2", "1", True)
    refusal = await acme.refused(usd=2)
    assert isinstance(refusal, OverBudget)
    assert refusal.message == "Ask Alice."
    await acme.rest("patch", f"budgets/{made['id']}/", {"cap": "4"})
    await acme.call(usd=2)


async def test_an_approved_raise_lets_the_next_call_through_and_its_end_does_not(acme: Acme) -> None:
    made = await acme.rest("post", "budgets/", {"cap": "1", "period": "day"})
    await acme.call()
    await acme.refused()
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    asked = await acme.rest(
        "post", "raises/", {"budget_id": made["id"], "amount": "2", "reason": "demo", "expires_at": ends}
    )
    await acme.refused()
    await acme.rest("post", f"raises/{asked['id']}/approve/")
    await acme.call()
    await acme.rest("post", f"raises/{asked['id']}/withdraw/")
    assert isinstance(await acme.refused(), OverBudget)
    assert (await acme.rest("get", f"budgets/{made['id']}/"))["over"] == "1"


async def test_each_customer_stands_on_its_own_over_rest(acme: Acme) -> None:
    made = await acme.rest("post", "budgets/", {"cap": "2", "period": "day", "scope": "customer", "value": None})
    await acme.call(usd=2, customer="initech")
    await acme.call(customer="hooli")
    await acme.refused(customer="initech")
    standing = await acme.rest("get", f"budgets/{made['id']}/standing/")
    assert {row["value"]: (row["held"], row["stage"]) for row in standing["results"]} == {
        "initech": ("2", "kill"),
        "hooli": ("1", "normal"),
    }


async def test_a_rate_limit_and_the_kill_switch_bite_on_the_next_call(acme: Acme) -> None:
    made = await acme.rest("post", "rate-limits/", {"metric": "concurrency", "limit": 1})
    await acme.call()
    assert isinstance(await acme.refused(), RateLimited)
    await acme.rest("patch", f"rate-limits/{made['id']}/", {"limit": 5})
    await acme.call()
    await acme.rest("post", "suspend/", {"reason": "runaway"})
    assert isinstance(await acme.refused(), WorkspaceClosed)
    await acme.rest("post", "resume/")
    await acme.call()
