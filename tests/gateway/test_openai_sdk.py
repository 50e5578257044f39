"""The official `openai` SDK, unmodified but for `base_url` and key, over its whole chat surface."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.gateway.world import GatewayProcess, Shop

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a city",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def says(script: str) -> list[Any]:
    """A conversation that makes the simulator play a script."""
    return [{"role": "user", "content": f"Hello [[sim:{script}]]"}]


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20)


@pytest.fixture
def asynchronous(gateway: GatewayProcess, shop: Shop) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20)


def test_a_plain_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim-small", messages=HELLO, temperature=0.2, seed=7, stop=["x"], user="u-1"
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None


def test_several_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-small", messages=HELLO, n=3, max_completion_tokens=20)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_a_stream_ends_with_the_same_text_as_its_pieces_and_without_a_usage_chunk_nobody_asked_for(
    client: OpenAI, shop: Shop
) -> None:
    chunks = list(client.chat.completions.create(model="sim-small", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert (entry.basis, entry.cost_nano) == ("measured", line.cost_nano)


def test_a_client_that_asks_for_usage_gets_its_chunk(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="sim-small", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_the_stream_helper_assembles_the_answer(client: OpenAI) -> None:
    with client.chat.completions.stream(model="sim-small", messages=HELLO) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content


def test_tools_are_called_and_their_results_sent_back(client: OpenAI) -> None:
    first = client.chat.completions.create(model="sim-small", messages=HELLO, tools=WEATHER, tool_choice="required")
    [call] = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert "city" in json.loads(call.function.arguments)
    again = [*HELLO, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model="sim-small", messages=again, tools=WEATHER)
    assert second.choices[0].finish_reason in ("stop", "tool_calls")


def test_tool_calls_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="sim-small", messages=HELLO, tools=WEATHER, tool_choice="required"
    ) as stream:
        for _ in stream:
            pass
        calls = stream.get_final_completion().choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["weather"]


def test_pictures_by_value(client: OpenAI) -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    answer = client.chat.completions.create(model="sim-small", messages=[{"role": "user", "content": content}])  # type: ignore[list-item,misc]
    assert answer.choices[0].message.content


class City(BaseModel):
    name: str
    inhabitants: int


def test_a_schema_is_kept_and_parsed(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="sim-small", messages=HELLO, response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)
    with client.chat.completions.stream(model="sim-small", messages=HELLO, response_format=City) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, City)


def test_json_mode(client: OpenAI) -> None:
    asked = [{"role": "user", "content": "Answer in JSON"}]
    answer = client.chat.completions.create(model="sim-small", messages=asked, response_format={"type": "json_object"})  # type: ignore[arg-type]
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


async def test_the_asynchronous_client(asynchronous: AsyncOpenAI) -> None:
    async with asynchronous as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="sim-small", messages=HELLO) for _ in range(8))
        )
        assert all(answer.choices[0].message.content for answer in answers)
        text = ""
        async for chunk in await client.chat.completions.create(model="sim-small", messages=HELLO, stream=True):
            text += chunk.choices[0].delta.content or ""
        assert text
        async with client.chat.completions.stream(model="sim-small", messages=HELLO) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content


def test_the_list_of_models(client: OpenAI) -> None:
    models = {model.id: model.owned_by for model in client.models.list()}
    assert models["sim-small"] == "simulator"
    assert client.models.retrieve("sim-small").id == "sim-small"
    assert client.models.retrieve("simulator/sim-small").id == "sim-small"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-99")


def test_a_model_can_be_asked_of_a_named_provider(client: OpenAI, shop: Shop) -> None:
    answer = client.chat.completions.create(model="simulator/sim-small", messages=HELLO)
    assert answer.model == "sim-small"
    [entry] = shop.entries(1)
    assert (entry.provider, entry.model) == ("simulator", "sim-small")


@pytest.mark.parametrize(
    "script,kind",
    [
        ("400", openai.BadRequestError), ("429", openai.RateLimitError), ("500", openai.InternalServerError), ("503", openai.InternalServerError),
        ("529", openai.InternalServerError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_provider_keep_their_class_and_cost_nothing(
    client: OpenAI, shop: Shop, script: str, kind: type[openai.APIStatusError], stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="sim-small", messages=says(script), stream=stream)
    error: Any = caught.value.body
    assert error["sluice"]["provider"] == "simulator"
    assert error["sluice"]["retry"] is (script != "400")
    assert caught.value.response.headers["x-request-id"]
    for entry in shop.entries(3 if int(script) >= 500 else 1):  # an error of the server is repeated twice
        assert (entry.state, entry.cost_nano, entry.http_status) == ("void", 0, caught.value.status_code)
    assert shop.held_nano() == 0


def test_a_refused_provider_key_is_told_as_the_workspaces_own_affair(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="sim-small", messages=says("401"))
    assert "credential" in caught.value.body["sluice"]["hint"]  # type: ignore[index]


@pytest.mark.parametrize("script,after", [("429-after", "2"), ("429-absurd", "3600"), ("429", None)])
def test_retry_after_of_the_provider_is_kept_up_to_an_hour(client: OpenAI, script: str, after: str | None) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="sim-small", messages=says(script))
    assert caught.value.response.headers.get("retry-after") == after


def test_the_sdk_repeats_what_is_safe_to_repeat_and_nothing_else(gateway: GatewayProcess, shop: Shop) -> None:
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=1, timeout=20)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="sim-small", messages=says("503"))
    assert len(shop.entries(4)) == 4, (
        "free errors: three attempts of ours, then one for the SDK's repetition, not three"
    )
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="sim-small", messages=says("html"))
    assert len(shop.entries(5)) == 5, "what may have been billed is not sent a second time"


def test_a_client_that_times_out_is_still_billed_for_what_it_asked(gateway: GatewayProcess, shop: Shop) -> None:
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="sim-small", messages=says("slow first_ms=1000"))
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert (entry.basis, entry.cost_nano) == ("measured", line.cost_nano)


def test_the_answers_headers_tell_cost_budget_and_overhead(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="sim-small", messages=HELLO)
    headers = raw.headers
    assert float(headers["sluice-cost"]) > 0
    assert float(headers["sluice-overhead-ms"]) < 1000
    assert headers["x-request-id"] == headers["sluice-call-id"]
    assert not {"server", "set-cookie", "access-control-allow-origin", "strict-transport-security"} & set(headers)


def test_other_ways_to_present_the_key(gateway: GatewayProcess, shop: Shop) -> None:
    for name in ("x-api-key", "api-key", "x-goog-api-key"):
        assert httpx.get(f"{gateway.url}/v1/models", headers={name: shop.key}).status_code == 200
    assert httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"bearer {shop.key}"}).status_code == 200
