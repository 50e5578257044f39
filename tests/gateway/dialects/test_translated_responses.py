"""`client.responses` of the unmodified `openai` SDK with `claude-...` and `gemini-...`: the answer is OpenAI's, the bill the provider's own."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.gateway.dialects.test_translated import Bought, bought

__all__ = ["bought"]
WEATHER: list[Any] = [
    {
        "type": "function",
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": False,
    }
]


def billed(bought: Bought, count: int = 1) -> None:
    entries = bought.shop.entries(count)
    lines = bought.shop.world.simulator.invoice()[bought.already :]
    assert [(entry.basis, entry.cost_nano) for entry in entries] == [("measured", line.cost_nano) for line in lines]
    assert {entry.endpoint for entry in entries} == {"/v1/responses"}


def test_an_answer(bought: Bought) -> None:
    answer = bought.client.responses.create(model=bought.model, instructions="Be brief", input="Hello there")
    assert answer.output_text
    assert (answer.status, answer.object, answer.store) == ("completed", "response", False)
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0
    billed(bought)


def test_a_stream_helper_and_the_final_response(bought: Bought) -> None:
    with bought.client.responses.stream(model=bought.model, input="Hello there", max_output_tokens=64) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text
    billed(bought)


def test_tools_are_called_and_answered_with_the_items_that_came(bought: Bought) -> None:
    conversation: list[Any] = [{"role": "user", "content": "Weather in Rome?"}]
    ask = bought.client.responses.create
    first = ask(model=bought.model, input=conversation, tools=WEATHER, tool_choice="required")
    [call] = [item for item in first.output if item.type == "function_call"]
    assert call.name == "weather"
    conversation += first.output
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    with bought.client.responses.stream(model=bought.model, input=conversation, tools=WEATHER) as stream:
        assert stream.get_final_response().status == "completed"
    billed(bought, 2)


def test_a_schema_is_kept_and_parsed(bought: Bought) -> None:
    class Person(BaseModel):
        name: str
        age: int

    answer = bought.client.responses.parse(model=bought.model, input="Who?", text_format=Person)
    assert isinstance(answer.output_parsed, Person)


def test_state_that_nobody_keeps_is_a_400_that_says_what_to_do(bought: Bought) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        bought.client.responses.create(model=bought.model, input="And then?", previous_response_id="resp_1")
    error: Any = caught.value.body
    assert (error["code"], error["param"]) == ("not_translatable", "previous_response_id")
    assert "send the conversation again" in error["message"]


def test_a_stream_that_breaks_off_raises(bought: Bought) -> None:
    with pytest.raises(openai.APIError):
        for _ in bought.client.responses.create(model=bought.model, input="Hello [[sim:cut k=8]]", stream=True):
            pass
    [entry] = bought.shop.entries(1)
    assert entry.basis == "assumed"
