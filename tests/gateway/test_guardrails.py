"""What admission decides, as a caller of the gateway sees it: 402 and 429 with their facts, clamping, what is left, what is never blocked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx

from guardrails.actions import create_budget, create_rate_limit, update_budget
from tests.gateway.world import GatewayProcess, Shop
from workspaces.actions import revoke_virtual_key

CALL: dict[str, Any] = {
    "model": "sim-small",
    "messages": [{"role": "user", "content": "hi"}],
    "max_completion_tokens": 100,
}


def post(gateway: GatewayProcess, shop: Shop, **more: Any) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={**CALL, **more},
        headers={"authorization": f"Bearer {shop.key}"},
        timeout=30,
    )


def test_a_spent_budget_is_a_402_that_says_which_how_much_and_what_next(gateway: GatewayProcess, shop: Shop) -> None:
    shop.do(create_budget, cap="0.000001", period="day", name="Pocket money")
    answer = post(gateway, shop)
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("budget_exceeded", "budget_exceeded")
    facts = error["sluice"]
    assert facts["budget"] == "Pocket money"
    assert (facts["cap_usd"], facts["spent_usd"], facts["held_usd"], facts["remaining_usd"]) == (
        "0.000001",
        "0",
        "0",
        "0.000001",
    )
    assert facts["resets_at"].endswith("Z")
    assert facts["retry"] is False
    assert answer.headers["x-should-retry"] == "false"
    assert shop.booked() == []
    assert httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {shop.key}"}).status_code == 200


def test_a_changed_cap_applies_to_the_next_call(gateway: GatewayProcess, shop: Shop) -> None:
    budget = shop.do(create_budget, cap="1", period="day")
    assert post(gateway, shop).status_code == 200
    shop.do(update_budget, budget_id=budget.id, cap="0.000001")
    assert post(gateway, shop).status_code == 402
    shop.do(update_budget, budget_id=budget.id, cap="1")
    assert post(gateway, shop).status_code == 200


def test_what_is_left_after_the_call_is_the_cap_less_its_cost(gateway: GatewayProcess, shop: Shop) -> None:
    shop.do(create_budget, cap="1", period="day")
    spent = Decimal(0)
    for _ in range(3):
        answer = post(gateway, shop)
        spent += Decimal(answer.headers["sluice-cost"])
        assert Decimal(answer.headers["sluice-budget-remaining"]) == 1 - spent
    assert sum(entry.cost_nano for entry in shop.entries(3)) == int(spent * 10**9)


def test_an_output_limit_nobody_set_is_lowered_to_what_the_budget_affords_and_said_so(
    gateway: GatewayProcess, shop: Shop
) -> None:
    shop.do(create_budget, cap="0.001", period="day")
    answer = post(gateway, shop, max_completion_tokens=None)
    assert answer.status_code == 200
    assert 256 <= int(answer.headers["sluice-clamped"]) < 1667
    [entry] = shop.entries(1)
    assert "clamped" in entry.flags
    limited = post(gateway, shop, max_completion_tokens=16_000)
    assert limited.status_code == 402
    assert 0 < limited.json()["error"]["sluice"]["would_fit"] < 16_000


def test_a_model_without_a_price_is_flagged_and_under_a_hard_budget_refused(
    gateway: GatewayProcess, shop: Shop, echo_upstream: Any
) -> None:
    other = shop.world.shop(provider="openai_compatible", base_url=echo_upstream.base_url, secret="sk-x")
    answer = post(gateway, other, model="my-own-model")
    assert answer.status_code == 200
    assert "sluice-cost" not in answer.headers
    [entry] = other.entries(1)
    assert entry.price_status == "unpriced"
    other.do(create_budget, cap="5", period="day")
    refused = post(gateway, other, model="my-own-model")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_not_priced")


def test_a_rate_limit_is_a_429_with_an_honest_retry_after(gateway: GatewayProcess, shop: Shop) -> None:
    shop.do(create_rate_limit, metric="rpm", limit=3, scope="")
    answers = [post(gateway, shop) for _ in range(5)]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    refused = answers[-1]
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit-requests"] == "3"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(refused.headers["x-ratelimit-reset-requests"].removesuffix("ms")) <= 60_000


def test_a_burst_at_the_edge_of_the_cap_passes_exactly_what_fits(gateway: GatewayProcess, shop: Shop) -> None:
    first = post(gateway, shop)
    assert first.status_code == 200
    shop.do(create_budget, cap="0.001", period="total")
    with ThreadPoolExecutor(40) as crowd:
        answers = list(crowd.map(lambda _: post(gateway, shop), range(80)))
    passed = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 402}
    assert passed
    assert sum(Decimal(answer.headers["sluice-cost"]) for answer in passed) <= Decimal("0.001")
    shop.entries(1 + len(passed))
    assert shop.held_nano() == 0


def test_a_call_that_costs_nothing_counts_towards_the_requests_a_minute_and_a_revoked_key_is_out_at_once(
    gateway: GatewayProcess, shop: Shop
) -> None:
    def moderate() -> httpx.Response:
        return httpx.post(
            f"{gateway.url}/v1/moderations",
            json={"model": "omni-moderation-latest", "input": "hello"},
            headers={"authorization": f"Bearer {shop.key}"},
        )

    assert moderate().status_code == post(gateway, shop).status_code == 200
    shop.do(create_rate_limit, metric="rpm", limit=3, scope="virtual_key", value=None)
    shop.do(create_rate_limit, metric="tpm", limit=1, scope="")
    answers = [moderate(), moderate()]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1"]
    assert post(gateway, shop).status_code == 429, "tokens a minute still hold for a chat"
    assert moderate().status_code == 200
    refused = moderate()
    assert (refused.status_code, refused.json()["error"]["sluice"]["metric"]) == (429, "rpm")
    models = httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {shop.key}"})
    assert models.status_code == 200, "lists of models are never blocked"
    shop.do(revoke_virtual_key, key_id=shop.key_id)
    assert moderate().status_code == 401
    assert len(shop.entries(1)) == 1, "the chat alone"


def test_what_nobody_priced_does_not_leave_under_a_hard_budget_and_passes_without_one(
    gateway: GatewayProcess, shop: Shop
) -> None:
    assert post(gateway, shop, premium_speed="fast").status_code == 200
    shop.do(create_budget, cap="5", period="month", name="Cap")
    before = shop.world.simulator.totals()
    for extra in ({"premium_speed": "fast"}, {"plugins": [{"id": "web"}]}, {"deep_research": True}, {"candidates": 8}):
        refused = post(gateway, shop, **extra)
        assert refused.status_code == 400, refused.text
        assert next(iter(extra)) in refused.json()["error"]["message"]
    assert shop.world.simulator.totals() == before


def test_a_thousand_pictures_and_five_thousand_tools_are_held_and_billed_as_what_they_are(
    gateway: GatewayProcess, shop: Shop
) -> None:
    shop.do(create_budget, cap="5", period="month", name="Cap")
    pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"
    pictures = [{"type": "image_url", "image_url": {"url": pixel}}] * 1_000
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert post(gateway, shop, messages=[{"role": "user", "content": pictures}]).status_code == 200
    assert post(gateway, shop, tools=[tool] * 5_000).status_code == 200
    for entry in shop.entries(2):
        line = shop.world.simulator.line_of(str(entry.rid))
        assert line is not None
        assert (entry.price_status, entry.cost_nano) == ("exact", line.cost_nano)
        assert "over" not in entry.flags
