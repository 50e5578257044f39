"""The official `anthropic` SDK, unmodified but for `base_url` and key, over the messages surface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from guardrails.actions import create_budget
from tests.gateway.world import GatewayProcess, Shop

HELLO: list[Any] = [{"role": "user", "content": "Hello there"}]
WEATHER: list[Any] = [
    {
        "name": "weather",
        "description": "Weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Place(BaseModel):
    city: str


def says(script: str) -> list[Any]:
    return [{"role": "user", "content": f"Hello [[sim:{script}]]"}]


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> Iterator[Anthropic]:
    with Anthropic(base_url=f"{gateway.url}/anthropic", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client


def billed_as_invoiced(shop: Shop) -> None:
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)
    assert entry.endpoint == "/anthropic/v1/messages"


def test_a_message_is_answered_and_billed_to_the_nano(client: Anthropic, shop: Shop) -> None:
    message = client.messages.create(model="sim-small", max_tokens=200, messages=HELLO, system="Be brief")
    assert message.type == "message"
    assert message.content[0].type == "text"
    assert message.stop_reason == "end_turn"
    billed_as_invoiced(shop)


def test_a_stream_passes_event_by_event_and_is_billed_by_its_cumulative_usage(client: Anthropic, shop: Shop) -> None:
    with client.messages.stream(model="sim-small", max_tokens=200, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text  # type: ignore[union-attr]
    assert final.usage.output_tokens > 1
    billed_as_invoiced(shop)


def test_a_prompt_is_cached_without_an_answer_also_under_a_hard_budget(client: Anthropic, shop: Shop) -> None:
    shop.do(create_budget, cap="5", period="day", name="Cap")
    message = client.messages.create(model="sim-small", max_tokens=0, messages=HELLO)
    assert (message.content, message.usage.output_tokens) == ([], 0)
    billed_as_invoiced(shop)


def test_the_raw_stream_has_every_kind_of_event(client: Anthropic) -> None:
    kinds = [e.type for e in client.messages.create(model="sim-small", max_tokens=99, messages=HELLO, stream=True)]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


def test_tools_are_called_and_their_results_sent_back(client: Anthropic, shop: Shop) -> None:
    first = client.messages.create(
        model="sim-small", max_tokens=300, messages=HELLO, tools=WEATHER, tool_choice={"type": "any"}
    )
    [call] = [block for block in first.content if block.type == "tool_use"]
    assert "city" in call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    again: Any = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(model="sim-small", max_tokens=300, messages=again, tools=WEATHER).content


def test_a_schema_is_kept_and_parsed(client: Anthropic) -> None:
    parsed = client.messages.parse(model="sim-small", max_tokens=300, messages=HELLO, output_format=Place)
    assert isinstance(parsed.parsed_output, Place)


def test_pictures_by_value(client: Anthropic) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    asked: Any = [{"role": "user", "content": [picture, {"type": "text", "text": "What is this?"}]}]
    assert client.messages.create(model="sim-small", max_tokens=99, messages=asked).content


async def test_the_asynchronous_client(gateway: GatewayProcess, shop: Shop) -> None:
    async with AsyncAnthropic(
        base_url=f"{gateway.url}/anthropic", auth_token=shop.key, max_retries=0, timeout=20
    ) as client:
        async with client.messages.stream(model="sim-small", max_tokens=99, messages=HELLO) as stream:
            assert (await stream.get_final_message()).content


def test_counting_tokens_is_free_and_leaves_no_trace(client: Anthropic, shop: Shop) -> None:
    assert client.messages.count_tokens(model="sim-small", messages=HELLO).input_tokens > 0
    assert shop.booked() == []
    assert shop.held_nano() == 0


def test_counting_tokens_needs_a_key(gateway: GatewayProcess) -> None:
    client = Anthropic(base_url=f"{gateway.url}/anthropic", api_key="slk_wrong", max_retries=0)
    with client, pytest.raises(anthropic.AuthenticationError):
        client.messages.count_tokens(model="sim-small", messages=HELLO)


def test_the_list_of_models(client: Anthropic) -> None:
    assert "sim-small" in {model.id for model in client.models.list()}
    assert client.models.retrieve("sim-small").type == "model"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-99")


@pytest.mark.parametrize(
    "script,kind",
    [("400", anthropic.BadRequestError), ("429", anthropic.RateLimitError), ("500", anthropic.InternalServerError),
     ("529", anthropic.InternalServerError)],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_provider_keep_their_class_and_cost_nothing(
    client: Anthropic, shop: Shop, script: str, kind: type[anthropic.APIStatusError], stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.messages.create(model="sim-small", max_tokens=99, messages=says(script), stream=stream)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["sluice"]["provider"] == "simulator"
    for entry in shop.entries(3 if int(script) >= 500 else 1):  # an error of the server is repeated twice
        assert (entry.state, entry.cost_nano) == ("void", 0)


def test_a_stream_that_breaks_off_ends_with_an_error_event_and_is_charged_as_held(
    client: Anthropic, shop: Shop
) -> None:
    with pytest.raises(anthropic.APIStatusError):
        for _ in client.messages.create(model="sim-small", max_tokens=99, messages=says("cut k=8"), stream=True):
            pass
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert entry.basis == "assumed", "the start's usage is a placeholder, not a bill"
    assert entry.cost_nano >= line.cost_nano


def test_who_hangs_up_pays_what_was_generated(gateway: GatewayProcess, shop: Shop) -> None:
    body = {"model": "sim-small", "max_tokens": 200, "stream": True, "messages": says("drip gap_ms=5")}
    with httpx.stream(
        "POST", f"{gateway.url}/anthropic/v1/messages", json=body, headers={"x-api-key": shop.key}, timeout=20
    ) as answer:
        next(answer.iter_bytes())
    billed_as_invoiced(shop)


# --- Refusals in Anthropic's shape ------------------------------------------------------------------------------------


def post(gateway: GatewayProcess, key: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/anthropic/v1/messages",
        content=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"x-api-key": key, "content-type": "application/json", **headers},
        timeout=20,
    )


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "sim-small", "max_tokens": 50, "messages": HELLO, **more}


@pytest.mark.parametrize(
    "body,status,kind,code",
    [
        (b"{", 400, "invalid_request_error", "invalid_json"),
        (b'{"model":"sim-small","model":"x"}', 400, "invalid_request_error", "invalid_json"),
        (asked(max_tokens=None), 400, "invalid_request_error", "missing_max_tokens"),
        (asked(max_tokens=-1), 400, "invalid_request_error", "invalid_value"),
        (asked(max_tokens="9"), 400, "invalid_request_error", "invalid_value"),
        (asked(max_tokens=1e18), 400, "invalid_request_error", "invalid_value"),
        (asked(max_tokens=True), 400, "invalid_request_error", "invalid_value"),
        (asked(messages=[]), 400, "invalid_request_error", "invalid_messages"),
        (asked(stream="true"), 400, "invalid_request_error", "invalid_type"),
        (asked(model=7), 400, "invalid_request_error", "missing_model"),
        (asked(api_base="http://x"), 400, "invalid_request_error", "field_not_allowed"),
        (asked(model="gpt-nothing"), 404, "not_found_error", "model_not_found"),
    ],
)
def test_bad_input(gateway: GatewayProcess, shop: Shop, body: Any, status: int, kind: str, code: str) -> None:
    answer = post(gateway, shop.key, body)
    said = answer.json()
    assert (answer.status_code, said["type"], said["error"]["type"], said["error"]["code"]) == (
        status,
        "error",
        kind,
        code,
    )
    assert said["request_id"] == answer.headers["x-request-id"]
    assert shop.booked() == []


def test_a_spent_budget_is_a_402_in_anthropics_words(client: Anthropic, shop: Shop) -> None:
    shop.do(create_budget, cap="0.000001", period="day", name="Pocket money")
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="sim-small", max_tokens=500, messages=HELLO)
    body: Any = caught.value.body
    assert caught.value.status_code == 402
    assert (body["error"]["type"], body["error"]["code"]) == ("billing_error", "budget_exceeded")
    assert body["error"]["sluice"]["cap_usd"] == "0.000001"


def test_betas_on_the_list_reach_the_provider_and_other_headers_do_not(
    gateway: GatewayProcess, world: Any, echo_upstream: Any
) -> None:
    shop = world.shop(provider="anthropic", base_url=echo_upstream.base_url, secret="sk-ant-secret")
    usage = {"input_tokens": 3, "output_tokens": 2}
    echo_upstream.answered = json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [],
            "usage": usage,
        }
    ).encode()
    body = json.dumps({**asked(), "model": "claude-sonnet-4-5", "odd": 1.10}).encode()
    beta = {"anthropic-beta": "interleaved-thinking-2025-05-14", "cookie": "a=b", "anthropic-version": "2023-06-01"}
    answer = post(gateway, shop.key, body, **beta)
    assert answer.content == echo_upstream.answered
    headers, sent = echo_upstream.received
    assert sent == body
    assert headers["x-api-key"] == "sk-ant-secret"
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert not {"cookie", "authorization"} & headers.keys()
    [entry] = shop.entries(1)
    assert (entry.provider, entry.cost_nano) == ("anthropic", 3 * 3_000 + 2 * 15_000)


def test_an_openai_model_is_not_reached_through_anthropics_surface(gateway: GatewayProcess, world: Any) -> None:
    shop = world.shop(provider="openai", secret="sk-x")
    answer = post(gateway, shop.key, asked(model="gpt-4o-mini"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_on_endpoint")
