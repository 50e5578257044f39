"""The Anthropic dialect: messages. `input_tokens` leave cached tokens out, as theirs do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.simulator import spoil
from gateway.simulator.dialect import Reading, Refused, body_object, checked, known_model, whole_number
from gateway.simulator.generate import Ask, Choice, Reply, Tool
from gateway.simulator.sse import Frame
from gateway.simulator.tokens import count_image

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP = {"stop": "end_turn", "stop_sequence": "stop_sequence", "length": "max_tokens", "tool_calls": "tool_use"}


class Anthropic:
    done: bytes | None = None
    content_type = "text/event-stream; charset=utf-8"

    def error(self, refused: Refused) -> dict[str, Any]:
        kind = _TYPES.get(refused.status, "api_error" if refused.status >= 500 else "invalid_request_error")
        stated: dict[str, Any] = {"type": kind, "message": refused.message}
        if str(refused.code).startswith("thread_"):
            stated["details"] = {"error_code": refused.code}
        return {"type": "error", "error": stated, "request_id": "req_simulator"}

    def whole(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> dict[str, Any]:
        choice = reply.choices[0]
        content: list[dict[str, Any]] = []
        if choice.pieces:
            content.append({"type": "text", "text": "".join(choice.pieces), "citations": None})
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.pieces)}
            for call in choice.calls
        ]
        answer = _message(ask, response_id, content, choice)
        return spoil.put(answer, "usage", spoil.spoil(_usage(reply, reply.output_tokens), ask.script.usage))

    def frames(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> Iterator[Frame]:
        choice = reply.choices[0]
        mode = ask.script.usage
        spent = choice.reasoning

        def frame(name: str, **payload: Any) -> Frame:
            return Frame({"type": name, **payload}, spent, name)

        opening = _message(ask, response_id, [], None)
        spoil.put(opening, "usage", spoil.spoil(_usage(reply, min(1, reply.output_tokens)), mode))
        yield frame("message_start", message=opening)
        blocks: list[tuple[dict[str, Any], list[str], str]] = []
        if choice.pieces or not choice.calls:
            blocks.append(({"type": "text", "text": ""}, choice.pieces, "text"))
        blocks += [
            ({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, call.pieces, "json")
            for call in choice.calls
        ]
        for index, (block, pieces, kind) in enumerate(blocks):
            yield frame("content_block_start", index=index, content_block=block)
            if index == 0:
                yield frame("ping")
            for piece in pieces:
                spent += 1
                text = {"type": "text_delta", "text": piece}
                delta = text if kind == "text" else {"type": "input_json_delta", "partial_json": piece}
                yield frame("content_block_delta", index=index, delta=delta)
            yield frame("content_block_stop", index=index)
        ending = {"stop_reason": _STOP[choice.finish], "stop_sequence": choice.stopped_by}
        said = spoil.spoil(_delta_usage(reply, spent), mode)
        for _ in range(2 if mode == "twice" else 1):
            yield frame("message_delta", **spoil.put({"delta": ending}, "usage", said))
        yield frame("message_stop")


def read(raw: bytes, reading: Reading, *, needs_limit: bool = True) -> Ask:
    """A messages request -> an ask. Raises Refused."""
    body = body_object(raw)
    model, model_script = known_model(body.get("model"))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: at least one message is required")
    limit = whole_number(body, "max_tokens", low=0, high=model.max_output)
    if limit is None and needs_limit:
        raise Refused(400, "max_tokens: Field required")
    texts, images = _texts(body.get("system") or [])
    user_text = ""
    tool_result_last = False
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in {"user", "assistant"}:
            raise Refused(400, f"messages.{number}.role: Input should be 'user' or 'assistant'")
        spoken, more = _texts(message.get("content"))
        texts += spoken
        images += more
        if message["role"] == "user":
            user_text = "".join(spoken)
            content = message.get("content")
            tool_result_last = isinstance(content, list) and any(
                isinstance(part, dict) and part.get("type") == "tool_result" for part in content
            )
    tools = _tools(body)
    texts += [msgspec.json.encode([tool.name, tool.parameters]).decode() for tool in tools]
    given = body.get("tool_choice")
    choice: dict[str, Any] = given if isinstance(given, dict) else {}
    script, user_text = reading.script(user_text, body.get("metadata"), model_script)
    return checked(
        Ask(
            model=model,
            model_named=str(body["model"]),
            script=script,
            attempt=reading.attempt,
            prompt="".join(texts).encode("utf-8", "surrogatepass"),
            image_tokens=images,
            user_text=user_text,
            tools=tools,
            must_call=choice.get("type") != "none" and (choice.get("type") in {"any", "tool"} or not tool_result_last),
            parallel=choice.get("disable_parallel_tool_use") is not True,
            json_schema=_schema(body),
            max_output=limit,
            stop=tuple(str(stop) for stop in body.get("stop_sequences") or ()),
            stream=body.get("stream") is True,
        )
    )


def counted(ask: Ask) -> dict[str, Any]:
    return {"input_tokens": ask.input_tokens}


def _texts(content: Any) -> tuple[list[str], int]:
    if isinstance(content, str):
        return [content], 0
    if not isinstance(content, list):
        raise Refused(400, "messages: content must be a string or a list of blocks")
    texts: list[str] = []
    images = 0
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind in {"image", "document"} and isinstance(block.get("source"), dict):
            source = block["source"]
            images += count_image(str(source.get("data") or source.get("url") or source.get("file_id") or ""))
        elif kind == "tool_use":
            texts += [str(block.get("name", "")), msgspec.json.encode(block.get("input")).decode()]
        elif kind == "tool_result":
            inner, more = _texts(block.get("content") or [])
            texts += inner
            images += more
        elif kind in {"thinking", "redacted_thinking"}:
            texts.append(str(block.get("thinking") or block.get("data") or ""))
        else:
            raise Refused(400, f"messages: unknown content block {kind!r}")
    return texts, images


def _tools(body: dict[str, Any]) -> tuple[Tool, ...]:
    tools = []
    for number, tool in enumerate(body.get("tools") or []):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise Refused(400, f"tools.{number}.name: Field required")
        tools.append(Tool(tool["name"], tool.get("input_schema")))
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "tool":
        tools = [tool for tool in tools if tool.name == choice.get("name")]
    return tuple(tools)


def _schema(body: dict[str, Any]) -> Any:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    return wanted.get("schema") if isinstance(wanted, dict) else None


def _message(ask: Ask, response_id: str, content: list[dict[str, Any]], choice: Choice | None) -> dict[str, Any]:
    return {
        "id": response_id,
        "type": "message",
        "role": "assistant",
        "model": ask.model.name,
        "content": content,
        "stop_reason": _STOP[choice.finish] if choice else None,
        "stop_sequence": choice.stopped_by if choice else None,
    }


def _arguments(pieces: list[str]) -> Any:
    """The arguments as an object; what an output limit cut off is lost, as with theirs."""
    try:
        return msgspec.json.decode("".join(pieces))
    except msgspec.DecodeError:
        return {}


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    return {**_delta_usage(reply, output), "service_tier": "standard"}


def _delta_usage(reply: Reply, output: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": output,
    }
