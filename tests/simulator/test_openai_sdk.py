"""The official `openai` SDK, straight at the simulator: what a gateway in between must not change."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.rig.simulator import Simulator

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
HELLO = [{"role": "user", "content": "Say hello"}]


@pytest.fixture
def client(simulator: Simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=simulator.base_url, api_key="sim-key", max_retries=0) as client:
        yield client


def test_a_plain_answer_carries_text_and_usage_that_adds_up(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-small", messages=HELLO)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3  # nine bytes
    assert answer.usage.completion_tokens == -(-len(answer.choices[0].message.content.encode()) // 4)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_as_the_plain_answer(client: OpenAI) -> None:
    plain = client.chat.completions.create(model="sim-small", messages=HELLO)
    stream = client.chat.completions.create(
        model="sim-small", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_without_include_usage_never_mentions_usage(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="sim-small", messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(client: OpenAI) -> None:
    def said(seed: int) -> str | None:
        return client.chat.completions.create(model="sim-small", messages=HELLO, seed=seed).choices[0].message.content

    assert said(7) == said(7)
    assert len({said(seed) for seed in range(6)}) > 1


def test_offered_tools_are_called_in_parallel_with_arguments_that_fit_their_schemas(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-small", messages=HELLO, tools=[WEATHER, CLOCK])
    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert json.loads(calls[0].function.arguments)["unit"] in {"C", "F"}
    assert len({call.id for call in calls}) == 2


def test_one_call_only_when_parallel_calls_are_switched_off(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim-small", messages=HELLO, tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )
    assert len(answer.choices[0].message.tool_calls or []) == 1


def test_streamed_tool_calls_assemble_to_the_plain_ones(client: OpenAI) -> None:
    plain = client.chat.completions.create(model="sim-small", messages=HELLO, tools=[WEATHER, CLOCK])
    with client.chat.completions.stream(model="sim-small", messages=HELLO, tools=[WEATHER, CLOCK]) as stream:
        assembled = stream.get_final_completion()
    wanted = [(c.id, c.function.name, c.function.arguments) for c in plain.choices[0].message.tool_calls or []]
    assert [
        (c.id, c.function.name, c.function.arguments) for c in assembled.choices[0].message.tool_calls or []
    ] == wanted


def test_a_tool_result_is_answered_with_text(client: OpenAI) -> None:
    first = client.chat.completions.create(model="sim-small", messages=HELLO, tools=[WEATHER]).choices[0].message
    assert first.tool_calls
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "21 degrees"}
    answer = client.chat.completions.create(
        model="sim-small", messages=[*HELLO, first.model_dump(exclude_none=True), result], tools=[WEATHER]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_time"}}])
def test_a_demanded_tool_is_called_and_a_forbidden_one_is_not(client: OpenAI, choice: object) -> None:
    demanded = client.chat.completions.create(
        model="sim-small", messages=HELLO, tools=[WEATHER, CLOCK], tool_choice=choice, parallel_tool_calls=False
    )
    forbidden = client.chat.completions.create(model="sim-small", messages=HELLO, tools=[CLOCK], tool_choice="none")
    assert demanded.choices[0].message.tool_calls
    assert forbidden.choices[0].message.tool_calls is None


def test_a_structured_answer_parses_into_the_callers_model(client: OpenAI) -> None:
    class Step(BaseModel):
        explanation: str
        result: float

    class Solution(BaseModel):
        steps: list[Step]
        answer: int
        confident: bool

    parsed = client.chat.completions.parse(model="sim-small", messages=HELLO, response_format=Solution)
    assert isinstance(parsed.choices[0].message.parsed, Solution)


def test_json_mode_answers_with_an_object(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-small", messages=HELLO, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@pytest.mark.parametrize("url", ["https://example.com/cat.png", "data:image/png;base64," + "A" * 4000])
def test_pictures_count_as_input_but_never_more_than_their_bytes(client: OpenAI, url: str) -> None:
    parts = [{"type": "text", "text": "Say hello"}, {"type": "image_url", "image_url": {"url": url}}]
    seen = client.chat.completions.create(model="sim-small", messages=[{"role": "user", "content": parts}])
    assert seen.usage is not None
    assert 3 < seen.usage.prompt_tokens <= len(url) + 9


@pytest.mark.parametrize("limit", [{"max_tokens": 5}, {"max_completion_tokens": 5}])
@pytest.mark.parametrize("model", ["sim-small", "sim-reasoner"])
def test_output_limits_are_obeyed_to_the_token(client: OpenAI, model: str, limit: dict[str, int]) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, **limit)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_reasoning_is_hidden_but_counted_inside_completion_tokens(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-reasoner", messages=HELLO)
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    reasoning = answer.usage.completion_tokens_details.reasoning_tokens or 0
    visible = -(-len((answer.choices[0].message.content or "").encode()) // 4)
    assert reasoning >= 32
    assert answer.usage.completion_tokens == reasoning + visible


def test_several_choices_are_all_billed_on_one_usage(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-small", messages=HELLO, n=3, max_tokens=10)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 30


def test_a_stop_sequence_ends_the_answer_before_itself(client: OpenAI) -> None:
    ask = [{"role": "user", "content": "[[sim:echo]] one two three four"}]
    answer = client.chat.completions.create(model="sim-small", messages=ask, stop=[" three"])
    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].finish_reason == "stop"


def test_log_probabilities_come_for_every_token_when_asked(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="sim-small", messages=HELLO, logprobs=True, top_logprobs=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == answer.choices[0].message.content
    assert {len(entry.top_logprobs) for entry in logprobs.content} == {3}


def test_the_service_tier_is_named_in_the_answer(client: OpenAI) -> None:
    assert client.chat.completions.create(model="sim-small", messages=HELLO).service_tier == "default"
    assert client.chat.completions.create(model="sim-small", messages=HELLO, service_tier="flex").service_tier == "flex"


def test_a_repeated_long_prompt_is_cached_in_steps_of_128_tokens(client: OpenAI) -> None:
    long = [{"role": "system", "content": "the same long preamble " * 300}, *HELLO]
    first = client.chat.completions.create(model="sim-large", messages=long).usage
    second = client.chat.completions.create(model="sim-large", messages=long).usage
    assert first is not None
    assert second is not None
    assert first.prompt_tokens_details is not None
    assert second.prompt_tokens_details is not None
    cached = second.prompt_tokens_details.cached_tokens or 0
    assert first.prompt_tokens_details.cached_tokens == 0
    assert 1024 <= cached <= second.prompt_tokens
    assert cached % 128 == 0


def test_models_can_be_listed_and_looked_up(client: OpenAI) -> None:
    assert {"sim-small", "sim-large", "sim-reasoner"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("sim-small").owned_by == "sluice-simulator"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-imaginary")


@pytest.mark.parametrize("dimensions", [8, 256])
def test_embeddings_are_unit_vectors_of_the_wanted_size(client: OpenAI, dimensions: int) -> None:
    made = client.embeddings.create(model="sim-embed", input=["one", "two"], dimensions=dimensions)
    assert [len(row.embedding) for row in made.data] == [dimensions, dimensions]
    assert sum(value * value for value in made.data[0].embedding) == pytest.approx(1, abs=1e-4)
    assert made.usage.prompt_tokens == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("529", openai.InternalServerError),
        ("429", openai.RateLimitError),
        ("401", openai.AuthenticationError),
        ("400", openai.BadRequestError),
    ],
)
def test_scripted_refusals_arrive_as_the_sdks_own_errors(client: OpenAI, status: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=f"sim-small:{status}", messages=HELLO)
    assert isinstance(caught.value, openai.APIStatusError)
    assert caught.value.request_id


def test_a_key_that_begins_with_sim_bad_is_refused(simulator: Simulator) -> None:
    with OpenAI(base_url=simulator.base_url, api_key="sim-bad-key", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
            client.chat.completions.create(model="sim-small", messages=HELLO)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_bad_parameters_are_refused_by_name(client: OpenAI, body: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body={"model": "sim-small", "messages": HELLO, **body}, cast_to=object)
    assert caught.value.param == param


def test_a_prompt_beyond_the_context_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="sim-small", messages=[{"role": "user", "content": "x" * 600_000}])
    assert caught.value.code == "context_length_exceeded"
