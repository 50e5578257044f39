"""What a chat completion's body becomes for Claude, point by point of BILLING.md's "Translation"."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.providers.translation import Untranslatable
from gateway.translation.to_anthropic import ASK_FOR_JSON, request, strict_schema

OLD, NEW = "claude-sonnet-4-5", "claude-sonnet-5"
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="


def asked(*messages: Any, model: str = OLD, **more: Any) -> dict[str, Any]:
    given = list(messages) or [{"role": "user", "content": "Hi"}]
    return request({"model": "x", "messages": given, **more}, model)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def calls(*ids: str, **more: Any) -> dict[str, Any]:
    listed = [{"id": i, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": listed, **more}


def result(call_id: str, text: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def test_system_and_developer_messages_become_the_system_wherever_they_stand() -> None:
    body = asked({"role": "system", "content": "A"}, user("Hi"), {"role": "developer", "content": "B"})
    assert body["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert [turn["role"] for turn in body["messages"]] == ["user"]


def test_results_in_a_row_are_one_turn_and_stand_before_words() -> None:
    body = asked(user("Hi"), calls("1", "2"), result("1"), user("and?"), result("2"))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "2", "name": "f", "input": {"a": 1}},
    ]


def test_the_older_form_of_calls_is_understood() -> None:
    made = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}
    body = asked(user("Hi"), made, {"role": "function", "name": "f", "content": "ok"}, functions=[TOOL["function"]])
    assert body["messages"][1]["content"][0]["id"] == body["messages"][2]["content"][0]["tool_use_id"]
    assert body["tools"][0]["name"] == "f"


def test_pictures_and_documents_by_value_and_by_address() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
    ]
    sources = [block["source"] for block in asked(user(parts))["messages"][0]["content"]]
    assert sources == [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
    ]


@pytest.mark.parametrize(
    "choice,parallel,becomes",
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}}, None, {"type": "any"}),
    ],
)
def test_choices_of_tools(choice: Any, parallel: Any, becomes: Any) -> None:
    more = {"tool_choice": choice} if choice else {}
    more |= {"parallel_tool_calls": parallel} if parallel is not None else {}
    assert asked(tools=[TOOL], **more).get("tool_choice") == becomes


def test_only_the_allowed_tools_are_offered() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [other]}}
    assert [tool["name"] for tool in asked(tools=[TOOL, other], tool_choice=choice)["tools"]] == ["g"]


def test_a_schema_is_closed_and_its_other_constraints_are_told_in_words() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    body = asked(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    made = body["output_config"]["format"]["schema"]
    assert made["additionalProperties"] is False
    assert made["properties"]["n"] == {"type": "integer", "description": "{minimum: 1}"}
    assert schema["properties"]["n"] == {"type": "integer", "minimum": 1}, "the client's own is untouched"


def test_a_property_that_is_called_like_a_constraint_stays() -> None:
    assert "minimum" in strict_schema({"type": "object", "properties": {"minimum": {"type": "string"}}})["properties"]


def test_any_json_is_asked_for_in_words() -> None:
    assert asked(response_format={"type": "json_object"})["system"][-1]["text"] == ASK_FOR_JSON


def test_stop_sequences_of_blanks_are_left_out() -> None:
    assert asked(stop=["\n", "END", " "])["stop_sequences"] == ["END"]
    assert asked(stop="END")["stop_sequences"] == ["END"]
    assert "stop_sequences" not in asked(stop="\n\n")


def test_a_temperature_is_lowered_to_one_and_dropped_with_thinking_and_for_models_that_take_none() -> None:
    assert asked(temperature=1.7)["temperature"] == 1
    assert "temperature" not in asked(temperature=0.2, reasoning_effort="low", max_tokens=9000)
    assert "temperature" not in asked(temperature=0.2, model=NEW)
    assert "top_p" not in asked(temperature=0.2, top_p=0.9), "not both at once"


@pytest.mark.parametrize(
    "effort,limit,budget",
    [("low", 9_000, 1_024), ("medium", 9_000, 4_096), ("high", 9_000, 4_500), ("high", None, 16_384), ("high", 512, None), ("minimal", 9_000, None)],
)  # fmt: skip
def test_effort_becomes_a_budget_that_never_raises_the_clients_limit(effort: str, limit: Any, budget: Any) -> None:
    body = asked(reasoning_effort=effort, max_completion_tokens=limit)
    assert body.get("max_tokens") == limit
    assert body.get("thinking") == ({"type": "enabled", "budget_tokens": budget} if budget else None)


def test_newer_models_take_the_effort_itself() -> None:
    body = asked(reasoning_effort="high", model=NEW)
    assert (body["output_config"], body["thinking"]) == ({"effort": "high"}, {"type": "adaptive"})
    assert asked(reasoning_effort="none", model=NEW)["thinking"] == {"type": "disabled"}
    assert "thinking" not in asked(reasoning_effort="high", model=NEW, tools=[TOOL], tool_choice="required")


def test_thinking_goes_back_as_it_came_and_first() -> None:
    thought = {"index": 0, "type": "thinking", "thinking": "hm", "signature": "sig"}
    body = asked(
        user("Hi"), calls("1", thinking_blocks=[thought]), result("1"), reasoning_effort="low", max_tokens=9_000
    )
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    assert body["thinking"]["type"] == "enabled"


def test_thinking_is_switched_off_where_the_calls_before_have_lost_theirs() -> None:
    assert "thinking" not in asked(user("Hi"), calls("1"), result("1"), reasoning_effort="low", max_tokens=9_000)


def test_cache_markers_pass_and_none_is_invented() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = asked(
        {"role": "system", "content": [{"type": "text", "text": "A", "cache_control": mark}]},
        {**user("Hi"), "cache_control": mark},
        tools=[{**TOOL, "cache_control": mark}],
    )
    assert [body["system"][0], body["messages"][0]["content"][0], body["tools"][0]] == [
        {"type": "text", "text": "A", "cache_control": mark},
        {"type": "text", "text": "Hi", "cache_control": mark},
        {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": mark},
    ]
    assert "cache_control" not in str(asked({"role": "system", "content": "A" * 9_000}, user("Hi"), tools=[TOOL]))


def test_empty_words_are_no_block_and_an_answer_that_was_begun_does_not_end_in_blanks() -> None:
    body = asked(user(""), user("Hi"), {"role": "assistant", "content": "Well, "})
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Well,"}]


def test_what_only_tunes_is_left_out_and_nothing_unknown_passes() -> None:
    body = asked(
        seed=1, presence_penalty=1, logit_bias={}, store=True, metadata={"a": "b"}, user="u-1", stream=True, plugins=[{}],
        stream_options={"include_usage": True}, service_tier="default", n=1,
    )  # fmt: skip
    assert body.keys() == {"model", "messages", "metadata", "stream", "service_tier"}
    assert (body["metadata"], body["service_tier"]) == ({"user_id": "u-1"}, "standard_only")


@pytest.mark.parametrize(
    "more,param",
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"messages": [{"role": "system", "content": "A"}]}, "messages"),
        ({"messages": [user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])]}, "messages[0]"),
        ({"messages": [user([{"type": "file", "file": {"file_id": "file-1"}}])]}, "messages[0]"),
        ({"messages": [{"role": "alien", "content": "A"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}]}, "messages[0].tool_calls"),
    ],
)  # fmt: skip
def test_what_claude_cannot_do_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        request({"messages": [user("Hi")], **more}, OLD)
    assert caught.value.param == param
