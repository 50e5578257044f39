"""A chat completion's body -> an Anthropic messages body. Pure; raises Untranslatable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.providers.translation import Untranslatable
from gateway.translation import chat
from gateway.translation.chat import Fields

Block = dict[str, Any]

_PASSED = ("thinking", "top_k", "cache_control")
"""Anthropic's own fields, for clients that know whom they are asking."""
_OLD = re.compile(r"claude-(?:2|instant|v1|3|4)|-4-[015](?:$|-|@)|-4(?:$|-20|@)")
"""Models before 4.6: they think by a budget. From 4.6 on they think as they see fit, and are told how hard (`output_config.effort`); 4.7 and later
refuse a budget (platform.claude.com/docs/en/build-with-claude/adaptive-thinking; Bedrock's page of the same name)."""
_SAMPLED = re.compile(rf"{_OLD.pattern}|-4-6(?:$|-|@)")
"""Models that take a temperature while they do not think: 4.7 and later refuse one (".../about-claude/models/whats-new-claude-4-7")."""
_NEED_NOT_THINK = re.compile(r"-4-[678](?:$|-|@)|(?:opus|sonnet)-5(?:$|@|-v|-20)")
"""Newer models whose thinking can be switched off; Fable, Mythos and 5.5 refuse "disabled" (platform.claude.com/docs/en/api/errors)."""
_THINKS_BY_BUDGET = re.compile(r"3-7|-4(?:$|-)")
_BUDGETS = {"low": 1_024, "medium": 4_096, "high": 16_384, "xhigh": 32_768, "max": 32_768}
SMALLEST_BUDGET = 1_024
_UNSUPPORTED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems", "uniqueItems"}
)  # fmt: skip
"""Constraints that Anthropic's schemas refuse: they become part of the description, as in its own SDK."""
ASK_FOR_JSON = "Respond with one JSON object and nothing else."
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def request(fields: Fields, model: str) -> dict[str, Any]:
    """The messages body for `model`. Without `max_tokens` where the client set no limit: the caller must set one."""
    chat.check_asked(fields)
    if fields.get("n") not in (None, 1):
        raise Untranslatable("Claude gives one answer a call", "n")
    system, messages = _messages(fields)
    body: dict[str, Any] = {"model": model}
    limit = chat.output_limit(fields)
    if limit is not None:
        body["max_tokens"] = limit
    body["messages"] = messages
    tools = _tools(fields)
    if tools:
        body["tools"] = tools
    forced = _choose(fields, body, bool(tools))
    _answer_format(fields, body, system)
    if system:
        body["system"] = system
    body.update({name: fields[name] for name in _PASSED if fields.get(name) is not None})
    if "thinking" not in body:
        _think(fields, model, body, limit, forced)
    _sample(fields, model, body)
    if fields.get("stream") is True:
        body["stream"] = True
    return body


def _messages(fields: Fields) -> tuple[list[Block], list[Block]]:
    """(system blocks, turns). Turns of one role in a row are one turn, results of tools first in theirs."""
    system: list[Block] = []
    turns: list[Block] = []
    for where, message in chat.messages_of(fields):
        role = message.get("role")
        if role in ("system", "developer"):
            system += _marked([_text(part, where) for part in chat.parts_of(message.get("content"), where)], message)
            continue
        if role == "user":
            speaker, blocks = "user", [_block(part, where) for part in chat.parts_of(message.get("content"), where)]
        elif role == "assistant":
            speaker, blocks = "assistant", _assistant(message, where)
        elif role in ("tool", "function"):
            speaker, blocks = "user", [_result(message, where)]
        else:
            raise Untranslatable(f"{where} has the role '{str(role)[:40]}'", f"{where}.role")
        blocks = _marked([block for block in blocks if block.get("type") != "text" or block["text"]], message)
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": speaker, "content": blocks})
    if not turns:
        raise Untranslatable("There is no message but instructions", "messages")
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _without_trailing_blanks(turns[-1])
    return [block for block in system if block["text"]], turns


def _without_trailing_blanks(turn: Block) -> None:
    """An answer that the client began may not end in white space."""
    last = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()
        if not last["text"] and len(turn["content"]) > 1:
            turn["content"].pop()


def _marked(blocks: list[Block], message: Fields) -> list[Block]:
    """A cache marker on the message is meant for its last block."""
    marker = message.get("cache_control")
    if marker is not None and blocks:
        blocks[-1].setdefault("cache_control", marker)
    return blocks


def _with_marker(block: Block, part: Fields) -> Block:
    if part.get("cache_control") is not None:
        block["cache_control"] = part["cache_control"]
    return block


def _text(part: Fields, where: str) -> Block:
    if part.get("type") != "text":
        raise Untranslatable(f"{where} can only hold text", where)
    return _with_marker({"type": "text", "text": chat.string(part.get("text"))}, part)


def _block(part: Fields, where: str) -> Block:
    kind = part.get("type")
    if kind == "text":
        return _text(part, where)
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return _with_marker({"type": "image", "source": _source(url, where, _IMAGE_TYPES)}, part)
    if kind == "file":
        return _with_marker(_document(part.get("file"), where), part)
    raise Untranslatable(f"{where} has a part of type '{str(kind)[:40]}', which Claude does not take", where)


def _source(url: Any, where: str, types: frozenset[str]) -> Block:
    if not isinstance(url, str):
        raise Untranslatable(f"{where} has a picture without a url", where)
    inline = chat.data_url(url)
    if inline is None:
        return {"type": "url", "url": url}
    media_type, encoded = inline
    if media_type not in types or not encoded:
        raise Untranslatable(f"{where} has data of type '{media_type[:40]}', which Claude does not take", where)
    return {"type": "base64", "media_type": media_type, "data": encoded}


def _document(file: Any, where: str) -> Block:
    if isinstance(file, Mapping) and isinstance(file.get("file_url"), str):
        return {"type": "document", "source": {"type": "url", "url": file["file_url"]}}
    encoded = file.get("file_data") if isinstance(file, Mapping) else None
    if not isinstance(encoded, str):
        raise Untranslatable(f"{where} has a file that is stored at OpenAI", where)
    if not encoded.startswith("data:"):
        encoded = f"data:application/pdf;base64,{encoded}"
    block: Block = {"type": "document", "source": _source(encoded, where, frozenset({"application/pdf"}))}
    if isinstance(file.get("filename"), str):
        block["title"] = file["filename"]
    return block


def _assistant(message: Fields, where: str) -> list[Block]:
    """Thinking first, as it came; then words, then calls."""
    thoughts = [
        thought for thought in chat.listed(message.get("thinking_blocks"), where) if isinstance(thought, Mapping)
    ]
    blocks = [
        {name: value for name, value in thought.items() if name != "index"}
        for thought in thoughts
        if thought.get("type") in ("thinking", "redacted_thinking")
    ]
    blocks += [_text(part, where) for part in chat.parts_of(message.get("content"), where)]
    for call_id, name, arguments, call in chat.calls_of(message, where):
        blocks.append(_with_marker({"type": "tool_use", "id": call_id, "name": name, "input": arguments}, call))
    return blocks


def _result(message: Fields, where: str) -> Block:
    call_id = message.get("tool_call_id") or chat.old_call_id(str(message.get("name") or ""))
    content = message.get("content")
    told: Any = content
    if not isinstance(content, str):
        told = [
            block for block in (_block(part, where) for part in chat.parts_of(content, where)) if block.get("text", "x")
        ]
    block: Block = {"type": "tool_result", "tool_use_id": str(call_id)}
    if told:
        block["content"] = told
    return block


def _tools(fields: Fields) -> list[Block]:
    tools = []
    for function, tool in chat.functions_of(fields):
        made: Block = {"name": function["name"]}
        if isinstance(function.get("description"), str):
            made["description"] = function["description"]
        schema = function.get("parameters")
        made["input_schema"] = schema if isinstance(schema, dict) and schema else {"type": "object", "properties": {}}
        if function.get("strict") is True:
            made["strict"] = True
        tools.append(_with_marker(_with_marker(made, function), tool))
    return tools


def _choose(fields: Fields, body: Block, offered: bool) -> bool:
    """Sets `tool_choice`. Whether a call is demanded."""
    how, name = chat.choice_of(fields)
    alone = fields.get("parallel_tool_calls") is False
    if not offered or (not how and not alone):
        return False
    choice: Block = {"type": {"required": "any", "named": "tool", "none": "none"}.get(how, "auto")}
    if name:
        choice["name"] = name
    if alone and how != "none":
        choice["disable_parallel_tool_use"] = True
    body["tool_choice"] = choice
    return how in ("required", "named")


def _answer_format(fields: Fields, body: Block, system: list[Block]) -> None:
    kind, schema = chat.schema_of(fields)
    if kind == "json_schema":
        body["output_config"] = {"format": {"type": "json_schema", "schema": strict_schema(schema)}}
    elif kind == "json_object":
        system.append({"type": "text", "text": ASK_FOR_JSON})


def strict_schema(node: Any) -> Any:
    """The schema in the subset that Anthropic takes: closed objects, and other constraints told in the description."""
    if isinstance(node, list):
        return [strict_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    told = []
    for name, value in node.items():
        if name in ("properties", "$defs", "definitions", "patternProperties") and isinstance(value, dict):
            made[name] = {key: strict_schema(inner) for key, inner in value.items()}
        elif name in ("enum", "const", "default", "examples", "required"):
            made[name] = value
        elif name in _UNSUPPORTED or (name == "minItems" and value not in (0, 1)):
            told.append(f"{name}: {value}")
        else:
            made[name] = strict_schema(value)
    if made.get("type") == "object" or "properties" in made:
        made["additionalProperties"] = False
    if told:
        said = made.get("description")
        made["description"] = (f"{said}\n\n" if isinstance(said, str) else "") + "{" + ", ".join(told) + "}"
    return made


def _think(fields: Fields, model: str, body: Block, limit: int | None, forced: bool) -> None:
    effort = fields.get("reasoning_effort")
    if not isinstance(effort, str) or effort not in _BUDGETS:
        if effort in ("none", "minimal") and not _OLD.search(model):
            if _NEED_NOT_THINK.search(model):
                body["thinking"] = {"type": "disabled"}
            else:
                body.setdefault("output_config", {})["effort"] = "low"
        return
    if not _OLD.search(model):
        known = "high" if effort == "xhigh" and _SAMPLED.search(model) else effort  # 4.6 has no "xhigh"
        body.setdefault("output_config", {})["effort"] = known
        if not forced:  # a forced call and thinking exclude each other
            shown = {"display": "summarized"} if fields.get("show_reasoning") is True else {}
            body["thinking"] = {"type": "adaptive", **shown}
        return
    if not _THINKS_BY_BUDGET.search(model) or forced or _unthinking_calls(body["messages"]):
        return
    budget = _BUDGETS[effort]
    if (
        limit is not None
    ):  # the client's limit holds: thinking counts inside it, and something must be left for the answer
        budget = min(budget, limit // 2)
    if budget >= SMALLEST_BUDGET:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _unthinking_calls(turns: list[Block]) -> bool:
    """The last answer called tools without its thinking at hand: the API then refuses to think on."""
    last = next((turn for turn in reversed(turns) if turn["role"] == "assistant"), None)
    if last is None:
        return False
    kinds = {block["type"] for block in last["content"]}
    return "tool_use" in kinds and not kinds & {"thinking", "redacted_thinking"}


def _sample(fields: Fields, model: str, body: Block) -> None:
    listed = chat.stops(fields)
    if listed:
        body["stop_sequences"] = listed
    thinking = body.get("thinking")
    thinks = isinstance(thinking, dict) and thinking.get("type") != "disabled"
    temperature, top_p = fields.get("temperature"), fields.get("top_p")
    if _SAMPLED.search(model) and not thinks:
        if isinstance(temperature, int | float):
            body["temperature"] = min(temperature, 1)
        elif isinstance(top_p, int | float):
            body["top_p"] = top_p
    user = fields.get("safety_identifier") or fields.get("user")
    if isinstance(user, str) and user:
        body["metadata"] = {"user_id": user[:256]}
    if fields.get("service_tier") == "default":
        body["service_tier"] = "standard_only"
