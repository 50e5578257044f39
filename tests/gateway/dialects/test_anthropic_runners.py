"""Tool runners and threads of the unmodified `anthropic` SDK: conversations that the provider keeps, reachable for their own workspace only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_async_tool, beta_tool
from pydantic import BaseModel

from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop, World

HELLO: list[Any] = [{"role": "user", "content": "What is the weather in Lyon?"}]
asked_for: list[str] = []


class Place(BaseModel):
    city: str


@beta_tool
def weather(city: str) -> str:
    """The weather of a city."""
    asked_for.append(city)
    return "sunny"


@beta_async_tool
async def weather_later(city: str) -> str:
    """The weather of a city."""
    asked_for.append(city)
    return "sunny"


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> Iterator[Anthropic]:
    asked_for.clear()
    with Anthropic(base_url=f"{gateway.url}/anthropic", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "sim-small", "max_tokens": 200, "messages": HELLO, **more}


def settled_as_invoiced(shop: Shop, count: int) -> None:
    """Each turn is billed for the whole conversation that it stands on, as the provider's own invoice has it."""
    entries = shop.entries(count)
    assert len(entries) == count
    for entry in entries:
        line = shop.world.simulator.line_of(str(entry.rid))
        assert line is not None
        assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)


def test_the_tool_runner_calls_tools_until_the_model_has_its_answer(client: Anthropic, shop: Shop) -> None:
    final = client.beta.messages.tool_runner(**asked(tools=[weather])).until_done()
    assert final.stop_reason == "end_turn"
    assert len(asked_for) == 1
    settled_as_invoiced(shop, 2)


def test_the_streaming_tool_runner(client: Anthropic, shop: Shop) -> None:
    runner = client.beta.messages.tool_runner(**asked(tools=[weather], stream=True))
    finals = [stream.get_final_message() for stream in runner]
    assert [final.stop_reason for final in finals] == ["tool_use", "end_turn"]
    assert len(asked_for) == 1
    settled_as_invoiced(shop, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_the_asynchronous_tool_runner(gateway: GatewayProcess, shop: Shop, stream: bool) -> None:
    asked_for.clear()

    async def run() -> list[str]:
        async with AsyncAnthropic(
            base_url=f"{gateway.url}/anthropic", api_key=shop.key, max_retries=0, timeout=20
        ) as client:
            runner: Any = client.beta.messages.tool_runner(**asked(tools=[weather_later], stream=stream))
            return [(await turn.get_final_message() if stream else turn).stop_reason async for turn in runner]

    assert asyncio.run(run()) == ["tool_use", "end_turn"]
    assert len(asked_for) == 1
    settled_as_invoiced(shop, 2)


def test_the_tool_runner_parses_a_schema(client: Anthropic) -> None:
    runner = client.beta.messages.tool_runner(**asked(tools=[weather], output_format=Place))
    assert isinstance(runner.until_done().parsed_output, Place)


def test_a_thread_goes_on_from_what_the_provider_keeps(client: Anthropic, shop: Shop) -> None:
    thread = client.beta.messages.thread(model="sim-small", max_tokens=200, system="Be brief")
    first = thread.send({"role": "user", "content": "My name is " + "Ada " * 200})
    with thread.stream({"role": "user", "content": "What is my name?"}) as stream:
        second = stream.get_final_message()
    assert second.usage.input_tokens + (second.usage.cache_read_input_tokens or 0) > first.usage.input_tokens
    settled_as_invoiced(shop, 2)


def test_a_thread_is_its_own_workspaces_only(client: Anthropic, gateway: GatewayProcess, world: World) -> None:
    threads = ["message-threads-2026-08-12"]
    made = client.beta.messages.create(**asked(thread={"type": "create"}, betas=threads))
    on: Any = {"type": "continue", "previous_message_id": made.id}
    with Anthropic(base_url=f"{gateway.url}/anthropic", api_key=world.shop().key, max_retries=0) as stranger:
        with pytest.raises(anthropic.NotFoundError) as refused:
            stranger.beta.messages.create(**asked(thread=on, betas=threads))
    body: Any = refused.value.body
    assert body["error"]["details"] == {"error_code": "thread_not_found"}
    assert client.beta.messages.create(**asked(thread=on, betas=threads)).content


def test_where_a_budget_has_no_room_for_an_unseen_thread_the_runner_goes_on_with_the_whole_conversation(
    client: Anthropic, shop: Shop
) -> None:
    shop.do(create_budget, cap="0.01", period="day", name="Cap")  # the whole window of sim-small costs more
    final = client.beta.messages.tool_runner(**asked(tools=[weather])).until_done()
    assert final.stop_reason == "end_turn"
    settled_as_invoiced(shop, 2)


def test_a_provider_without_threads_or_batches_is_said_to_have_none_before_anything_is_sent(
    gateway: GatewayProcess, world: World
) -> None:
    shop = world.shop(provider="bedrock", secret="a-key", access_settings={"region": "eu-central-1"})
    body = {**asked(thread={"type": "create"}), "model": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}
    answer = httpx.post(f"{gateway.url}/anthropic/v1/messages", json=body, headers={"x-api-key": shop.key}, timeout=20)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["error_code"] == "thread_unsupported_request"
    batches = httpx.post(f"{gateway.url}/v1/batches", json={}, headers={"x-api-key": shop.key}, timeout=20)
    assert batches.status_code == 400
    files: Any = {"file": ("in.jsonl", b"{}"), "purpose": (None, "batch")}
    refused = httpx.post(f"{gateway.url}/v1/files", files=files, headers={"x-api-key": shop.key}, timeout=20)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "batches_not_offered")
    assert shop.booked() == []


# --- Betas ------------------------------------------------------------------------------------------------------------


def post(gateway: GatewayProcess, shop: Shop, body: dict[str, Any], beta: str) -> httpx.Response:
    headers = {"x-api-key": shop.key, "anthropic-beta": beta}
    return httpx.post(f"{gateway.url}/anthropic/v1/messages", json=body, headers=headers, timeout=20)


LETS_NAME = "files-api-2025-04-14,mcp-client-2025-11-20,compact-2026-01-12,skills-2025-10-02"
NAMED: list[dict[str, Any]] = [
    {"mcp_servers": [{"type": "url", "url": "https://x.example", "name": "x"}]},
    {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}},
    {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
    {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}]},
    {"fallbacks": [{"model": "claude-opus-4-8"}]},
    {"compaction": {"type": "summarize"}},
    {"context_management": {"edits": [{"type": "compact_20260112"}]}},
]


def test_a_beta_that_only_lets_the_body_name_something_passes_and_what_has_no_bound_is_refused_under_a_hard_budget(
    gateway: GatewayProcess, shop: Shop
) -> None:
    shop.do(create_budget, cap="5", period="day", name="Cap")
    assert post(gateway, shop, asked(), LETS_NAME).status_code == 200
    for more in NAMED:
        answer = post(gateway, shop, asked(**more), LETS_NAME)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_priced"), more
    assert len(shop.entries(1)) == 1


def test_a_beta_that_nobody_knows_passes_where_nothing_must_be_bounded_and_is_refused_where_it_must(
    gateway: GatewayProcess, shop: Shop
) -> None:
    assert post(gateway, shop, asked(), "prompt-caching-2024-07-31,made-up-2027-01-01").status_code == 200
    shop.do(create_budget, cap="5", period="day", name="Cap")
    answer = post(gateway, shop, asked(), "prompt-caching-2024-07-31,made-up-2027-01-01")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_priced")
    assert "made-up-2027-01-01" in answer.json()["error"]["message"]
    [entry] = shop.entries(1)
    assert (entry.basis, entry.price_status) == ("measured", "exact")


def test_the_details_of_a_providers_error_pass_on(gateway: GatewayProcess, world: World, echo_upstream: Any) -> None:
    shop = world.shop(provider="anthropic", base_url=echo_upstream.base_url, secret="sk-ant-secret")
    details = {"error_code": "thread_unsupported_request", "unsupported": ["container"]}
    error = {"type": "invalid_request_error", "message": "no threads here", "details": details}
    echo_upstream.status = 400
    echo_upstream.answered = json.dumps({"type": "error", "error": error}).encode()
    body = {**asked(thread={"type": "create"}), "model": "claude-sonnet-4-5"}
    answer = post(gateway, shop, body, "message-threads-2026-08-12")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == details
