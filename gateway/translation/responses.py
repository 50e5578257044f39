"""OpenAI's responses, as both translations read and write them: an input becomes a chat completion's body, a chat completion an output. Pure.

Stateless: what a response referred to at OpenAI (an earlier response, a conversation, a stored prompt or file) is not at hand here. A model's
thinking goes out in a reasoning item's `encrypted_content`, which every client sends back as it came, and returns from there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.providers.translation import Request, Untranslatable
from gateway.translation import chat
from gateway.translation.chat import Fields

Item = dict[str, Any]

_STORED = {
    "previous_response_id": "names a response that is stored at OpenAI. This model's provider stores none: send the conversation again in "
    "`input`, with the items of each response's `output` as they came",
    "conversation": "names a conversation that is stored at OpenAI. This model's provider stores none: send it in `input`",
    "prompt": "names a prompt that is stored at OpenAI: send its text in `instructions`",
}
_PASSED = (
    "temperature", "top_p", "parallel_tool_calls", "stream", "user", "safety_identifier", "service_tier", "thinking", "top_k", "cache_control",
)  # fmt: skip
_THINKING = "sluice.thinking."
"""How an `encrypted_content` of ours begins."""
_WHERE = re.compile(r"messages\[(\d+)\]")


def as_chat(fields: Fields) -> dict[str, Any]:
    """The body of the same chat completion. Raises Untranslatable, in the words of the responses API."""
    return _as_chat(fields)[0]


def translated(fields: Fields, model: str, to_model: Request) -> dict[str, Any]:
    """`to_model(chat completion's body, model)`, with its complaints naming the items of `input`."""
    asked, origins = _as_chat(fields)
    try:
        return to_model(asked, model)
    except Untranslatable as error:

        def place(hit: re.Match[str]) -> str:
            number = int(hit[1])
            return origins[number] if number < len(origins) else "input"

        param = "text.format" if error.param == "response_format" else _WHERE.sub(place, error.param)
        raise Untranslatable(_WHERE.sub(place, str(error)), param) from None


def _as_chat(fields: Fields) -> tuple[dict[str, Any], list[str]]:
    _check(fields)
    body: dict[str, Any] = {name: fields[name] for name in _PASSED if fields.get(name) is not None}
    messages, origins = _messages(fields)
    body["messages"] = messages
    if fields.get("max_output_tokens") is not None:
        body["max_completion_tokens"] = fields["max_output_tokens"]
    tools = [_tool(tool, number) for number, tool in enumerate(chat.listed(fields.get("tools"), "tools"))]
    if tools:
        body["tools"] = tools
    if fields.get("tool_choice") is not None:
        body["tool_choice"] = fields["tool_choice"]
    reasoning = fields.get("reasoning")
    if isinstance(reasoning, Mapping):
        if reasoning.get("effort") is not None:
            body["reasoning_effort"] = reasoning["effort"]
        if reasoning.get("summary") or reasoning.get("generate_summary"):
            body["show_reasoning"] = True
    text = fields.get("text")
    wanted = text.get("format") if isinstance(text, Mapping) else None
    if isinstance(wanted, Mapping):
        kind = wanted.get("type")
        body["response_format"] = {"type": kind, "json_schema": wanted} if kind == "json_schema" else dict(wanted)
    return body, origins


def _check(fields: Fields) -> None:
    for name, why in _STORED.items():
        if fields.get(name) is not None:
            raise Untranslatable(f"'{name}' {why}", name)
    if fields.get("top_logprobs") or "message.output_text.logprobs" in chat.listed(fields.get("include"), "include"):
        raise Untranslatable("Log probabilities cannot be had from this model", "top_logprobs")
    if fields.get("context_management"):
        raise Untranslatable(
            "'context_management' is OpenAI's own way of shortening a conversation", "context_management"
        )


def _tool(tool: Any, number: int) -> Item:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        kind = str(tool.get("type"))[:40] if isinstance(tool, Mapping) else "?"
        raise Untranslatable(f"A tool of type '{kind}' is OpenAI's own", f"tools[{number}]")
    function = {
        name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None
    }
    made: Item = {"type": "function", "function": function}
    if tool.get("cache_control") is not None:
        made["cache_control"] = tool["cache_control"]
    return made


def _messages(fields: Fields) -> tuple[list[Item], list[str]]:
    """The chat's messages, and where in the request each stands. What the model said in a row is one message, as far as its order allows."""
    messages: list[Item] = []
    origins: list[str] = []
    if fields.get("instructions") is not None:
        messages.append({"role": "system", "content": fields["instructions"]})
        origins.append("instructions")
    given = fields.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else chat.listed(given, "input")
    for number, item in enumerate(items):
        where = f"input[{number}]"
        if not isinstance(item, Mapping):
            raise Untranslatable(f"{where} must be an object", where)
        made = _message(item, where)
        if made is None:
            continue
        last = messages[-1] if messages else None
        if last is not None and last["role"] == made["role"] == "assistant" and _continues(last, made):
            _join(last, made)
        else:
            messages.append(made)
            origins.append(where)
    return messages, origins


def _message(item: Fields, where: str) -> Item | None:
    kind = item.get("type", "message")
    if kind == "message":
        made: Item = {"role": item.get("role"), "content": _content(item.get("content"), where)}
        for name in ("cache_control", "extra_content"):
            if item.get(name) is not None:
                made[name] = item[name]
        return made
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        call |= {name: item[name] for name in ("cache_control", "extra_content") if item.get(name) is not None}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        told: Item = {
            "role": "tool",
            "tool_call_id": item.get("call_id"),
            "content": _content(item.get("output"), where),
        }
        if item.get("cache_control") is not None:
            told["cache_control"] = item["cache_control"]
        return told
    if kind == "reasoning":
        blocks = _opened(item.get("encrypted_content"))
        return {"role": "assistant", "content": None, "thinking_blocks": blocks} if blocks else None
    if kind == "item_reference":
        raise Untranslatable(f"{where} refers to an item that is stored at OpenAI: send the item itself", where)
    raise Untranslatable(f"{where} is an item of type '{str(kind)[:40]}', which is OpenAI's own", where)


def _continues(last: Item, made: Item) -> bool:
    """Whether an item can stand in the message before it: thinking before words, words before calls."""
    if made.get("thinking_blocks"):
        return not last.get("tool_calls") and not last.get("content")
    if made.get("tool_calls"):
        return True
    return not last.get("tool_calls") and "extra_content" not in last


def _join(last: Item, made: Item) -> None:
    for name in ("thinking_blocks", "tool_calls"):
        if made.get(name):
            last[name] = [*last.get(name, ()), *made[name]]
    if made.get("content"):
        last["content"] = [*chat.parts_of(last.get("content"), "input"), *chat.parts_of(made["content"], "input")]
    for name in ("cache_control", "extra_content"):
        if name in made:
            last[name] = made[name]


def _content(content: Any, where: str) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(part, where) for part in content]


def _part(part: Any, where: str) -> Item:
    if not isinstance(part, Mapping):
        raise Untranslatable(f"{where}.content has a part that is no object", where)
    kind = part.get("type")
    made: Item
    if kind in ("input_text", "output_text", "text"):
        made = {"type": "text", "text": chat.string(part.get("text"))}
    elif kind == "refusal":
        made = {"type": "text", "text": chat.string(part.get("refusal"))}
    elif kind == "input_image":
        if part.get("file_id") is not None and part.get("image_url") is None:
            raise Untranslatable(f"{where} has a picture that is stored at OpenAI: send it as image_url", where)
        made = {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    elif kind == "input_file":
        made = {
            "type": "file",
            "file": {name: part[name] for name in ("file_data", "file_url", "filename") if part.get(name)},
        }
    elif kind == "input_audio":
        made = {"type": "input_audio", "input_audio": part.get("input_audio")}
    else:
        raise Untranslatable(f"{where} has a part of type '{str(kind)[:40]}'", where)
    if part.get("cache_control") is not None:
        made["cache_control"] = part["cache_control"]
    return made


# --- Writing ----------------------------------------------------------------------------------------------------------


def response(completion: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """A chat completion (of a translation) as a response to `fields`, the client's own request."""
    choice = completion["choices"][0]
    message = choice["message"]
    response_id = response_id_of(completion)
    output: list[Item] = []
    thoughts = [block for block in message.get("thinking_blocks", ()) if isinstance(block, Mapping)]
    if thoughts:
        output += [
            reasoning_item(f"rs_{_tail(response_id)}_{n}", said_of(block), [block]) for n, block in enumerate(thoughts)
        ]
    elif message.get("reasoning_content"):
        output.append(reasoning_item(f"rs_{_tail(response_id)}_0", message["reasoning_content"], []))
    calls = message.get("tool_calls") or ()
    if message.get("content") or not calls:
        extra = {"extra_content": message["extra_content"]} if message.get("extra_content") else {}
        output.append(message_item(f"msg_{_tail(response_id)}", message.get("content") or "", **extra))
    output += [call_item(f"fc_{_tail(response_id)}_{number}", call) for number, call in enumerate(calls)]
    status, reason = status_of(choice.get("finish_reason"))
    head = opening(response_id, completion["created"], str(completion.get("model") or ""), fields)
    tier = completion.get("service_tier")
    return final(head, status, reason, output, completion.get("usage"), tier if isinstance(tier, str) else None)


def opening(response_id: str, created: int, model: str, fields: Fields) -> dict[str, Any]:
    """A response that has begun: what it repeats of the request, and nothing said yet."""
    text = fields.get("text")
    reasoning = fields.get("reasoning")
    reasoning = reasoning if isinstance(reasoning, Mapping) else {}
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": fields.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": fields.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": fields.get("safety_identifier"),
        "service_tier": "default",
        "store": False,
        "temperature": fields.get("temperature"),
        "text": text if isinstance(text, Mapping) and "format" in text else {"format": {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.get("tools") or [],
        "top_logprobs": 0,
        "top_p": fields.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": fields.get("user"),
    }


def final(
    head: dict[str, Any], status: str, reason: str | None, output: list[Item], usage: Any, tier: str | None
) -> dict[str, Any]:
    return {
        **head,
        "status": status,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": usage_of(usage),
        "service_tier": tier or head["service_tier"],
    }


def status_of(finish: Any) -> tuple[str, str | None]:
    """(the response's status, why it is incomplete) of a chat completion's finish reason."""
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(str(finish))
    return ("incomplete", reason) if reason else ("completed", None)


def usage_of(usage: Any) -> dict[str, Any] | None:
    """OpenAI's inclusive form, for showing; never for billing."""
    if not isinstance(usage, Mapping):
        return None
    prompt, output = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return {
        "input_tokens": chat.count(usage, "prompt_tokens"),
        "input_tokens_details": {
            "cached_tokens": chat.count(prompt, "cached_tokens"),
            "cache_write_tokens": chat.count(prompt, "cache_write_tokens"),
        },
        "output_tokens": chat.count(usage, "completion_tokens"),
        "output_tokens_details": {"reasoning_tokens": chat.count(output, "reasoning_tokens")},
        "total_tokens": chat.count(usage, "total_tokens"),
    }


def response_id_of(completion: Mapping[str, Any]) -> str:
    return "resp_" + str(completion.get("id") or "").removeprefix("chatcmpl-").removeprefix("msg_")


def _tail(response_id: str) -> str:
    return response_id.removeprefix("resp_")


def message_item(item_id: str, text: str, *, status: str = "completed", **more: Any) -> Item:
    content = [text_part(text)] if text or status == "completed" else []
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content, **more}


def text_part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(item_id: str, call: Mapping[str, Any], *, status: str = "completed") -> Item:
    function = call["function"]
    made = {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call.get("id") or "",
        "name": function.get("name") or "",
        "arguments": function.get("arguments") or "",
    }
    return made | ({"extra_content": call["extra_content"]} if call.get("extra_content") else {})


def reasoning_item(item_id: str, said: str, blocks: list[Mapping[str, Any]], **more: Any) -> Item:
    summary = [{"type": "summary_text", "text": said}] if said else []
    return {"id": item_id, "type": "reasoning", "summary": summary, "encrypted_content": _sealed(blocks), **more}


def said_of(block: Mapping[str, Any]) -> str:
    return chat.string(block.get("thinking"))


def _sealed(blocks: list[Mapping[str, Any]]) -> str | None:
    """Thinking as one opaque word. It is not secret, only not the client's to read: its signature makes a change of it useless."""
    if not blocks:
        return None
    plain = [{name: value for name, value in block.items() if name != "index"} for block in blocks]
    return _THINKING + base64.urlsafe_b64encode(orjson.dumps(plain)).decode()


def _opened(sealed: Any) -> list[Item]:
    """The thinking in an item's `encrypted_content`; nothing where another model's is in it, which this one could not read."""
    if not isinstance(sealed, str) or not sealed.startswith(_THINKING):
        return []
    try:
        blocks = orjson.loads(base64.urlsafe_b64decode(sealed.removeprefix(_THINKING)))
    except (binascii.Error, ValueError):
        return []
    return [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
