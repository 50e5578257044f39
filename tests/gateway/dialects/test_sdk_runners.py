"""Tool runners, streaming helpers and structured outputs of the unmodified `openai` and `google-genai` SDKs, in both of their clients.

Anthropic's are in `test_anthropic_runners`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI
from openai.lib.responses_tool_runner import (
    AsyncRegisteredFunction,
    AsyncResponsesToolRunner,
    RegisteredFunction,
    ResponsesToolRunner,
)
from pydantic import BaseModel

from tests.gateway.world import GatewayProcess, Shop

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
HELLO: Any = {"model": "sim-small", "input": "Weather in Lyon?", "max_output_tokens": 200}


class City(BaseModel):
    name: str
    inhabitants: int


def settled_as_invoiced(shop: Shop, count: int) -> None:
    entries = shop.entries(count)
    assert len(entries) == count
    for entry in entries:
        line = shop.world.simulator.line_of(str(entry.rid))
        assert line is not None
        assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)


def openai(gateway: GatewayProcess, shop: Shop) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20)


def asynchronous(gateway: GatewayProcess, shop: Shop) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20)


def gemini(gateway: GatewayProcess, shop: Shop) -> genai.Client:
    options = types.HttpOptions(base_url=f"{gateway.url}/gemini", timeout=20_000)
    return genai.Client(api_key=shop.key, http_options=options)


# --- OpenAI -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stream", "eager"), [(False, False), (True, False), (True, True)])
def test_the_responses_tool_runner_runs_to_its_answer(
    gateway: GatewayProcess, shop: Shop, stream: bool, eager: bool
) -> None:
    cities: list[object] = []

    def weather(arguments: dict[str, object]) -> str:
        cities.append(arguments["city"])
        return "sunny"

    runner = ResponsesToolRunner(functions=[RegisteredFunction(WEATHER, weather)])
    with openai(gateway, shop) as client:
        final = runner.run(client, HELLO, stream=stream, eager=eager)
    assert final.output_text
    assert len(cities) == 1
    settled_as_invoiced(shop, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_the_asynchronous_responses_tool_runner(gateway: GatewayProcess, shop: Shop, stream: bool) -> None:
    async def weather(arguments: dict[str, object]) -> str:
        return f"sunny in {arguments['city']}"

    async def run() -> str:
        runner = AsyncResponsesToolRunner(functions=[AsyncRegisteredFunction(WEATHER, weather)])
        async with asynchronous(gateway, shop) as client:
            return (await runner.run(client, HELLO, stream=stream)).output_text

    assert asyncio.run(run())
    settled_as_invoiced(shop, 2)


def test_streaming_helpers_parse_what_a_schema_asks_for(gateway: GatewayProcess, shop: Shop) -> None:
    said: Any = [{"role": "user", "content": "A city"}]

    async def later() -> list[Any]:
        async with asynchronous(gateway, shop) as client:
            async with client.chat.completions.stream(model="sim-small", messages=said, response_format=City) as chat:
                one = (await chat.get_final_completion()).choices[0].message.parsed
            parsed = await client.chat.completions.parse(model="sim-small", messages=said, response_format=City)
            return [one, parsed.choices[0].message.parsed]

    with openai(gateway, shop) as client:
        with client.chat.completions.stream(model="sim-small", messages=said, response_format=City) as chat:
            found: list[Any] = [chat.get_final_completion().choices[0].message.parsed]
        with client.responses.stream(model="sim-small", input="A city", text_format=City) as stream:
            found.append(stream.get_final_response().output_parsed)
    found += asyncio.run(later())
    assert [type(one) for one in found] == [City] * 4
    settled_as_invoiced(shop, 4)


# --- Google -----------------------------------------------------------------------------------------------------------


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def test_functions_are_called_by_the_asynchronous_client_too(gateway: GatewayProcess, shop: Shop) -> None:
    config = types.GenerateContentConfig(tools=[weather], max_output_tokens=200)

    async def run() -> Any:
        client = gemini(gateway, shop)
        answer = await client.aio.models.generate_content(model="sim-small", contents="Weather?", config=config)
        await client.aio.aclose()
        return answer

    answer = asyncio.run(run())
    assert answer.text
    assert answer.automatic_function_calling_history
    settled_as_invoiced(shop, 2)


def test_functions_are_called_in_the_middle_of_a_stream(gateway: GatewayProcess, shop: Shop) -> None:
    config = types.GenerateContentConfig(tools=[weather], max_output_tokens=200)
    client = gemini(gateway, shop)
    pieces = list(client.models.generate_content_stream(model="sim-small", contents="Weather?", config=config))
    client.close()
    assert "".join(piece.text or "" for piece in pieces if piece.candidates)
    settled_as_invoiced(shop, 2)


def test_a_schema_is_parsed_by_the_asynchronous_client_and_its_chats(gateway: GatewayProcess, shop: Shop) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)

    async def run() -> list[Any]:
        client = gemini(gateway, shop)
        chat = client.aio.chats.create(model="sim-small", config=config)
        parsed = [(await chat.send_message("A city")).parsed]
        async for _ in await chat.send_message_stream("Another"):
            pass
        await client.aio.aclose()
        return parsed

    assert isinstance(asyncio.run(run())[0], City)
    settled_as_invoiced(shop, 2)
