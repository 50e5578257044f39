"""`model="claude-..."` and `model="gemini-..."` from the unmodified `openai` SDK: the answer is OpenAI's, the bill the provider's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop, World

HELLO: list[Any] = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello there"}]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass
class Bought:
    shop: Shop
    client: OpenAI
    model: str
    already: int

    def billed_as_invoiced(self) -> None:
        [entry] = self.shop.entries(1)
        [line] = self.shop.world.simulator.invoice()[self.already :]
        assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)
        assert (entry.model, entry.endpoint) == (self.model, "/v1/chat/completions")


@pytest.fixture(params=MODELS)
def bought(request: pytest.FixtureRequest, gateway: GatewayProcess, world: World) -> Iterator[Bought]:
    shop = world.shop(provider=request.param, base_url=world.simulator.base_url, secret="test-key")
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield Bought(shop, client, MODELS[request.param], len(world.simulator.invoice()))


def says(script: str) -> list[Any]:
    return [{"role": "user", "content": f"Hello [[sim:{script}]]"}]


def test_an_answer(bought: Bought) -> None:
    answer = bought.client.chat.completions.create(model=bought.model, messages=HELLO, max_tokens=100)
    assert answer.choices[0].message.content
    assert (answer.choices[0].finish_reason, answer.object) == ("stop", "chat.completion")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    bought.billed_as_invoiced()


def test_a_stream_with_the_usage_that_was_asked_for(bought: Bought) -> None:
    chunks = list(
        bought.client.chat.completions.create(
            model=bought.model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1
    bought.billed_as_invoiced()


def test_the_stream_helper(bought: Bought) -> None:
    with bought.client.chat.completions.stream(model=bought.model, messages=HELLO) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content
    bought.billed_as_invoiced()


def test_tools_are_called_and_answered_streamed_and_whole(bought: Bought) -> None:
    chat = bought.client.chat.completions
    first = chat.create(model=bought.model, messages=HELLO, tools=WEATHER, tool_choice="required")
    [call] = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert "city" in json.loads(call.function.arguments)
    assert first.choices[0].finish_reason == "tool_calls"
    again: Any = [*HELLO, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert chat.create(model=bought.model, messages=again, tools=WEATHER).choices[0].message.content
    with chat.stream(model=bought.model, messages=HELLO, tools=WEATHER, tool_choice="required") as stream:
        for _ in stream:
            pass
        calls = stream.get_final_completion().choices[0].message.tool_calls or []
    assert [found.function.name for found in calls] == ["weather"]


def test_pictures(bought: Bought) -> None:
    asked: Any = [
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]}
    ]
    assert bought.client.chat.completions.create(model=bought.model, messages=asked).choices[0].message.content


class City(BaseModel):
    name: str
    inhabitants: int


def test_a_schema_is_kept_and_parsed(bought: Bought) -> None:
    answer = bought.client.chat.completions.parse(model=bought.model, messages=HELLO, response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


async def test_the_asynchronous_client(bought: Bought, gateway: GatewayProcess) -> None:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=bought.shop.key, max_retries=0, timeout=20) as client:
        async with client.chat.completions.stream(model=bought.model, messages=HELLO) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content


@pytest.mark.parametrize(
    "script,kind",
    [("400", openai.BadRequestError), ("429", openai.RateLimitError), ("529", openai.InternalServerError)],
)
def test_errors_before_the_answer_keep_their_class_and_cost_nothing(bought: Bought, script: str, kind: Any) -> None:
    with pytest.raises(kind) as caught:
        bought.client.chat.completions.create(model=bought.model, messages=says(script))
    assert caught.value.code
    for entry in bought.shop.entries(3 if int(script) >= 500 else 1):  # an error of the server is repeated twice
        assert (entry.state, entry.cost_nano) == ("void", 0)


def test_a_stream_that_breaks_off_is_an_error_and_charged_as_held(bought: Bought) -> None:
    with pytest.raises(openai.APIError):
        for _ in bought.client.chat.completions.create(
            model=bought.model, messages=says("cut k=8"), stream=True, max_tokens=100
        ):
            pass
    [entry] = bought.shop.entries(1)
    [line] = bought.shop.world.simulator.invoice()[bought.already :]
    assert entry.basis == "assumed"
    assert entry.cost_nano >= line.cost_nano


def test_what_the_other_api_cannot_do_is_a_400_that_names_it(bought: Bought) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        bought.client.chat.completions.create(model=bought.model, messages=HELLO, logprobs=True)
    assert (caught.value.code, caught.value.param) == ("not_translatable", "logprobs")
    assert bought.shop.booked() == []


def test_the_hold_is_of_what_is_sent_and_fits_under_a_cap(bought: Bought) -> None:
    bought.shop.do(create_budget, cap="0.05", period="day", name="Pocket money")
    answer = bought.client.chat.completions.with_raw_response.create(model=bought.model, messages=HELLO)
    assert answer.parse().choices[0].message.content
    assert int(answer.headers["sluice-clamped"]) > 0
    bought.billed_as_invoiced()


def test_the_list_of_models_has_them(bought: Bought) -> None:
    assert bought.model in {model.id for model in bought.client.models.list()}


def test_googles_list_of_claude_models_is_not_offered_by_the_gemini_api(gateway: GatewayProcess, world: World) -> None:
    shop = world.shop(provider="gemini", base_url=world.simulator.base_url, secret="x")
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0)
    with client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="claude-sonnet-4-5", messages=HELLO)
