"""The OpenAI dialect: responses. An ask is read as a chat completion's, the answer written as typed items and events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from gateway.simulator import openai_ask, spoil
from gateway.simulator.dialect import Reading, Refused, body_object
from gateway.simulator.generate import Ask, Choice, Reply
from gateway.simulator.openai import OpenAI
from gateway.simulator.sse import Frame

_PARTS = {"input_text": "text", "output_text": "text", "input_image": "image_url", "input_file": "file"}
_ECHOED = (
    "instructions",
    "previous_response_id",
    "store",
    "metadata",
    "max_output_tokens",
    "temperature",
    "top_p",
    "truncation",
    "user",
)


class Responses:
    done: bytes | None = None
    content_type = "text/event-stream; charset=utf-8"

    def error(self, refused: Refused) -> dict[str, Any]:
        return OpenAI().error(refused)

    def whole(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> dict[str, Any]:
        items = [_item(number, *given) for number, given in enumerate(_given(reply.choices[0], response_id))]
        answer = _response(ask, response_id, at_s, _status(reply.choices[0]), items)
        return spoil.put(answer, "usage", spoil.spoil(_usage(reply, reply.output_tokens), ask.script.usage))

    def frames(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> Iterator[Frame]:
        choice = reply.choices[0]
        spent = choice.reasoning
        number = -1

        def frame(kind: str, **payload: Any) -> Frame:
            nonlocal number
            number += 1
            return Frame({"type": kind, **payload, "sequence_number": number}, spent, kind)

        opening = _response(ask, response_id, at_s, "in_progress", [])
        yield frame("response.created", response=opening)
        yield frame("response.in_progress", response=opening)
        for index, (kind, item_id, pieces, call) in enumerate(_given(choice, response_id)):
            where = {"item_id": item_id, "output_index": index}
            item = _item(index, kind, item_id, [], call) | {"status": "in_progress"}
            yield frame("response.output_item.added", output_index=index, item=item)
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            if kind == "message":
                yield frame("response.content_part.added", **where, content_index=0, part=part)
            for piece in pieces:
                spent += 1
                if kind == "message":
                    yield frame("response.output_text.delta", **where, content_index=0, delta=piece, logprobs=[])
                else:
                    yield frame("response.function_call_arguments.delta", **where, delta=piece)
            text = "".join(pieces)
            if kind == "message":
                yield frame("response.output_text.done", **where, content_index=0, text=text, logprobs=[])
                yield frame("response.content_part.done", **where, content_index=0, part={**part, "text": text})
            else:
                yield frame("response.function_call_arguments.done", **where, arguments=text, name=call[1])
            yield frame("response.output_item.done", output_index=index, item=_item(index, kind, item_id, pieces, call))
        items = [_item(index, *given) for index, given in enumerate(_given(choice, response_id))]
        status = _status(choice)
        answer = _response(ask, response_id, at_s, status, items)
        spoil.put(answer, "usage", spoil.spoil(_usage(reply, spent), ask.script.usage))
        yield frame(f"response.{status}", response=answer)


def read(raw: bytes, reading: Reading) -> Ask:
    """A responses request -> an ask."""
    body = body_object(raw)
    given = body.get("input")
    messages = (
        [{"role": "user", "content": given}] if isinstance(given, str) else [_message(item) for item in given or []]
    )
    if isinstance(body.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": form}
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    chat = {
        "model": body.get("model"),
        "messages": messages,
        "tools": [{"type": tool.get("type"), "function": tool} for tool in body.get("tools") or []],
        "tool_choice": choice,
        "parallel_tool_calls": body.get("parallel_tool_calls"),
        "response_format": form,
        "max_completion_tokens": body.get("max_output_tokens"),
        "stream": body.get("stream"),
        "metadata": body.get("metadata"),
        "service_tier": body.get("service_tier"),
    }
    ask = openai_ask.read(msgspec.json.encode(chat), reading)
    echoed = {name: body.get(name) for name in _ECHOED} | {
        "tools": body.get("tools") or [],
        "tool_choice": choice or "auto",
    }
    return replace(ask, extra=echoed)


def _message(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Refused(400, "Invalid type for 'input': expected an object.", code="invalid_type", param="input")
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        return {
            "role": "assistant",
            "tool_calls": [{"id": item.get("call_id"), "type": "function", "function": function}],
        }
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": str(item.get("output") or "")}
    if kind != "message":
        return {"role": "assistant", "content": msgspec.json.encode(item).decode()}
    content = item.get("content")
    return {
        "role": item.get("role"),
        "content": [_part(part) for part in content] if isinstance(content, list) else content,
    }


def _part(part: Any) -> Any:
    kind = _PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
    if kind == "image_url":
        return {"type": kind, "image_url": {"url": part.get("image_url")}}
    if kind == "text":
        return {"type": "text", "text": part.get("text")}
    return {"type": kind, "file": part} if kind else part


def _given(choice: Choice, response_id: str) -> list[tuple[str, str, list[str], tuple[str, str]]]:
    """(kind, item id, pieces, (call id, name)) of each output item."""
    tail = response_id.removeprefix("chatcmpl-")
    items = [("message", f"msg_{tail}", choice.pieces, ("", ""))] if choice.pieces or not choice.calls else []
    return items + [
        ("function_call", f"fc_{tail}_{number}", call.pieces, (call.id, call.name))
        for number, call in enumerate(choice.calls)
    ]


def _item(number: int, kind: str, item_id: str, pieces: list[str], call: tuple[str, str]) -> dict[str, Any]:
    text = "".join(pieces)
    if kind == "function_call":
        return {
            "type": kind,
            "id": item_id,
            "call_id": call[0],
            "name": call[1],
            "arguments": text,
            "status": "completed",
        }
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}] if pieces else []
    return {"type": kind, "id": item_id, "role": "assistant", "content": content, "status": "completed"}


def _status(choice: Choice) -> str:
    return "incomplete" if choice.finish == "length" else "completed"


def _response(ask: Ask, response_id: str, at_s: int, status: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": response_id.replace("chatcmpl-", "resp_"),
        "object": "response",
        "created_at": at_s,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": ask.model.name,
        "output": items,
        "parallel_tool_calls": ask.parallel,
        "service_tier": ask.service_tier or "default",
        **ask.extra,
        "usage": None,
    }


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": reply.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": min(reply.reasoning_tokens, output)},
        "total_tokens": reply.input_tokens + output,
    }
