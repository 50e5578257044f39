"""OpenAI's chat completions, as both translations read and write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.providers.translation import Untranslatable

Fields = Mapping[str, Any]
LIMITS = ("max_completion_tokens", "max_tokens")


def check_asked(fields: Fields) -> None:
    """What no translation can do. Raises Untranslatable."""
    if fields.get("logprobs") or fields.get("top_logprobs"):
        raise Untranslatable("Log probabilities cannot be had from this model", "logprobs")
    if fields.get("audio") or "audio" in listed(fields.get("modalities"), "modalities"):
        raise Untranslatable("Spoken answers cannot be had from this model", "modalities")
    if fields.get("web_search_options"):
        raise Untranslatable("web_search_options is OpenAI's own search", "web_search_options")


def listed(value: Any, name: str) -> list[Any]:
    """A field that must be a list, or is absent."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Untranslatable(f"'{name}' must be a list", name)
    return value


def string(value: Any) -> str:
    """A text field; empty for whatever is no text."""
    return value if isinstance(value, str) else ""


def output_limit(fields: Fields) -> int | None:
    return next((fields[name] for name in LIMITS if fields.get(name) is not None), None)


def stops(fields: Fields) -> list[str]:
    """Stop sequences as a list, without those of white space alone, which other providers refuse."""
    given = fields.get("stop")
    listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    return [stop for stop in listed if isinstance(stop, str) and stop.strip()]


def text_of(content: Any, where: str) -> str:
    """A message's content that can only be text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(string(part.get("text")) for part in parts_of(content, where) if part.get("type") == "text")


def parts_of(content: Any, where: str) -> Iterator[Fields]:
    """The parts of a message's content, a plain string as one text part."""
    if content is None:
        return
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    if not isinstance(content, list):
        raise Untranslatable(f"{where}.content must be a string or a list of parts", where)
    for part in content:
        if isinstance(part, str):
            yield {"type": "text", "text": part}
        elif isinstance(part, Mapping):
            yield {"type": "text", "text": part.get("refusal")} if part.get("type") == "refusal" else part
        else:
            raise Untranslatable(f"{where}.content has a part that is no object", where)


def messages_of(fields: Fields) -> Sequence[tuple[str, Fields]]:
    """(where it stands, the message) for every message."""
    found = []
    for number, message in enumerate(listed(fields.get("messages"), "messages")):
        where = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise Untranslatable(f"{where} must be an object", where)
        found.append((where, message))
    return found


def data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64) of a data URL; None for any other URL."""
    if not url.startswith("data:"):
        return None
    head, comma, encoded = url[5:].partition(",")
    if not comma or not head.endswith(";base64"):
        return "", ""
    return head.removesuffix(";base64").partition(";")[0].lower(), encoded


def calls_of(message: Fields, where: str) -> list[tuple[str, str, dict[str, Any], Fields]]:
    """(id, name, arguments, the call) for each tool call of an assistant's message, the old form included."""
    found = []
    for call in listed(message.get("tool_calls"), f"{where}.tool_calls"):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise Untranslatable(f"{where}.tool_calls can only be function calls", f"{where}.tool_calls")
        name = str(function.get("name") or "")
        found.append((str(call.get("id") or ""), name, arguments_of(function.get("arguments"), where), call))
    old = message.get("function_call")
    if isinstance(old, Mapping) and not found:
        name = str(old.get("name") or "")
        found.append((old_call_id(name), name, arguments_of(old.get("arguments"), where), old))
    return found


def old_call_id(name: str) -> str:
    """The id that a call of the old form, which has none, goes by."""
    return f"call_{name}"


def arguments_of(text: Any, where: str) -> dict[str, Any]:
    if text is None or text == "":
        return {}
    try:
        value = orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise Untranslatable(f"The arguments of a call in {where} are not a JSON object", f"{where}.tool_calls")
    return value


def functions_of(fields: Fields) -> list[tuple[Fields, Fields]]:
    """(the function, the tool it stands in) for every tool offered, the old form included; narrowed to those that are allowed."""
    found = []
    for number, tool in enumerate(listed(fields.get("tools"), "tools")):
        function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            kind = str(tool.get("type"))[:40] if isinstance(tool, Mapping) else "?"
            raise Untranslatable(f"A tool of type '{kind}' is OpenAI's own", f"tools[{number}]")
        found.append((function, tool))
    old = [function for function in listed(fields.get("functions"), "functions") if isinstance(function, Mapping)]
    found += [(function, function) for function in old if isinstance(function.get("name"), str)]
    allowed = allowed_names(fields)
    return found if allowed is None else [pair for pair in found if pair[0]["name"] in allowed]


def choice_of(fields: Fields) -> tuple[str, str]:
    """(auto | none | required | named | "", the function's name): whether and what the model must call."""
    choice = fields.get("tool_choice", fields.get("function_call"))
    if choice is None:
        return "", ""
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice, ""
    if isinstance(choice, Mapping):
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            return ("required" if isinstance(allowed, Mapping) and allowed.get("mode") == "required" else "auto"), ""
        function = choice.get("function", choice)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            return "named", function["name"]
    raise Untranslatable("tool_choice names no function", "tool_choice")


def allowed_names(fields: Fields) -> frozenset[str] | None:
    choice = fields.get("tool_choice")
    if not isinstance(choice, Mapping) or choice.get("type") != "allowed_tools":
        return None
    allowed = choice.get("allowed_tools", choice)
    tools = allowed.get("tools") if isinstance(allowed, Mapping) else ()
    functions = (tool.get("function", tool) for tool in listed(tools, "tool_choice") if isinstance(tool, Mapping))
    return frozenset(str(function.get("name")) for function in functions if isinstance(function, Mapping))


def schema_of(fields: Fields) -> tuple[str, Fields]:
    """(text | json_object | json_schema, the schema)."""
    wanted = fields.get("response_format")
    if wanted is None:
        return "text", {}
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_schema":
        given = wanted.get("json_schema")
        schema = given.get("schema") if isinstance(given, Mapping) else None
        if not isinstance(schema, Mapping):
            raise Untranslatable("response_format.json_schema has no schema", "response_format")
        return "json_schema", schema
    if kind in ("text", "json_object"):
        return kind, {}
    raise Untranslatable("response_format must be text, json_object or json_schema", "response_format")


# --- Writing ----------------------------------------------------------------------------------------------------------


def completion(
    answer_id: str, created: int, model: str, choices: list[dict[str, Any]], usage: Any, **more: Any
) -> dict[str, Any]:
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage,
        **more,
    }


def usage(prompt: int, output: int, *, cached: int, written: int, reasoning: int) -> dict[str, Any]:
    """OpenAI's inclusive form, for showing; never for billing."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def count(source: Any, name: str) -> int:
    value = source.get(name) if isinstance(source, Mapping) else None
    return value if type(value) is int and value > 0 else 0


def message(texts: list[str], calls: list[dict[str, Any]], reasoning: list[str], **more: Any) -> dict[str, Any]:
    """An assistant's message. No content where there are calls and not a word."""
    made: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": None,
    }
    if reasoning:
        made["reasoning_content"] = "".join(reasoning)
    if calls:
        made["tool_calls"] = calls
    made.update({name: value for name, value in more.items() if value})
    return made


class Chunks:
    """Writes the chunks of one stream: same id, model and time in all of them."""

    __slots__ = ("_show_usage", "answer_id", "created", "model", "tier")

    def __init__(self, created: int, *, show_usage: bool) -> None:
        self.answer_id = ""
        self.model = ""
        self.created = created
        self.tier: str | None = None
        self._show_usage = show_usage

    def delta(self, delta: dict[str, Any], *, index: int = 0, finish: str | None = None) -> dict[str, Any]:
        return self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}], None)

    def last(self, usage: dict[str, Any]) -> list[dict[str, Any]]:
        """The usage chunk, for whoever asked for it."""
        return [self._chunk([], usage)] if self._show_usage else []

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "id": self.answer_id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.tier:
            chunk["service_tier"] = self.tier
        if self._show_usage:
            chunk["usage"] = usage
        return chunk
