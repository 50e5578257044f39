"""A workspace's own prices from end to end: the next call is admitted and settled by them; a running one keeps its own."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from billing import actions as prices
from guardrails import actions, reconciliation, rerating
from tests.gateway.installed import EchoUpstream
from tests.gateway.world import GatewayProcess, Shop
from workspaces import actions as workspace_actions

USD = 10**9


def ask(
    gateway: GatewayProcess, shop: Shop, model: str = "sim-small", content: str = "hello", **body: Any
) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {shop.key}"},
        json={"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": content}], **body},
        timeout=20,
    )


def test_the_call_after_a_discount_costs_less_and_the_one_before_it_does_not(
    gateway: GatewayProcess,
    shop: Shop,
) -> None:
    assert ask(gateway, shop).status_code == 200
    shop.do(prices.create_price, provider="simulator", discount_percent="50")
    assert ask(gateway, shop).status_code == 200
    before, after = shop.entries(2)
    assert after.unpacked()["usage"] == before.unpacked()["usage"]
    assert before.cost_nano == shop.world.simulator.line_of(str(before.rid)).cost_nano  # type: ignore[union-attr]
    assert abs(before.cost_nano - 2 * after.cost_nano) <= 1
    assert after.hold_nano < before.hold_nano
    assert after.price_version.startswith(before.price_version + "+own-")


def test_a_call_that_runs_while_its_price_changes_is_settled_at_the_price_it_was_admitted_at(
    gateway: GatewayProcess,
    shop: Shop,
) -> None:
    answers: list[httpx.Response] = []
    running = threading.Thread(
        target=lambda: answers.append(ask(gateway, shop, content="hi [[sim:drip gap_ms=60 tokens=20]]", stream=True))
    )
    running.start()
    until = time.monotonic() + 10
    while not shop.open_holds() and time.monotonic() < until:
        time.sleep(0.02)
    shop.do(prices.create_price, provider="simulator", discount_percent="90")
    running.join()
    assert [answer.status_code for answer in answers] == [200]
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert entry.cost_nano == line.cost_nano
    assert "+own" not in entry.price_version


def test_a_model_of_ones_own_is_refused_under_a_hard_budget_until_it_has_a_price_and_then_settles_at_it(
    gateway: GatewayProcess,
    shop: Shop,
    echo_upstream: EchoUpstream,
) -> None:
    shop.do(
        workspace_actions.add_credential,
        provider="openai_compatible",
        secret="",
        base_url=echo_upstream.base_url,
        verify=False,
    )
    unlimited = ask(gateway, shop, "openai_compatible/acme-8b")
    assert unlimited.status_code == 200  # nothing caps it yet: forwarded, and flagged
    shop.do(actions.create_budget, cap="5", period="month")
    refused = ask(gateway, shop, "openai_compatible/acme-8b")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_not_priced")

    rates = {"input_uncached": "1000", "output_text": "2000"}
    yesterday = datetime.now(UTC) - timedelta(days=1)
    shop.do(
        prices.create_price,
        provider="openai_compatible",
        model="acme-8b",
        rates=rates,
        context_window=8192,
        valid_from=yesterday,
    )
    time.sleep(0.3)  # a refusal from memory is made for a quarter of a second without asking anybody
    answer = ask(gateway, shop, "openai_compatible/acme-8b")
    assert answer.status_code == 200, answer.text
    free, paid = shop.entries(2)
    per_token = Decimal(USD) / 10**6
    assert (free.price_status, free.cost_nano) == ("unpriced", 0)
    assert paid.cost_nano == int((5 * 1000 + 1 * 2000) * per_token)
    assert paid.price_status in ("exact", "estimated")  # it answers under another name

    with shop.world.at_home():
        report = rerating.rerate(shop.workspace)
        assert report.delta_nano == paid.cost_nano
        books = reconciliation.report(shop.workspace)
    assert (books.differences, books.ledger_nano) == ([], 2 * paid.cost_nano)
