"""Whole answers of Claude and Gemini as OpenAI's, and their usage in OpenAI's inclusive form."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from gateway.translation import from_anthropic, from_gemini

CLAUDE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "stop_reason": "tool_use",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "text", "text": "One "}, {"type": "text", "text": "moment"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "é"}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ],
    "usage": {"input_tokens": 21, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 188086, "output_tokens": 393,
              "output_tokens_details": {"thinking_tokens": 300}, "service_tier": "standard"},
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "responseId": "r1", "modelVersion": "gemini-2.5-flash",
    "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
        {"text": "hm", "thought": True}, {"text": "One moment", "thoughtSignature": "dGV4dA=="},
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}, {"functionCall": {"name": "g"}}]}}],
    "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405, "toolUsePromptTokenCount": 7,
                      "cachedContentTokenCount": 5, "totalTokenCount": 630},
}  # fmt: skip


def test_a_message_of_claude() -> None:
    answer = from_anthropic.response(CLAUDE, 1_700_000_000)
    parsed = ChatCompletion.model_validate(answer, strict=True)
    message = parsed.choices[0].message
    assert (message.content, parsed.choices[0].finish_reason, parsed.service_tier) == (
        "One moment",
        "tool_calls",
        "default",
    )
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or []] == [  # type: ignore[union-attr]
        ("toolu_1", "f", '{"a":"é"}'),
        ("toolu_2", "g", "{}"),
    ]
    assert answer["choices"][0]["message"]["thinking_blocks"] == CLAUDE["content"][:1]
    assert answer["choices"][0]["message"]["reasoning_content"] == "hm"
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (189_107, 393, 189_500)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 188_086
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 300


def test_an_answer_of_gemini() -> None:
    answer = from_gemini.response(GEMINI, 1_700_000_000)
    parsed = ChatCompletion.model_validate(answer, strict=True)
    assert (parsed.choices[0].message.content, parsed.choices[0].finish_reason) == ("One moment", "tool_calls")
    message = answer["choices"][0]["message"]
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert message["extra_content"] == {"google": {"thought_signature": "dGV4dA=="}}
    assert message["tool_calls"][0]["id"] != message["tool_calls"][1]["id"]
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (27, 603, 630)


@pytest.mark.parametrize(
    "reason,finish",
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("model_context_window_exceeded", "length"),
     ("tool_use", "tool_calls"), ("refusal", "content_filter"), ("pause_turn", "stop"), ("brand_new", "stop"), (None, "stop")],
)  # fmt: skip
def test_why_claude_stopped(reason: Any, finish: str) -> None:
    answer = from_anthropic.response({**CLAUDE, "content": [], "stop_reason": reason}, 0)
    assert answer["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    "reason,finish",
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"), ("SPII", "content_filter"),
     ("MALFORMED_FUNCTION_CALL", "stop"), ("BRAND_NEW", "stop")],
)  # fmt: skip
def test_why_gemini_stopped(reason: str, finish: str) -> None:
    answer = from_gemini.response({"candidates": [{"finishReason": reason}]}, 0)
    assert answer["choices"][0]["finish_reason"] == finish


def test_a_prompt_that_gemini_blocked_is_an_answer_that_says_so() -> None:
    answer = from_gemini.response(
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}, 0
    )
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize("usage", [None, 5, {}, {"input_tokens": "x", "output_tokens": -3, "promptTokenCount": 1.5}])
def test_a_strange_usage_is_shown_as_nothing(usage: Any) -> None:
    assert from_anthropic.usage_of(usage)["total_tokens"] == from_gemini.usage_of(usage)["total_tokens"] == 0
