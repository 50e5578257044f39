"""What a chat completion's body becomes for Gemini."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.providers.translation import Untranslatable
from gateway.translation.to_gemini import NO_SIGNATURE, request

FLASH, PRO, NEW = "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}


def asked(*messages: Any, model: str = FLASH, **more: Any) -> dict[str, Any]:
    given = list(messages) or [{"role": "user", "content": "Hi"}]
    return request({"model": "x", "messages": given, **more}, model)


def call(call_id: str, **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, **more}


def test_roles_systems_and_turns() -> None:
    body = asked(
        {"role": "system", "content": "A"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
        {"role": "developer", "content": "B"},
        {"role": "user", "content": "So"},
        {"role": "user", "content": "What"},
    )
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [{"text": "Yes"}]},
        {"role": "user", "parts": [{"text": "So"}, {"text": "What"}]},
    ]


def test_calls_and_results_results_in_one_turn_and_by_name() -> None:
    body = asked(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "1", "content": '{"sun": true}'},
        {"role": "tool", "tool_call_id": "2", "content": "rain"},
    )
    assert body["contents"][1]["parts"] == [{"functionCall": {"name": "f", "args": {"a": 1}}}] * 2
    assert [part["functionResponse"] for part in body["contents"][2]["parts"]] == [
        {"name": "f", "response": {"sun": True}},
        {"name": "f", "response": {"result": "rain"}},
    ]


def test_thought_signatures_go_back_and_where_there_is_none_the_documented_word_stands() -> None:
    signed = call("1", extra_content={"google": {"thought_signature": "c2ln"}})
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [signed, call("2")]}]
    parts = asked(*history, model=NEW)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["c2ln", None]
    history[1] = {"role": "assistant", "tool_calls": [call("1"), call("2")]}
    parts = asked(*history, model=NEW)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [NO_SIGNATURE, None]
    assert "thoughtSignature" not in str(asked(*history))


def test_media() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": "https://example.com/a.webp?x=1"},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "mp3"}},
    ]
    assert asked({"role": "user", "content": parts})["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"mimeType": "image/webp", "fileUri": "https://example.com/a.webp?x=1"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": "CCCC"}},
    ]


def test_settings() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = asked(
        max_completion_tokens=50, temperature=1.5, top_p=0.5, seed=3, n=2, stop=["END", " "], presence_penalty=0.1,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, user="u", store=True,
    )  # fmt: skip
    assert body["generationConfig"] == {
        "maxOutputTokens": 50,
        "temperature": 1.5,
        "topP": 0.5,
        "seed": 3,
        "candidateCount": 2,
        "stopSequences": ["END"],
        "presencePenalty": 0.1,
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert body.keys() == {"contents", "generationConfig"}


@pytest.mark.parametrize(
    "choice,becomes",
    [("auto", {"mode": "AUTO"}), ("none", {"mode": "NONE"}), ("required", {"mode": "ANY"}),
     ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]})],
)  # fmt: skip
def test_choices_of_tools(choice: Any, becomes: Any) -> None:
    body = asked(tools=[TOOL], tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": becomes}
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == TOOL["function"]["parameters"]


@pytest.mark.parametrize(
    "model,effort,thinking",
    [(FLASH, "none", {"thinkingBudget": 0}), (PRO, "none", {"thinkingBudget": 128}), (FLASH, "high", {"thinkingBudget": 24_576}),
     (NEW, "minimal", {"thinkingLevel": "minimal"}), (NEW, "high", {"thinkingLevel": "high"}),
     ("gemini-3.1-pro-preview", "none", {"thinkingLevel": "low"})],
)  # fmt: skip
def test_effort(model: str, effort: str, thinking: Any) -> None:
    assert asked(model=model, reasoning_effort=effort)["generationConfig"]["thinkingConfig"] == thinking


def test_models_that_do_not_think_are_not_asked_to() -> None:
    assert "generationConfig" not in asked(model="gemini-2.0-flash", reasoning_effort="high")


def test_a_result_without_its_call_is_refused() -> None:
    with pytest.raises(Untranslatable):
        asked({"role": "tool", "tool_call_id": "1", "content": "x"})
