"""Anthropic's answers -> OpenAI's: whole messages and streams of events. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from billing.domain.extraction.anthropic import merged
from gateway.translation import chat
from gateway.translation.chat import Chunks

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Every other reason (pause_turn, compaction) has no OpenAI form and is shown as "stop"."""
_TIERS = {"standard": "default", "priority": "priority"}


def response(message: Mapping[str, Any], created: int) -> dict[str, Any]:
    """A whole message as a chat completion."""
    texts: list[str] = []
    reasoning: list[str] = []
    thoughts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    content = message.get("content")
    for block in content if isinstance(content, list) else ():
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            texts.append(chat.string(block.get("text")))
        elif kind == "thinking":
            reasoning.append(chat.string(block.get("thinking")))
            thoughts.append(dict(block))
        elif kind == "redacted_thinking":
            thoughts.append(dict(block))
        elif kind == "tool_use":
            arguments = orjson.dumps(block.get("input") or {}).decode()
            calls.append(_call(block, arguments))
    usage = message.get("usage")
    choice = {
        "index": 0,
        "message": chat.message(texts, calls, reasoning, thinking_blocks=thoughts),
        "logprobs": None,
        "finish_reason": FINISH.get(str(message.get("stop_reason")), "stop"),
    }
    more = {"service_tier": tier} if (tier := _tier(usage)) else {}
    return chat.completion(_id(message), created, str(message.get("model") or ""), [choice], usage_of(usage), **more)


def usage_of(usage: Any) -> dict[str, Any]:
    read, written = chat.count(usage, "cache_read_input_tokens"), chat.count(usage, "cache_creation_input_tokens")
    details = usage.get("output_tokens_details") if isinstance(usage, Mapping) else None
    return chat.usage(
        chat.count(usage, "input_tokens") + read + written,
        chat.count(usage, "output_tokens"),
        cached=read,
        written=written,
        reasoning=chat.count(details, "thinking_tokens"),
    )


class Stream:
    """Events in, chunks out. Anthropic's index counts blocks, OpenAI's counts tools."""

    __slots__ = ("_arguments", "_blocks", "_chunks", "_tools", "_usage", "done")

    def __init__(self, created: int, *, show_usage: bool) -> None:
        self._chunks = Chunks(created, show_usage=show_usage)
        self._blocks: dict[Any, dict[str, Any]] = {}
        """The open blocks by their index; a tool's with its number."""
        self._tools = 0
        self._arguments: set[Any] = set()
        self._usage: dict[str, Any] = {}
        self.done = False
        """The stream came to its proper end."""

    def take(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks that an event becomes; an object with `error` ends the stream."""
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event.get("index"), event.get("delta"))
        if kind == "content_block_start":
            return self._open(event.get("index"), event.get("content_block"))
        if kind == "content_block_stop":
            return self._close(event.get("index"))
        if kind == "message_start":
            return self._begin(event.get("message"))
        if kind == "message_delta":
            return self._end(event)
        if kind == "message_stop":
            self.done = True
            return self._chunks.last(usage_of(self._usage))
        if kind == "error":
            return [{"error": error_of(event.get("error"))}]
        return []

    def _begin(self, message: Any) -> list[dict[str, Any]]:
        if not isinstance(message, Mapping):
            return []
        self._chunks.answer_id = _id(message)
        self._chunks.model = str(message.get("model") or "")
        usage = message.get("usage")
        if isinstance(usage, Mapping):
            self._usage = dict(usage)
            self._chunks.tier = _tier(usage)
        return [self._chunks.delta({"role": "assistant", "content": "", "refusal": None})]

    def _open(self, index: Any, block: Any) -> list[dict[str, Any]]:
        if not isinstance(block, Mapping) or not isinstance(index, int):
            return []
        kind = block.get("type")
        self._blocks[index] = dict(block)
        if kind == "tool_use":
            self._blocks[index]["number"] = self._tools
            self._tools += 1
            call = {"index": self._blocks[index]["number"], **_call(block, "")}
            return [self._chunks.delta({"tool_calls": [call]})]
        if kind == "text" and block.get("text"):
            return [self._chunks.delta({"content": block["text"]})]
        return []

    def _delta(self, index: Any, delta: Any) -> list[dict[str, Any]]:
        if not isinstance(delta, Mapping):
            return []
        kind = delta.get("type")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if kind == "text_delta":
            return [self._chunks.delta({"content": chat.string(delta.get("text"))})]
        if kind == "input_json_delta" and block is not None and "number" in block:
            piece = delta.get("partial_json")
            if not piece or not isinstance(piece, str):
                return []
            self._arguments.add(index)
            return [self._piece(block, piece)]
        if kind == "thinking_delta" and block is not None:
            piece = delta.get("thinking")
            if not isinstance(piece, str):
                return []
            block["thinking"] = str(block.get("thinking") or "") + piece
            return [self._chunks.delta({"reasoning_content": piece})]
        if kind == "signature_delta" and block is not None:
            block["signature"] = str(block.get("signature") or "") + str(delta.get("signature") or "")
        return []

    def _close(self, index: Any) -> list[dict[str, Any]]:
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None:
            return []
        if block.get("type") in ("thinking", "redacted_thinking"):
            return [self._chunks.delta({"thinking_blocks": [{"index": index, **block}]})]
        if "number" in block and index not in self._arguments:  # no arguments, or all of them in the start
            given = block.get("input")
            return [self._piece(block, orjson.dumps(given if isinstance(given, dict) else {}).decode())]
        return []

    def _piece(self, block: dict[str, Any], text: str) -> dict[str, Any]:
        return self._chunks.delta({"tool_calls": [{"index": block["number"], "function": {"arguments": text}}]})

    def _end(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        usage, delta = event.get("usage"), event.get("delta")
        if isinstance(usage, Mapping):
            self._usage = merged(self._usage, [usage])
        reason = delta.get("stop_reason") if isinstance(delta, Mapping) else None
        return [self._chunks.delta({}, finish=FINISH.get(str(reason), "stop"))] if reason else []


def error_of(error: Any) -> dict[str, Any]:
    """An error event's own words, in OpenAI's shape."""
    stated = error if isinstance(error, Mapping) else {}
    kind = str(stated.get("type") or "provider_error")[:64]
    return {"message": str(stated.get("message") or kind)[:2000], "type": kind, "code": kind, "param": None}


def _call(block: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    return {
        "id": str(block.get("id") or ""),
        "type": "function",
        "function": {"name": str(block.get("name") or ""), "arguments": arguments},
    }


def _id(message: Mapping[str, Any]) -> str:
    return f"chatcmpl-{message.get('id') or ''}"


def _tier(usage: Any) -> str | None:
    return _TIERS.get(str(usage.get("service_tier"))) if isinstance(usage, Mapping) else None
