"""The OpenAI dialect: the older completions, read as a chat of one message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.simulator import openai_ask
from gateway.simulator.dialect import Reading, Refused, body_object
from gateway.simulator.generate import Ask, Reply
from gateway.simulator.openai import OpenAI
from gateway.simulator.sse import Frame

_KEPT = ("model", "max_tokens", "temperature", "top_p", "n", "stream", "stream_options", "stop", "seed", "metadata")


class Completions:
    done: bytes | None = b"[DONE]"
    content_type = "text/event-stream; charset=utf-8"
    _chat = OpenAI()

    def error(self, refused: Refused) -> dict[str, Any]:
        return self._chat.error(refused)

    def whole(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> dict[str, Any]:
        answer = self._chat.whole(ask, reply, response_id, at_s)
        return _older(answer, [_text(choice, choice["message"].get("content")) for choice in answer["choices"]])

    def frames(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> Iterator[Frame]:
        for frame in self._chat.frames(ask, reply, response_id, at_s):
            choices = [_text(choice, choice["delta"].get("content")) for choice in frame.payload["choices"]]
            yield frame._replace(payload=_older(frame.payload, choices))


def read(raw: bytes, reading: Reading) -> Ask:
    """A completions request -> an ask. One prompt as text."""
    body = body_object(raw)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise Refused(400, "The simulator completes one prompt of text.", param="prompt")
    chat = {name: body[name] for name in _KEPT if name in body}
    return openai_ask.read(msgspec.json.encode({**chat, "messages": [{"role": "user", "content": prompt}]}), reading)


def _text(choice: dict[str, Any], text: str | None) -> dict[str, Any]:
    return {"index": choice["index"], "text": text or "", "logprobs": None, "finish_reason": choice["finish_reason"]}


def _older(answer: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {**answer, "object": "text_completion", "choices": choices}
