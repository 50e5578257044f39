"""What providers keep, over the official SDKs: background responses, files and batches. Ours only, held from the start, booked once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop, World


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def stranger(gateway: GatewayProcess, world: World) -> Iterator[OpenAI]:
    """Another workspace, with the same provider account."""
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=world.shop().key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def claude(gateway: GatewayProcess, shop: Shop) -> Iterator[Anthropic]:
    with Anthropic(base_url=f"{gateway.url}/anthropic", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client


def until(found: Callable[[], bool], timeout_s: float = 15) -> None:
    ends = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.1)


def line(place: str, **body: Any) -> dict[str, Any]:
    asked = {
        "model": "sim-small",
        "messages": [{"role": "user", "content": f"Hello {place}"}],
        "max_tokens": 50,
        **body,
    }
    return {"custom_id": place, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def uploaded(client: OpenAI, *lines: dict[str, Any]) -> str:
    content = "\n".join(json.dumps(one) for one in lines).encode()
    return client.files.create(file=("in.jsonl", content), purpose="batch").id


def batch_of(client: OpenAI, *lines: dict[str, Any], **more: Any) -> Any:
    return client.batches.create(
        input_file_id=uploaded(client, *lines), endpoint="/v1/chat/completions", completion_window="24h", **more
    )


# --- Responses --------------------------------------------------------------------------------------------------------


def test_a_stored_response_is_read_again_for_nothing_and_by_its_own_workspace_only(
    client: OpenAI, stranger: OpenAI, shop: Shop
) -> None:
    made = client.responses.create(model="sim-small", input="Hello there")
    assert client.responses.retrieve(made.id).output_text == made.output_text
    assert client.responses.input_items.list(made.id).data == []
    for reach in (stranger.responses.retrieve, stranger.responses.delete, stranger.responses.cancel):
        with pytest.raises(openai.NotFoundError) as refused:
            reach(made.id)
        assert refused.value.code == "not_found"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    assert len(shop.entries(1)) == 1


def test_a_background_response_is_held_until_somebody_reads_it_and_then_billed_as_invoiced(
    client: OpenAI, shop: Shop
) -> None:
    shop.do(create_budget, cap="5", period="month", name="Cap")
    made = client.responses.create(model="sim-small", input="Hello there", background=True, max_output_tokens=100)
    assert made.status == "queued"
    assert shop.held_nano() > 0
    until(lambda: client.responses.retrieve(made.id).status == "completed")
    [entry] = shop.entries(1)
    invoiced = shop.world.simulator.line_of(str(entry.rid))
    assert invoiced is not None
    assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", invoiced.cost_nano)
    assert client.responses.retrieve(made.id).output_text
    assert shop.held_nano() == 0
    assert len(shop.booked()) == 1


def test_a_background_response_that_nobody_reads_is_read_by_the_gateway_itself(client: OpenAI, shop: Shop) -> None:
    client.responses.create(model="sim-small", input="Hello there", background=True)
    [entry] = shop.entries(1, timeout_s=60)
    assert entry.basis == "measured"


def test_a_response_goes_on_with_the_credential_that_keeps_the_one_before(client: OpenAI, shop: Shop) -> None:
    first = client.responses.create(model="sim-small", input="Hello")
    assert client.responses.create(model="sim-small", input="Go on", previous_response_id=first.id).output_text
    assert {entry.credential_id for entry in shop.entries(2)} == {shop.entries(2)[0].credential_id}


# --- Files and batches ------------------------------------------------------------------------------------------------


def test_files_are_seen_by_their_own_workspace_only(client: OpenAI, stranger: OpenAI, shop: Shop) -> None:
    ours, theirs = uploaded(client, line("a")), uploaded(stranger, line("b"))
    assert [file.id for file in client.files.list()] == [ours]
    assert client.files.retrieve(ours).purpose == "batch"
    assert json.loads(client.files.content(ours).content)["custom_id"] == "a"
    for reach in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            reach(theirs)
    assert client.files.delete(ours).deleted
    assert [file.id for file in client.files.list()] == []
    assert shop.booked() == []


def test_each_line_of_a_batch_is_an_entry_at_half_the_price_and_is_booked_once(
    gateway: GatewayProcess, client: OpenAI, stranger: OpenAI, shop: Shop
) -> None:
    shop.do(create_budget, cap="5", period="month", name="Cap")
    before = len(shop.world.simulator.invoice())
    head = {"Sluice-Customer": "acme", "Sluice-Feature": "nightly"}
    made = batch_of(client, line("a"), line("b"), line("c", model="sim-small", messages=[
        {"role": "user", "content": "[[sim:status=500]]"}]), extra_headers=head)  # fmt: skip
    assert shop.held_nano() > 0
    with pytest.raises(openai.NotFoundError):
        stranger.batches.retrieve(made.id)
    until(lambda: client.batches.retrieve(made.id).status == "completed")
    results = client.batches.retrieve(made.id).output_file_id
    assert results is not None
    assert len(client.files.content(results).text.splitlines()) >= 2
    until(lambda: shop.held_nano() == 0)
    entries = shop.booked()
    invoiced = [one.cost_nano for one in shop.world.simulator.invoice()[before:]]
    assert sorted(entry.cost_nano for entry in entries if entry.cost_nano) == sorted(cost for cost in invoiced if cost)
    billed = [entry for entry in entries if entry.state == "settled"]
    assert {(entry.customer, entry.feature, entry.model) for entry in billed} == {("acme", "nightly", "sim-small")}
    for _ in range(2):
        client.batches.retrieve(made.id)
        client.files.content(results)
    assert len(shop.booked()) == len(entries)
    assert [one.id for one in client.batches.list()] == [made.id]
    assert [one.id for one in stranger.batches.list()] == []


def test_a_batch_on_azure_names_deployments_and_is_priced_by_their_models(
    gateway: GatewayProcess, world: World
) -> None:
    settings = {"deployments": "gpt-4o-mini=sim-small"}
    shop = world.shop(provider="azure", base_url=world.simulator.base_url, secret="k" * 32, access_settings=settings)
    shop.do(create_budget, cap="5", period="month", name="Cap")
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        made = batch_of(client, line("a"))
        assert shop.held_nano() > 0
        until(lambda: client.batches.retrieve(made.id).status == "completed")
        until(lambda: shop.held_nano() == 0)
    [entry] = [entry for entry in shop.booked() if entry.state == "settled"]
    usage = entry.unpacked()["usage"]
    half = (
        usage["input_uncached"] * 75 + usage["output_text"] * 300
    )  # gpt-4o-mini's batch table, in nano-dollars a token
    assert (entry.provider, entry.model, entry.cost_nano) == ("azure", "gpt-4o-mini", half)


def test_a_batch_that_may_not_fit_is_not_made(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="0.0001", period="day", name="Pocket money")
    with pytest.raises(openai.APIStatusError) as refused:
        batch_of(client, *(line(str(n), max_tokens=1000) for n in range(20)))
    assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
    assert list(client.batches.list()) == []
    assert shop.held_nano() == 0


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([line("a"), line("a")], "invalid_batch"),
        ([line("a"), line("b", model="sim-large")], "several_models"),
        ([{**line("a"), "url": "/v1/embeddings"}], "invalid_batch"),
        ([{**line("a"), "method": "GET"}], "invalid_batch"),
        ([line("a", api_base="http://x")], "invalid_batch"),
        ([line("a", max_tokens="many")], "invalid_batch"),
        ([line("a", model="nobody-knows")], "model_not_priced"),
        ([line("a", tools=[{"type": "web_search_preview"}])], "model_not_priced"),
    ],
)
def test_a_batch_with_a_line_that_cannot_be_bounded_is_refused_whole(
    client: OpenAI, shop: Shop, lines: list[dict[str, Any]], code: str
) -> None:
    shop.do(create_budget, cap="100", period="day", name="Cap")
    with pytest.raises(openai.APIStatusError) as refused:
        batch_of(client, *lines)
    assert (refused.value.status_code, refused.value.code) == (400, code)
    assert shop.booked() == []


def test_a_file_of_somebody_else_makes_no_batch(client: OpenAI, stranger: OpenAI) -> None:
    theirs = uploaded(stranger, line("a"))
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id=theirs, endpoint="/v1/chat/completions", completion_window="24h")


def test_files_for_what_is_not_offered_are_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    assert refused.value.code == "invalid_purpose"


# --- Anthropic --------------------------------------------------------------------------------------------------------


def test_a_batch_of_messages_is_held_read_and_booked_line_by_line(
    gateway: GatewayProcess, world: World, claude: Anthropic, shop: Shop
) -> None:
    shop.do(create_budget, cap="5", period="month", name="Cap")
    before = len(shop.world.simulator.invoice())
    params: Any = {"model": "sim-small", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
    made = claude.messages.batches.create(requests=[{"custom_id": place, "params": params} for place in ("a", "b")])
    assert shop.held_nano() > 0
    until(lambda: claude.messages.batches.retrieve(made.id).processing_status == "ended")
    results = list(claude.messages.batches.results(made.id))
    assert [one.custom_id for one in results] == ["a", "b"]
    until(lambda: shop.held_nano() == 0)
    invoiced = sum(one.cost_nano for one in shop.world.simulator.invoice()[before:])
    assert sum(entry.cost_nano for entry in shop.booked()) == invoiced > 0
    assert [one.id for one in claude.messages.batches.list()] == [made.id]
    with Anthropic(base_url=f"{gateway.url}/anthropic", api_key=world.shop().key, max_retries=0) as other:
        with pytest.raises(anthropic.NotFoundError):
            other.messages.batches.retrieve(made.id)
        assert list(other.messages.batches.list()) == []
    claude.messages.batches.delete(made.id)


def test_what_a_batch_of_messages_must_say(gateway: GatewayProcess, shop: Shop) -> None:
    for body in ({}, {"requests": []}, {"requests": [{"custom_id": "a"}]}, {"requests": "x"}):
        answer = httpx.post(
            f"{gateway.url}/anthropic/v1/messages/batches", json=body, headers={"x-api-key": shop.key}, timeout=20
        )
        assert answer.json()["error"]["code"] == "invalid_batch"


def test_a_beta_without_a_bound_is_no_batch_either(claude: Anthropic, shop: Shop) -> None:
    params: Any = {"model": "sim-small", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.batches.create(
            requests=[{"custom_id": "a", "params": params}], extra_headers={"anthropic-beta": "made-up-2027-01-01"}
        )
    assert "not offered" in str(refused.value)
    assert shop.booked() == []
