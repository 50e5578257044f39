"""The OpenAI dialect, reading: a chat completion request becomes an ask, or is refused as OpenAI refuses it."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.simulator.dialect import Reading, Refused, body_object, checked, known_model, whole_number
from gateway.simulator.generate import Ask, Tool
from gateway.simulator.tokens import count_image

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


def read(raw: bytes, reading: Reading) -> Ask:
    """A chat completion request -> an ask. Raises Refused with OpenAI's status, code and parameter."""
    body = body_object(raw)
    model, model_script = known_model(body.get("model"))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(
            400, "Missing or empty required parameter: 'messages'.", code="missing_required_parameter", param="messages"
        )
    texts, image_tokens, user_text = _prompt(messages)
    script, user_text = reading.script(user_text, body.get("metadata"), model_script)
    tools = _tools(body)
    texts += [msgspec.json.encode([tool.name, tool.parameters]).decode() for tool in tools]
    schema = _schema(body.get("response_format"))
    if schema:
        texts.append(msgspec.json.encode(schema).decode())
    stream = _flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not stream:
        raise Refused(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    limit = whole_number(body, "max_completion_tokens", low=1, high=model.max_output)
    older = whole_number(body, "max_tokens", low=1, high=model.max_output)
    if limit is not None and older is not None:
        raise Refused(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
        )
    _number(body, "temperature", 0, 2)
    _number(body, "top_p", 0, 1)
    _number(body, "presence_penalty", -2, 2)
    _number(body, "frequency_penalty", -2, 2)
    tier = body.get("service_tier")
    return checked(
        Ask(
            model=model,
            model_named=str(body["model"]),
            script=script,
            attempt=reading.attempt,
            prompt="".join(texts).encode("utf-8", "surrogatepass"),
            image_tokens=image_tokens,
            user_text=user_text,
            tools=tools,
            must_call=_must_call(body, messages),
            parallel=body.get("parallel_tool_calls") is not False,
            json_schema=schema,
            n=whole_number(body, "n", low=1, high=128) or 1,
            max_output=limit or older,
            stop=_stops(body.get("stop")),
            seed=whole_number(body, "seed", low=-(2**63), high=2**63 - 1),
            stream=stream,
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
            top_logprobs=_logprobs(body),
            service_tier=tier if isinstance(tier, str) else None,
        )
    )


def _prompt(messages: list[Any]) -> tuple[list[str], int, str]:
    """All text of the messages, the tokens of their images, and what the user said last."""
    texts: list[str] = []
    images = 0
    user_text = ""
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise Refused(400, f"Invalid type for '{where}': expected an object.", code="invalid_type", param=where)
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise Refused(
                400,
                f"Invalid value: {role!r}. Supported values are: {', '.join(sorted(ROLES))}.",
                param=where + ".role",
            )
        calls = message.get("tool_calls") or []
        if content is None and role != "assistant":
            raise Refused(
                400, f"Invalid value for '{where}.content': expected a string, got null.", param=where + ".content"
            )
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise Refused(400, f"Missing required parameter: '{where}.tool_call_id'.", param=where + ".tool_call_id")
        spoken: list[str] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else (content or []):
            images += _part(part, spoken, where)
        texts += spoken
        if isinstance(message.get("name"), str):
            texts.append(message["name"])
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                raise Refused(400, f"Missing required parameter: '{where}.tool_calls[].function'.", param=where)
            texts += [str(function.get("name", "")), str(function.get("arguments", ""))]
        if role == "user":
            user_text = "".join(spoken)
    return texts, images, user_text


def _part(part: Any, spoken: list[str], where: str) -> int:
    """Adds a content part's text; returns its image tokens."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in {"text", "refusal"} and isinstance(part.get(kind), str):
        spoken.append(part[kind])
        return 0
    if (
        kind == "image_url"
        and isinstance(part.get("image_url"), dict)
        and isinstance(part["image_url"].get("url"), str)
    ):
        url = part["image_url"]["url"]
        if not url.startswith(("data:image/", "https://", "http://")):
            raise Refused(
                400,
                "Invalid image URL: expected an http(s) or a data:image/ URL.",
                code="invalid_image_url",
                param=where,
            )
        return count_image(url)
    if kind in {"input_audio", "file"} and isinstance(part.get(kind), dict):
        return count_image(
            str(part[kind].get("data") or part[kind].get("file_data") or part[kind].get("file_id") or "")
        )
    raise Refused(400, f"Invalid content part in '{where}': {kind!r}.", code="invalid_value", param=where + ".content")


def _tools(body: dict[str, Any]) -> tuple[Tool, ...]:
    offered = body.get("tools") or []
    tools: list[Tool] = []
    for number, tool in enumerate(offered if isinstance(offered, list) else [None]):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused(
                400, f"Missing required parameter: 'tools[{number}].function.name'.", param=f"tools[{number}]"
            )
        tools.append(Tool(function["name"], function.get("parameters")))
    chosen = body.get("tool_choice")
    if isinstance(chosen, dict):
        name = (chosen.get("function") or {}).get("name")
        tools = [tool for tool in tools if tool.name == name]
        if not tools:
            raise Refused(
                400, f"Invalid value for 'tool_choice': no function {name!r} in 'tools'.", param="tool_choice"
            )
    elif chosen not in (None, "auto", "none", "required"):
        raise Refused(400, "Invalid value for 'tool_choice'.", code="invalid_value", param="tool_choice")
    elif chosen is not None and not tools:
        raise Refused(
            400, "Invalid value for 'tool_choice': it is only allowed when 'tools' are specified.", param="tool_choice"
        )
    return tuple(tools)


def _must_call(body: dict[str, Any], messages: list[Any]) -> bool:
    """Our models call a tool when one is demanded, and on their own when tools are offered and the user spoke last."""
    chosen = body.get("tool_choice")
    if chosen == "none":
        return False
    return chosen == "required" or isinstance(chosen, dict) or messages[-1].get("role") == "user"


def _schema(form: Any) -> Any:
    """None for text, {} for any JSON object, else the schema."""
    kind = form.get("type") if isinstance(form, dict) else form
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return {}
    wanted = form.get("json_schema") if kind == "json_schema" and isinstance(form, dict) else None
    if (
        not isinstance(wanted, dict)
        or not isinstance(wanted.get("name"), str)
        or not isinstance(wanted.get("schema"), dict)
    ):
        raise Refused(
            400, "Missing required parameter: 'response_format.json_schema'.", param="response_format.json_schema"
        )
    return wanted["schema"]


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else (stop or [])
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(one, str) for one in stops):
        raise Refused(400, "Invalid value for 'stop': a string or up to four strings.", param="stop")
    return tuple(stops)


def _logprobs(body: dict[str, Any]) -> int | None:
    top = whole_number(body, "top_logprobs", low=0, high=20)
    if not _flag(body, "logprobs"):
        if top is not None:
            raise Refused(
                400, "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs"
            )
        return None
    return top or 0


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"Invalid type for '{name}': expected a boolean.", code="invalid_type", param=name)
    return bool(value)


def _number(body: dict[str, Any], name: str, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refused(400, f"Invalid value for '{name}': a number from {low} to {high}.", param=name)
