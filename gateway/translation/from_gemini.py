"""Gemini's answers -> OpenAI's: whole answers and streams of them. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.translation import chat
from gateway.translation.chat import Chunks

FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
FILTERED = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION", "MODEL_ARMOR",
    }
)  # fmt: skip
_TIERS = {"standard": "default", "priority": "priority", "flex": "flex"}


def response(answer: Mapping[str, Any], created: int) -> dict[str, Any]:
    """A whole answer as a chat completion."""
    choices = [_choice(candidate, number, answer) for number, candidate in enumerate(_candidates(answer))]
    if not choices:  # the prompt itself was blocked
        blocked = chat.message([], [], [])
        choices = [{"index": 0, "message": blocked, "logprobs": None, "finish_reason": "content_filter"}]
    usage = answer.get("usageMetadata")
    more = {"service_tier": tier} if (tier := _tier(usage)) else {}
    return chat.completion(
        _id(answer), created, str(answer.get("modelVersion") or ""), choices, usage_of(usage), **more
    )


def usage_of(usage: Any) -> dict[str, Any]:
    thoughts = chat.count(usage, "thoughtsTokenCount")
    return chat.usage(
        chat.count(usage, "promptTokenCount") + chat.count(usage, "toolUsePromptTokenCount"),
        chat.count(usage, "candidatesTokenCount") + thoughts,
        cached=chat.count(usage, "cachedContentTokenCount"),
        written=0,
        reasoning=thoughts,
    )


def _choice(candidate: Mapping[str, Any], number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    signature = ""
    for part in _parts(candidate):
        if isinstance(part.get("functionCall"), Mapping):
            calls.append(_call(part, f"{_name(answer)}_{number}_{len(calls)}"))
        elif isinstance(part.get("text"), str):
            (reasoning if part.get("thought") is True else texts).append(part["text"])
            signature = _signature(part) or signature
    return {
        "index": candidate["index"] if type(candidate.get("index")) is int else number,
        "message": chat.message(texts, calls, reasoning, extra_content=_extra(signature)),
        "logprobs": None,
        "finish_reason": _finish(candidate.get("finishReason"), bool(calls)) or "stop",
    }


class Stream:
    """Answers in, chunks out. A call comes whole; its index counts the calls of its candidate."""

    __slots__ = ("_begun", "_calls", "_chunks", "_finished", "_usage", "done")

    def __init__(self, created: int, *, show_usage: bool) -> None:
        self._chunks = Chunks(created, show_usage=show_usage)
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, int] = {}
        self._usage: Any = None
        self.done = False

    def take(self, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks that one answer of the stream becomes; an object with `error` ends the stream."""
        if answer.get("error"):
            return [{"error": error_of(answer["error"])}]
        chunks = self._chunks
        chunks.answer_id = chunks.answer_id or _id(answer)
        chunks.model = chunks.model or str(answer.get("modelVersion") or "")
        if answer.get("usageMetadata") is not None:
            self._usage = answer["usageMetadata"]
            chunks.tier = _tier(self._usage) or chunks.tier
        made: list[dict[str, Any]] = []
        for number, candidate in enumerate(_candidates(answer)):
            index = candidate["index"] if type(candidate.get("index")) is int else number
            made += self._candidate(index, candidate, answer)
        feedback = answer.get("promptFeedback")
        if not self._begun and isinstance(feedback, Mapping) and feedback.get("blockReason"):
            made += [self._open(0), chunks.delta({}, finish="content_filter")]
            self._finished.add(0)
        return made

    def end(self) -> list[dict[str, Any]]:
        """The stream has no end of its own: whatever was open is closed when the body is."""
        self.done = bool(self._finished)
        return self._chunks.last(usage_of(self._usage)) if self.done else []

    def _open(self, index: int) -> dict[str, Any]:
        self._begun.add(index)
        return self._chunks.delta({"role": "assistant", "content": "", "refusal": None}, index=index)

    def _candidate(self, index: int, candidate: Mapping[str, Any], answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        made = [] if index in self._begun else [self._open(index)]
        for part in _parts(candidate):
            delta = self._delta(index, part, answer)
            if delta:
                made.append(self._chunks.delta(delta, index=index))
        finish = _finish(candidate.get("finishReason"), self._calls.get(index, 0) > 0)
        if finish and index not in self._finished:
            self._finished.add(index)
            made.append(self._chunks.delta({}, index=index, finish=finish))
        return made

    def _delta(self, index: int, part: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(part.get("functionCall"), Mapping):
            number = self._calls.get(index, 0)
            self._calls[index] = number + 1
            return {"tool_calls": [{"index": number, **_call(part, f"{_name(answer)}_{index}_{number}")}]}
        delta: dict[str, Any] = {}
        text = part.get("text")
        if isinstance(text, str) and text:
            delta["reasoning_content" if part.get("thought") is True else "content"] = text
        signature = _signature(part)
        if signature:
            delta["extra_content"] = _extra(signature)
        return delta


def error_of(error: Any) -> dict[str, Any]:
    """An error's own words, in OpenAI's shape."""
    stated = error if isinstance(error, Mapping) else {}
    kind = str(stated.get("status") or "provider_error")[:64].lower()
    return {"message": str(stated.get("message") or kind)[:2000], "type": kind, "code": kind, "param": None}


def _candidates(answer: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    listed = answer.get("candidates")
    return [candidate for candidate in listed if isinstance(candidate, Mapping)] if isinstance(listed, list) else []


def _parts(candidate: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, Mapping) else None
    return [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []


def _finish(reason: Any, called: bool) -> str | None:
    if not isinstance(reason, str) or reason == "FINISH_REASON_UNSPECIFIED":
        return None
    if reason in FILTERED:
        return "content_filter"
    finish = FINISH.get(reason, "stop")
    return "tool_calls" if called and finish == "stop" else finish


def _call(part: Mapping[str, Any], otherwise: str) -> dict[str, Any]:
    call = part["functionCall"]
    made: dict[str, Any] = {
        "id": str(call.get("id") or otherwise),
        "type": "function",
        "function": {
            "name": str(call.get("name") or ""),
            "arguments": orjson.dumps(call.get("args") or {}).decode(),
        },
    }
    signature = _signature(part)
    if signature:
        made["extra_content"] = _extra(signature)
    return made


def _signature(part: Mapping[str, Any]) -> str:
    signature = part.get("thoughtSignature")
    return signature if isinstance(signature, str) else ""


def _extra(signature: str) -> dict[str, Any]:
    return {"google": {"thought_signature": signature}} if signature else {}


def _name(answer: Mapping[str, Any]) -> str:
    return f"call_{answer.get('responseId') or 'gemini'}"


def _id(answer: Mapping[str, Any]) -> str:
    return f"chatcmpl-{answer.get('responseId') or ''}"


def _tier(usage: Any) -> str | None:
    stated = usage.get("serviceTier") if isinstance(usage, Mapping) else None
    return _TIERS.get(stated.lower().removeprefix("service_tier_")) if isinstance(stated, str) else None
