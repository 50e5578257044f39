"""The official `anthropic` and `google-genai` SDKs, straight at the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from google import genai
from google.genai import errors, types

from tests.rig.simulator import Simulator

HELLO = [{"role": "user", "content": "Say hello"}]
WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def claude(simulator: Simulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=simulator.address, api_key="sim-key", max_retries=0) as client:
        yield client


@pytest.fixture
def gemini(simulator: Simulator) -> Iterator[genai.Client]:
    client = genai.Client(api_key="sim-key", http_options=types.HttpOptions(base_url=simulator.address))
    yield client
    client.close()


def test_an_anthropic_message_has_text_and_usage(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="sim-small", max_tokens=500, messages=HELLO)
    assert message.stop_reason == "end_turn"
    assert message.content[0].type == "text"
    assert message.usage.input_tokens == 3
    assert message.usage.output_tokens == -(-len(message.content[0].text) // 4)


def test_an_anthropic_stream_assembles_to_the_plain_message(claude: anthropic.Anthropic) -> None:
    plain = claude.messages.create(model="sim-small", max_tokens=500, messages=HELLO)
    with claude.messages.stream(model="sim-small", max_tokens=500, messages=HELLO) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[0].type == plain.content[0].type == "text"
    assert streamed.content[0].text == plain.content[0].text
    assert streamed.usage.output_tokens == plain.usage.output_tokens
    assert streamed.stop_reason == plain.stop_reason


def test_an_anthropic_tool_is_used_and_its_result_answered(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="sim-small", max_tokens=500, messages=HELLO, tools=[WEATHER]) as stream:
        asked = stream.get_final_message()
    use = asked.content[0]
    assert asked.stop_reason == "tool_use"
    assert use.type == "tool_use"
    assert "city" in use.input
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"}]}
    turns = [*HELLO, {"role": "assistant", "content": [use.model_dump(exclude_none=True)]}, result]
    answer = claude.messages.create(model="sim-small", max_tokens=500, messages=turns, tools=[WEATHER])
    assert answer.content[0].type == "text"


def test_anthropic_input_tokens_leave_out_what_was_cached(claude: anthropic.Anthropic) -> None:
    long = [{"role": "user", "content": "a long and steady preamble " * 400}]
    first = claude.messages.create(model="sim-small", max_tokens=50, messages=long).usage
    second = claude.messages.create(model="sim-small", max_tokens=50, messages=long).usage
    assert second.cache_read_input_tokens
    assert second.input_tokens + second.cache_read_input_tokens == first.input_tokens + (
        first.cache_read_input_tokens or 0
    )


def test_anthropic_limits_and_errors(claude: anthropic.Anthropic) -> None:
    short = claude.messages.create(model="sim-small", max_tokens=2, messages=HELLO)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    assert claude.messages.count_tokens(model="sim-small", messages=HELLO).input_tokens == 3
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude-imaginary", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.InternalServerError):
        claude.messages.create(model="sim-small:529", max_tokens=5, messages=HELLO)
    assert "sim-small" in {model.id for model in claude.models.list()}


def test_gemini_answers_with_text_and_usage(gemini: genai.Client) -> None:
    answer = gemini.models.generate_content(model="sim-small", contents="Say hello")
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count == 3
    assert answer.usage_metadata.candidates_token_count == -(-len(answer.text) // 4)
    assert answer.usage_metadata.thoughts_token_count is None


def test_gemini_counts_thoughts_apart(gemini: genai.Client) -> None:
    usage = gemini.models.generate_content(model="sim-reasoner", contents="Say hello").usage_metadata
    assert usage is not None
    thoughts, said, total = usage.thoughts_token_count, usage.candidates_token_count, usage.total_token_count
    assert thoughts
    assert said
    assert total
    assert total == 3 + thoughts + said


def test_a_gemini_stream_repeats_cumulative_usage(gemini: genai.Client) -> None:
    plain = gemini.models.generate_content(model="sim-small", contents="Say hello")
    chunks = list(gemini.models.generate_content_stream(model="sim-small", contents="Say hello"))
    counts = [chunk.usage_metadata.candidates_token_count for chunk in chunks if chunk.usage_metadata]
    assert "".join(chunk.text or "" for chunk in chunks) == plain.text
    assert counts == sorted(counts)
    assert plain.usage_metadata is not None
    assert counts[-1] == plain.usage_metadata.candidates_token_count


def test_gemini_tools_json_and_errors(gemini: genai.Client) -> None:
    declared = types.FunctionDeclaration(
        name="get_weather",
        parameters=types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}),
    )
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    called = gemini.models.generate_content(model="sim-small", contents="Say hello", config=config)
    assert called.function_calls
    assert called.function_calls[0].name == "get_weather"
    structured = gemini.models.generate_content(
        model="sim-small",
        contents="Say hello",
        config=types.GenerateContentConfig(
            response_mime_type="application/json", response_schema={"type": "ARRAY", "items": {"type": "INTEGER"}}
        ),
    )
    assert isinstance(structured.parsed, list)
    assert gemini.models.count_tokens(model="sim-small", contents="Say hello").total_tokens == 3
    with pytest.raises(errors.ClientError):
        gemini.models.generate_content(model="gemini-imaginary", contents="Say hello")
    with pytest.raises(errors.ServerError):
        gemini.models.generate_content(model="sim-small:503", contents="Say hello")
