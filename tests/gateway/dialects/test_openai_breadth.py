"""The official `openai` SDK over what OpenAI offers beside chat: responses, completions, embeddings, moderations; and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from gateway import stored
from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop, World

WEATHER: list[Any] = [
    {
        "type": "function",
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
]


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def bought(gateway: GatewayProcess, world: World) -> Iterator[tuple[OpenAI, Shop]]:
    """A shop whose provider is OpenAI, which the simulator plays."""
    shop = world.shop(provider="openai", base_url=world.simulator.base_url, secret="sk-test")
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client, shop


def billed_as_invoiced(shop: Shop, endpoint: str) -> None:
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)
    assert entry.endpoint == endpoint


# --- Responses --------------------------------------------------------------------------------------------------------


def test_a_response_is_billed_to_the_nano(client: OpenAI, shop: Shop) -> None:
    answer = client.responses.create(model="sim-small", input="Hello there", instructions="Be brief", store=False)
    assert answer.output_text
    assert answer.usage is not None
    billed_as_invoiced(shop, "/v1/responses")


def test_a_response_streams_as_typed_events_and_is_billed_by_the_last(client: OpenAI, shop: Shop) -> None:
    kinds = []
    with client.responses.stream(model="sim-small", input="Hello there") as stream:
        for event in stream:
            kinds.append(event.type)
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text
    billed_as_invoiced(shop, "/v1/responses")


def test_an_incomplete_response_is_billed_in_full(client: OpenAI, shop: Shop) -> None:
    *_, last = client.responses.create(
        model="sim-small", input="Hello [[sim:ok tokens=200]]", max_output_tokens=20, stream=True
    )
    assert last.type == "response.incomplete"
    billed_as_invoiced(shop, "/v1/responses")


def test_functions_are_called_and_their_results_sent_back(client: OpenAI) -> None:
    first = client.responses.create(model="sim-small", input="Hello", tools=WEATHER, tool_choice="required")
    [call] = [item for item in first.output if item.type == "function_call"]
    again: Any = [
        {"role": "user", "content": "Hello"},
        call,
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    assert client.responses.create(model="sim-small", input=again, tools=WEATHER, tool_choice="none").output_text


class City(BaseModel):
    name: str
    inhabitants: int


def test_a_schema_is_kept_and_parsed(client: OpenAI) -> None:
    assert isinstance(client.responses.parse(model="sim-small", input="Hello", text_format=City).output_parsed, City)


async def test_the_asynchronous_client(gateway: GatewayProcess, shop: Shop) -> None:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        async with client.responses.stream(model="sim-small", input="Hello") as stream:
            assert (await stream.get_final_response()).output_text


def test_counting_the_input_of_a_response_is_free(client: OpenAI, shop: Shop) -> None:
    assert client.responses.input_tokens.count(model="sim-small", input="Hello").input_tokens > 0
    assert shop.booked() == []


def test_a_background_that_is_no_boolean_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="sim-small", input="Hello", background="yes")  # type: ignore[call-overload]
    assert caught.value.code == "invalid_type"


def test_stored_context_under_a_hard_budget_is_held_at_the_whole_window(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="0.005", period="day", name="Pocket money")
    assert client.responses.create(model="sim-small", input="Hello", max_output_tokens=20).output_text
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model="sim-small", input="Go on", max_output_tokens=20, previous_response_id="resp_1")
    assert caught.value.status_code == 402


def test_a_response_that_breaks_off_is_told_in_the_stream_and_charged_as_held(client: OpenAI, shop: Shop) -> None:
    with pytest.raises(openai.APIError):
        for _ in client.responses.create(model="sim-small", input="Hello [[sim:cut k=8]]", stream=True):
            pass
    [entry] = shop.entries(1)
    assert entry.basis == "assumed"


# --- Completions, embeddings, moderations -----------------------------------------------------------------------------


def test_a_completion_is_billed_to_the_nano(client: OpenAI, shop: Shop) -> None:
    assert client.completions.create(model="sim-small", prompt="Once upon a time", max_tokens=30).choices[0].text
    billed_as_invoiced(shop, "/v1/completions")


def test_a_completion_streams_and_its_usage_chunk_stays_here(client: OpenAI, shop: Shop) -> None:
    chunks = list(client.completions.create(model="sim-small", prompt="Once", max_tokens=30, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    billed_as_invoiced(shop, "/v1/completions")


def test_embeddings_are_billed_by_their_input(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    answer = client.embeddings.create(
        model="text-embedding-3-small", input=["Hello there, who are you?", "b"], dimensions=64
    )
    assert [len(row.embedding) for row in answer.data] == [64, 64]
    [entry] = shop.entries(1)
    assert (entry.basis, entry.price_status, entry.endpoint) == ("measured", "exact", "/v1/embeddings")
    assert entry.cost_nano == answer.usage.prompt_tokens * 20


def test_moderations_are_free(client: OpenAI, shop: Shop) -> None:
    assert client.moderations.create(model="omni-moderation-latest", input="flag me").results[0].flagged
    assert shop.booked() == []
    assert shop.held_nano() == 0


@pytest.mark.parametrize(
    "path,body,code",
    [
        ("responses", {"model": "sim-small", "input": 5}, "invalid_type"),
        ("responses", {"input": "x"}, "missing_model"),
        ("responses", {"model": "sim-small", "input": "x", "max_output_tokens": -1}, "invalid_value"),
        ("responses", {"model": "sim-small", "input": "x", "stream": 1}, "invalid_type"),
        ("completions", {"model": "sim-small", "prompt": 5}, "invalid_type"),
        ("completions", {"model": "sim-small", "prompt": "x", "n": 1e9}, "invalid_value"),
        ("completions", {"model": "sim-small", "prompt": "x", "best_of": "3"}, "invalid_value"),
        ("embeddings", {"model": "sim-small", "input": []}, "invalid_input"),
        ("embeddings", {"model": "sim-small"}, "invalid_input"),
        ("moderations", {"model": 5, "input": "x"}, "missing_model"),
    ],
)
def test_bad_input(gateway: GatewayProcess, shop: Shop, path: str, body: Any, code: str) -> None:
    answer = httpx.post(f"{gateway.url}/v1/{path}", json=body, headers={"authorization": f"Bearer {shop.key}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert shop.booked() == []


# --- What is refused (S71) --------------------------------------------------------------------------------------------

CALL = re.compile(
    r'self\._(?:post|get|delete|put|patch|get_api_list)\(\s*(?:f?"(/[^"]*)"|path_template\(\s*"(/[^"]*)")'
)
OFFERED = {
    ("/v1/chat/completions"), "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/moderations", "/v1/models",
    "/v1/responses/input_tokens", "/v1/models/x", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations",
    "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations",
}  # fmt: skip


def paths_of(package: str) -> Iterator[str]:
    """Every path that an SDK can ask, from its source."""
    todo = [files(package)]
    while todo:
        for found in todo.pop().iterdir():
            if found.is_dir():
                todo.append(found)
            elif found.name.endswith(".py"):
                for pair in CALL.findall(found.read_text()):
                    yield re.sub(r"\{[^}]*\}", "x", (pair[0] or pair[1]).partition("?")[0])


def is_kept(path: str) -> bool:
    """A path of what providers keep: `test_kept.py` is about those."""
    return stored.find({"path": path, "raw_path": path.encode()}) is not None


def test_every_other_path_of_openais_api_is_refused_by_name_and_never_proxied(
    gateway: GatewayProcess, shop: Shop
) -> None:
    paths = {"/v1" + path for path in paths_of("openai.resources")} - OFFERED
    assert len(paths) > 100
    paths = {path for path in paths if not is_kept(path)}
    assert {
        "/v1/uploads",
        "/v1/vector_stores",
        "/v1/audio/voices",
        "/v1/fine_tuning/jobs",
        "/v1/responses/compact",
    } <= paths
    billed = len(shop.world.simulator.invoice())
    headers = {"authorization": f"Bearer {shop.key}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=20) as http:
        for path in sorted(paths):
            for answer in (http.post(path, json={"model": "sim-small"}), http.get(path)):
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "endpoint_not_priced"), path
    assert len(shop.world.simulator.invoice()) == billed


def test_every_other_path_of_anthropics_api_is_refused_in_its_shape(gateway: GatewayProcess, shop: Shop) -> None:
    found = {"/anthropic" + path for path in paths_of("anthropic.resources")}
    paths = {path for path in found if path not in ("/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens")}
    paths = {path for path in paths if not path.startswith("/anthropic/v1/models")}
    paths = {path for path in paths if not is_kept(path)}
    assert "/anthropic/v1/files" in paths
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": shop.key}, timeout=20) as http:
        for path in sorted(paths):
            error = http.post(path, json={"model": "sim-small"}).json()
            assert (error["type"], error["error"]["code"]) == ("error", "endpoint_not_priced"), path


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions/", "/v1//responses", "/v1/responses;x", "/v1/%72esponses", "/v2/responses", "/v1/nothing"],
)
def test_a_path_that_is_spelled_otherwise_is_unknown(gateway: GatewayProcess, shop: Shop, path: str) -> None:
    answer = httpx.post(f"{gateway.url}{path}", json={}, headers={"authorization": f"Bearer {shop.key}"})
    assert answer.status_code == 404
