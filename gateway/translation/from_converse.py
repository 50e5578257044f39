"""Bedrock Converse's answers -> OpenAI's: whole ones, and the events of ConverseStream. Pure; the time is an argument.

An event is an object with its name as the only key: `{"contentBlockDelta": {...}}`. Usage comes in `metadata`, after `messageStop`. Answers
have no id and do not name their model: the id is made from the time and the content, the model is the one that was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson

from gateway.translation import chat
from gateway.translation.chat import Chunks
from gateway.translation.from_anthropic import error_of

ANSWER_TOOL = "sluice_json_answer"
"""A tool of ours whose input is the answer (`to_converse`)."""
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def response(answer: Mapping[str, Any], created: int) -> dict[str, Any]:
    """A whole answer as a chat completion; its `model` is filled in by who knows it."""
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    answered = False
    output = answer.get("output")
    message = output.get("message") if isinstance(output, Mapping) else None
    content = message.get("content") if isinstance(message, Mapping) else None
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, Mapping):
            continue
        used = block.get("toolUse")
        if "text" in block and not answered:
            texts.append(chat.string(block["text"]))
        elif isinstance(used, Mapping) and used.get("name") == ANSWER_TOOL:
            texts = [orjson.dumps(used.get("input") or {}).decode()]
            answered = True
        elif isinstance(used, Mapping):
            calls.append(_call(used, orjson.dumps(used.get("input") or {}).decode()))
        elif "reasoningContent" in block:
            reasoning.append(_thought(block["reasoningContent"]))
    choice = {
        "index": 0,
        "message": chat.message(texts, calls, [thought for thought in reasoning if thought]),
        "logprobs": None,
        "finish_reason": _finish_of(answer, answered and not calls),
    }
    return chat.completion(
        answer_id(created, orjson.dumps(message)), created, "", [choice], usage_of(answer.get("usage"))
    )


def _finish_of(stopped: Mapping[str, Any], answered: bool) -> str:
    """`answered`: the only tool that was called is ours, which is an answer and no call."""
    reason = FINISH.get(str(stopped.get("stopReason")), "stop")
    return "stop" if answered and reason == "tool_calls" else reason


def usage_of(usage: Any) -> dict[str, Any]:
    """Converse's totals are exclusive; the form shown is OpenAI's, inclusive."""
    read, written = chat.count(usage, "cacheReadInputTokens"), chat.count(usage, "cacheWriteInputTokens")
    return chat.usage(
        chat.count(usage, "inputTokens") + read + written,
        chat.count(usage, "outputTokens"),
        cached=read,
        written=written,
        reasoning=0,
    )


def answer_id(created: int, seed: bytes) -> str:
    return f"chatcmpl-{created:x}{blake2b(seed, digest_size=10).hexdigest()}"


class Stream:
    """Events in, chunks out. Bedrock's index counts blocks, OpenAI's counts tools."""

    __slots__ = ("_answers", "_arguments", "_by_tool", "_chunks", "_stopped", "_tools", "_usage", "done")

    def __init__(self, created: int, *, show_usage: bool, by_tool: bool = False) -> None:
        """`by_tool`: the model was made to answer by our tool."""
        self._by_tool = by_tool
        self._chunks = Chunks(created, show_usage=show_usage)
        self._tools: dict[Any, int] = {}
        self._arguments: set[Any] = set()
        self._answers: set[Any] = set()
        """The blocks that are calls of our own tool: their input is the answer."""
        self._usage: Any = None
        self._stopped = False
        self.done = False
        """The stream came to its proper end."""

    def asked(self, model: str, seed: bytes) -> Stream:
        """Names what the events do not: the model, and an id that no other answer has."""
        self._chunks.model = model
        self._chunks.answer_id = answer_id(self._chunks.created, seed)
        return self

    def take(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks that an event becomes; an object with `error` ends the stream."""
        if event.get("type") == "error":
            return [{"error": error_of(event.get("error"))}]
        for name, inner in event.items():
            if not isinstance(inner, Mapping):
                continue
            if name == "contentBlockDelta":
                return self._delta(inner.get("contentBlockIndex"), inner.get("delta"))
            if name == "contentBlockStart":
                return self._open(inner.get("contentBlockIndex"), inner.get("start"))
            if name == "contentBlockStop":
                return self._close(inner.get("contentBlockIndex"))
            if name == "messageStart":
                return [self._chunks.delta({"role": "assistant", "content": "", "refusal": None})]
            if name == "messageStop":
                self._stopped = True
                finish = _finish_of(inner, bool(self._answers) and not self._tools)
                return [self._chunks.delta({}, finish=finish)]
            if name == "metadata":
                self._usage = inner.get("usage")
                return self._finish() if self._stopped else []
        return []

    def end(self) -> list[dict[str, Any]]:
        """The body is over; where the usage did not come, there is none to show."""
        return self._finish() if self._stopped and not self.done else []

    def _finish(self) -> list[dict[str, Any]]:
        self.done = True
        return self._chunks.last(usage_of(self._usage)) if self._usage is not None else []

    def _open(self, index: Any, start: Any) -> list[dict[str, Any]]:
        used = start.get("toolUse") if isinstance(start, Mapping) else None
        if not isinstance(used, Mapping) or not isinstance(index, int):
            return []
        if used.get("name") == ANSWER_TOOL:
            self._answers.add(index)
            return []
        number = self._tools[index] = len(self._tools)
        return [self._chunks.delta({"tool_calls": [{"index": number, **_call(used, "")}]})]

    def _delta(self, index: Any, delta: Any) -> list[dict[str, Any]]:
        if not isinstance(delta, Mapping):
            return []
        if "text" in delta:
            if self._by_tool:  # what is said before the tool is called is not the answer
                return []
            return [self._chunks.delta({"content": chat.string(delta["text"])})]
        used = delta.get("toolUse")
        if isinstance(used, Mapping) and isinstance(index, int) and index in self._answers:
            given = chat.string(used.get("input"))
            return [self._chunks.delta({"content": given})] if given else []
        if isinstance(used, Mapping) and isinstance(index, int) and index in self._tools:
            piece = used.get("input")
            if not isinstance(piece, str) or not piece:
                return []
            self._arguments.add(index)
            return [self._piece(index, piece)]
        thought = delta.get("reasoningContent")
        told = thought.get("text") if isinstance(thought, Mapping) else None
        return [self._chunks.delta({"reasoning_content": told})] if isinstance(told, str) and told else []

    def _close(self, index: Any) -> list[dict[str, Any]]:
        """A tool that was called without arguments has said none."""
        if isinstance(index, int) and index in self._tools and index not in self._arguments:
            return [self._piece(index, "{}")]
        return []

    def _piece(self, index: int, text: str) -> dict[str, Any]:
        return self._chunks.delta({"tool_calls": [{"index": self._tools[index], "function": {"arguments": text}}]})


def _call(used: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    return {
        "id": str(used.get("toolUseId") or ""),
        "type": "function",
        "function": {"name": str(used.get("name") or ""), "arguments": arguments},
    }


def _thought(content: Any) -> str:
    told = content.get("reasoningText") if isinstance(content, Mapping) else None
    return chat.string(told.get("text")) if isinstance(told, Mapping) else ""
