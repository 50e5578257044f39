"""Nothing a client or a provider can write breaks a translation: a body is translated or refused by name, an answer becomes an answer."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.translation import Untranslatable
from gateway.translation import from_anthropic, from_gemini, to_anthropic, to_gemini

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
BODY: dict[str, Any] = {
    "model": "x", "max_tokens": 9, "temperature": 1, "top_p": 1, "stop": ["a"], "n": 1, "seed": 1, "user": "u", "reasoning_effort": "low",
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}}],
    "functions": [{"name": "g", "parameters": {}}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
    "parallel_tool_calls": False, "service_tier": "default",
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"a": {"minimum": 1}}}}},
    "messages": [
        {"role": "system", "content": "A", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                                     {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a"}}]},
        {"role": "assistant", "content": None, "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
         "extra_content": {"google": {"thought_signature": "s"}},
         "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "ok"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "ok"},
    ],
}  # fmt: skip
CLAUDE: dict[str, Any] = {
    "id": "m", "type": "message", "role": "assistant", "model": "c", "stop_reason": "tool_use",
    "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "x"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {}}],
    "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "standard", "output_tokens_details": {"thinking_tokens": 1}},
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "responseId": "r", "modelVersion": "g", "promptFeedback": {"blockReason": "SAFETY"},
    "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
        {"text": "x", "thought": True}, {"text": "y", "thoughtSignature": "s"}, {"functionCall": {"id": "1", "name": "f", "args": {}}}]}}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3, "serviceTier": "standard"},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += places(item, (*path, key))
    return found


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy with one place replaced."""
    copied = copy.deepcopy(value)
    holder = copied
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = to
    return copied


@pytest.mark.parametrize("translate", [to_anthropic.request, to_gemini.request], ids=["anthropic", "gemini"])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-sonnet-5", "gemini-2.5-pro", "gemini-3.5-flash"])
@given(data=st.data())
def test_a_body_is_translated_or_refused_by_name(
    translate: Callable[..., Any], model: str, data: st.DataObject
) -> None:
    body = BODY
    for _ in range(data.draw(st.integers(0, 3))):
        body = changed(body, data.draw(st.sampled_from(places(body))), data.draw(JSON))
    before = copy.deepcopy(body)
    with contextlib.suppress(Untranslatable):
        orjson.dumps(translate(body, model))
    assert body == before, "the client's own body is what attribution and the ledger see"


@pytest.mark.parametrize(
    "respond,answer", [(from_anthropic.response, CLAUDE), (from_gemini.response, GEMINI)], ids=["anthropic", "gemini"]
)
@given(data=st.data())
def test_an_answer_becomes_an_answer(respond: Callable[..., Any], answer: dict[str, Any], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        answer = changed(answer, data.draw(st.sampled_from(places(answer))), data.draw(JSON))
    made = respond(answer, 0)
    orjson.dumps(made)
    assert made["object"] == "chat.completion"
    assert all(
        choice["finish_reason"] in ("stop", "length", "tool_calls", "content_filter") for choice in made["choices"]
    )
