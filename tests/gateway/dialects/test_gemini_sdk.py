"""The official `google-genai` SDK, unmodified but for its base URL and key, over Gemini's own surface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop, World

GENERATE = "/gemini/v1beta/models/sim-small:generateContent"
STREAM = "/gemini/v1beta/models/sim-small:streamGenerateContent"
HELLO: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}


def client_of(gateway: GatewayProcess, key: str) -> genai.Client:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=f"{gateway.url}/gemini", timeout=20_000))


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> Iterator[genai.Client]:
    client = client_of(gateway, shop.key)
    yield client
    client.close()


def post(gateway: GatewayProcess, shop: Shop, path: str, body: Any = HELLO, **headers: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}{path}", json=body, headers={"x-goog-api-key": shop.key, **headers}, timeout=20)


def billed_as_invoiced(shop: Shop, endpoint: str) -> None:
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)
    assert entry.endpoint == "/gemini/v1beta/models/{model}:" + endpoint


def test_an_answer_is_billed_to_the_nano(client: genai.Client, shop: Shop) -> None:
    answer = client.models.generate_content(model="sim-small", contents="Hello there")
    assert answer.text
    assert answer.usage_metadata is not None
    billed_as_invoiced(shop, "generateContent")


def test_a_stream_repeats_its_usage_and_is_billed_by_the_last(client: genai.Client, shop: Shop) -> None:
    texts = [part.text or "" for part in client.models.generate_content_stream(model="sim-small", contents="Hello")]
    assert len(texts) > 2
    billed_as_invoiced(shop, "streamGenerateContent?alt=sse")


def test_thoughts_are_billed_beside_the_candidates(client: genai.Client, shop: Shop) -> None:
    answer = client.models.generate_content(model="sim-reasoner", contents="Hello")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.thoughts_token_count
    billed_as_invoiced(shop, "generateContent")


def test_several_candidates_in_a_stream(client: genai.Client, shop: Shop) -> None:
    config = types.GenerateContentConfig(candidate_count=2, max_output_tokens=30)
    for _ in client.models.generate_content_stream(model="sim-small", contents="Hello", config=config):
        pass
    billed_as_invoiced(shop, "streamGenerateContent?alt=sse")


async def test_the_asynchronous_client(gateway: GatewayProcess, shop: Shop) -> None:
    client = client_of(gateway, shop.key)
    assert (await client.aio.models.generate_content(model="sim-small", contents="Hello")).text
    stream = await client.aio.models.generate_content_stream(model="sim-small", contents="Hello")
    assert [part async for part in stream]
    await client.aio.aclose()
    client.close()


def test_without_alt_sse_a_stream_is_one_json_array(gateway: GatewayProcess, shop: Shop) -> None:
    answer = post(gateway, shop, STREAM)
    assert answer.headers["content-type"] == "application/json"
    parts = answer.json()
    assert len(parts) > 2
    assert parts[-1]["candidates"][0]["finishReason"] == "STOP"
    billed_as_invoiced(shop, "streamGenerateContent")


def test_a_stream_that_breaks_off_ends_with_an_error_in_both_forms(gateway: GatewayProcess, shop: Shop) -> None:
    broken = {"contents": [{"parts": [{"text": "Hello [[sim:cut k=5]]"}]}]}
    listed = post(gateway, shop, STREAM, broken).json()
    assert listed[-1]["error"]["status"] == "UNAVAILABLE"
    told = post(gateway, shop, STREAM + "?alt=sse", broken).text.strip().rpartition("data: ")[2]
    assert json.loads(told)["error"]["code"] == 502
    assert {entry.basis for entry in shop.entries(2)} == {"assumed"}


def test_functions_are_called_and_answered(client: genai.Client) -> None:
    def weather(city: str) -> str:
        """Weather of a city."""
        return f"sunny in {city}"

    answer = client.models.generate_content(
        model="sim-small", contents="Hello", config=types.GenerateContentConfig(tools=[weather])
    )
    assert answer.automatic_function_calling_history


class City(BaseModel):
    name: str


def test_a_schema_is_kept_and_parsed(client: genai.Client) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    assert isinstance(client.models.generate_content(model="sim-small", contents="Hi", config=config).parsed, City)


def test_chats_remember(client: genai.Client) -> None:
    chat = client.chats.create(model="sim-small")
    chat.send_message("Hello")
    chat.send_message("Again")
    assert len(chat.get_history()) == 4


def test_counting_tokens_is_free(client: genai.Client, shop: Shop) -> None:
    assert client.models.count_tokens(model="sim-small", contents="Hello").total_tokens
    assert shop.booked() == []


def test_embeddings_one_and_many(gateway: GatewayProcess, world: World) -> None:
    shop = world.shop(provider="gemini", base_url=world.simulator.base_url, secret="AIza-test")
    client = client_of(gateway, shop.key)
    answer = client.models.embed_content(model="gemini-embedding-001", contents=["Hello", "there"])
    client.close()
    assert [len(found.values or []) for found in answer.embeddings or []] == [768, 768]
    one = post(
        gateway,
        shop,
        "/gemini/v1beta/models/gemini-embedding-001:embedContent",
        {"content": {"parts": [{"text": "Hi"}]}},
    )
    assert one.json()["embedding"]["values"]
    entries = shop.entries(2)
    assert [(entry.basis, entry.price_status) for entry in entries] == [("measured", "exact")] * 2
    assert all(entry.cost_nano > 0 for entry in entries)


def test_a_batch_of_embeddings_cannot_name_another_model(gateway: GatewayProcess, shop: Shop) -> None:
    asked = {"requests": [{"model": "models/dearer", "content": {"parts": [{"text": "Hi"}]}}]}
    answer = post(gateway, shop, "/gemini/v1beta/models/sim-embed:batchEmbedContents", asked)
    assert (answer.status_code, answer.json()["error"]["sluice"]["code"]) == (400, "invalid_requests")


def test_the_list_of_models(client: genai.Client) -> None:
    assert "models/sim-small" in {model.name for model in client.models.list()}
    assert client.models.get(model="sim-small").name == "models/sim-small"


@pytest.mark.parametrize("script,status", [("400", 400), ("429", 429), ("500", 500), ("503", 503)])
def test_errors_of_the_provider_keep_their_status(client: genai.Client, shop: Shop, script: str, status: int) -> None:
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(model="sim-small", contents=f"Hello [[sim:{script}]]")
    assert caught.value.code == status
    for entry in shop.entries(3 if int(script) >= 500 else 1):  # an error of the server is repeated twice
        assert (entry.state, entry.cost_nano) == ("void", 0)


def test_a_spent_budget_is_a_402_in_googles_shape(client: genai.Client, shop: Shop) -> None:
    shop.do(create_budget, cap="0.000001", period="day", name="Pocket money")
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="sim-small", contents="Hello")
    assert (caught.value.code, caught.value.status) == (402, "FAILED_PRECONDITION")
    details: Any = caught.value.details
    assert details["error"]["sluice"]["cap_usd"] == "0.000001"
    assert details["error"]["details"][0]["reason"] == "BUDGET_EXCEEDED"


def test_a_tight_budget_sets_the_output_limit_that_was_held(
    gateway: GatewayProcess, world: World, echo_upstream: Any
) -> None:
    shop = world.shop(provider="gemini", base_url=echo_upstream.base_url.replace("/v1", "/v1beta"), secret="AIza-test")
    shop.do(create_budget, cap="0.05", period="day", name="Pocket money")
    echo_upstream.answered = json.dumps(
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}}
    ).encode()
    path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"
    answer = post(gateway, shop, path, {**HELLO, "generationConfig": {"temperature": 0.5}})
    assert answer.status_code == 200
    headers, sent = echo_upstream.received
    config = json.loads(sent)["generationConfig"]
    assert config["temperature"] == 0.5
    assert 0 < config["maxOutputTokens"] <= 20_000
    assert headers["x-goog-api-key"] == "AIza-test"


def test_a_key_in_the_address_is_refused(gateway: GatewayProcess, shop: Shop) -> None:
    answer = httpx.post(f"{gateway.url}{GENERATE}?key={shop.key}", json=HELLO)
    assert (answer.status_code, answer.json()["error"]["sluice"]["code"]) == (400, "key_in_url")


@pytest.mark.parametrize(
    "path,body,status,code",
    [
        (GENERATE, {}, 400, "invalid_contents"),
        (GENERATE, {"contents": []}, 400, "invalid_contents"),
        (GENERATE, {**HELLO, "generationConfig": []}, 400, "invalid_type"),
        (GENERATE, {**HELLO, "generationConfig": {"maxOutputTokens": -1}}, 400, "invalid_value"),
        (GENERATE, {**HELLO, "generationConfig": {"maxOutputTokens": "9"}}, 400, "invalid_value"),
        (GENERATE, {**HELLO, "generationConfig": {"candidateCount": 10**6}}, 400, "invalid_value"),
        (GENERATE, {**HELLO, "generationConfig": {}, "generation_config": {}}, 400, "invalid_value"),
        ("/gemini/v1beta/models/nothing-9:generateContent", HELLO, 404, "model_not_found"),
        ("/gemini/v1beta/models/sim-small:predict", HELLO, 404, "endpoint_not_priced"),
        ("/gemini/v1beta/models/sim-small:batchGenerateContent", HELLO, 404, "endpoint_not_priced"),
        ("/gemini/v1beta/cachedContents", HELLO, 404, "endpoint_not_priced"),
        ("/gemini/v1beta/models/..%2Fx:generateContent", HELLO, 404, "endpoint_not_priced"),
    ],
)  # fmt: skip
def test_bad_input(gateway: GatewayProcess, shop: Shop, path: str, body: Any, status: int, code: str) -> None:
    answer = post(gateway, shop, path, body)
    assert (answer.status_code, answer.json()["error"]["sluice"]["code"]) == (status, code)
    assert shop.booked() == []
