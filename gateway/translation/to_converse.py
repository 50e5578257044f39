"""A chat completion's body -> a Bedrock Converse body (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html). Pure; raises
Untranslatable. The model stands in the path, and so does whether it streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.providers.translation import Untranslatable
from gateway.translation import chat
from gateway.translation.chat import Fields
from gateway.translation.from_converse import ANSWER_TOOL

Block = dict[str, Any]
ASK_FOR_JSON = "Respond with one JSON object and nothing else."
ASK_BY_TOOL = "Give the final answer by this tool."
_IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENT_FORMATS = {
    "application/pdf": "pdf", "text/csv": "csv", "text/html": "html", "text/plain": "txt", "text/markdown": "md",
}  # fmt: skip
ENDPOINT = "/model/{model}/converse"
STREAM_ENDPOINT = "/model/{model}/converse-stream"


def request(fields: Fields, model: str, *, by_tool: bool = False) -> dict[str, Any]:
    """The Converse body. The same for whole answers and streams.

    `by_tool`: the model takes no schema (outputConfig) but can be made to call a tool, whose input then is the answer
    (docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html, API_runtime_ToolChoice.html).
    """
    chat.check_asked(fields)
    if fields.get("n") not in (None, 1):
        raise Untranslatable("Bedrock gives one answer a call", "n")
    system, messages = _messages(fields)
    kind, schema = chat.schema_of(fields)
    if kind == "json_object":
        system.append({"text": ASK_FOR_JSON})
    body: dict[str, Any] = {"messages": messages}
    by_tool = by_tool and kind == "json_schema"
    if kind == "json_schema" and not by_tool:
        body["outputConfig"] = {"textFormat": _format(fields["response_format"]["json_schema"], schema)}
    if system:
        body["system"] = system
    inference = _inference(fields)
    if inference:
        body["inferenceConfig"] = inference
    tools = _tools(fields, messages, schema if by_tool else None)
    if tools:
        body["toolConfig"] = tools
    return body


def _format(given: Fields, schema: Fields) -> Block:
    """An OutputFormat: the schema goes as text."""
    made: Block = {"schema": orjson.dumps(schema).decode()}
    for name in ("name", "description"):
        if isinstance(given.get(name), str) and given[name]:
            made[name] = given[name]
    return {"type": "json_schema", "structure": {"jsonSchema": made}}


def _inference(fields: Fields) -> Block:
    made: Block = {}
    limit = chat.output_limit(fields)
    if limit is not None:
        made["maxTokens"] = limit
    for ours, theirs in (("temperature", "temperature"), ("top_p", "topP")):
        if isinstance(fields.get(ours), int | float) and not isinstance(fields.get(ours), bool):
            made[theirs] = min(fields[ours], 1)
    stops = chat.stops(fields)
    if stops:
        made["stopSequences"] = stops
    return made


def _messages(fields: Fields) -> tuple[list[Block], list[Block]]:
    """(system blocks, turns). Turns of one role in a row are one turn."""
    system: list[Block] = []
    turns: list[Block] = []
    for where, message in chat.messages_of(fields):
        role = message.get("role")
        if role in ("system", "developer"):
            system += [{"text": text} for text in [chat.text_of(message.get("content"), where)] if text]
            continue
        if role == "user":
            speaker, blocks = "user", [_block(part, where) for part in chat.parts_of(message.get("content"), where)]
        elif role == "assistant":
            speaker, blocks = "assistant", _assistant(message, where)
        elif role in ("tool", "function"):
            speaker, blocks = "user", [_result(message, where)]
        else:
            raise Untranslatable(f"{where} has the role '{str(role)[:40]}'", f"{where}.role")
        blocks = [block for block in blocks if block.get("text", "x")]
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": speaker, "content": blocks})
    return system, turns


def _assistant(message: Fields, where: str) -> list[Block]:
    blocks: list[Block] = [{"text": chat.text_of(message.get("content"), where)}]
    for call_id, name, arguments, _ in chat.calls_of(message, where):
        blocks.append({"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}})
    return blocks


def _result(message: Fields, where: str) -> Block:
    call_id = message.get("tool_call_id") or chat.old_call_id(str(message.get("name") or ""))
    told = [_block(part, where) for part in chat.parts_of(message.get("content"), where)]
    content = [block for block in told if block.get("text", "x")] or [{"text": "(nothing)"}]
    return {"toolResult": {"toolUseId": str(call_id), "content": content}}


def _block(part: Fields, where: str) -> Block:
    kind = part.get("type")
    if kind == "text":
        return {"text": chat.string(part.get("text"))}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        named, encoded = _inline(url, where, _IMAGE_FORMATS)
        return {"image": {"format": named, "source": {"bytes": encoded}}}
    if kind == "file":
        file = part.get("file")
        given = file.get("file_data") if isinstance(file, Mapping) else None
        if isinstance(given, str) and not given.startswith("data:"):
            given = f"data:application/pdf;base64,{given}"
        named, encoded = _inline(given, where, _DOCUMENT_FORMATS)
        return {"document": {"format": named, "name": "document", "source": {"bytes": encoded}}}
    raise Untranslatable(f"{where} has a part of type '{str(kind)[:40]}', which Bedrock does not take", where)


def _inline(url: Any, where: str, formats: Mapping[str, str]) -> tuple[str, str]:
    """(format, base64). Bedrock fetches nothing."""
    inline = chat.data_url(url) if isinstance(url, str) else None
    if inline is None:
        raise Untranslatable(f"{where} has a file by its address; Bedrock takes only data URLs", where)
    media_type, encoded = inline
    if media_type not in formats or not encoded:
        raise Untranslatable(f"{where} has data of type '{media_type[:40]}', which Bedrock does not take", where)
    return formats[media_type], encoded


def _tools(fields: Fields, turns: list[Block], answer: Fields | None) -> Block:
    """The tools, and the choice. `answer`: the schema of a tool of ours, which the model is made to answer by unless it calls another."""
    how, name = chat.choice_of(fields)
    called = any("toolUse" in block or "toolResult" in block for turn in turns for block in turn["content"])
    if how == "none" and answer is not None and not called:
        return _forced([], answer)
    if how == "none":
        if called:
            raise Untranslatable("Bedrock cannot forbid tools once they were used", "tool_choice")
        return {}
    tools = []
    for function, _ in chat.functions_of(fields):
        schema = function.get("parameters")
        spec: Block = {"name": function["name"]}
        if isinstance(function.get("description"), str) and function["description"]:
            spec["description"] = function["description"]
        spec["inputSchema"] = {
            "json": schema if isinstance(schema, dict) and schema else {"type": "object", "properties": {}}
        }
        tools.append({"toolSpec": spec})
    if answer is not None and how in ("", "auto"):
        return _forced(tools, answer)
    if not tools:
        if called:
            raise Untranslatable("Bedrock needs the tools that were used", "tools")
        return {}
    made: Block = {"tools": tools}
    if how == "named":
        made["toolChoice"] = {"tool": {"name": name}}
    elif how == "required":
        made["toolChoice"] = {"any": {}}
    return made


def _forced(tools: list[Block], answer: Fields) -> Block:
    """One of the tools must be called; ours is the answer."""
    ours = {"name": ANSWER_TOOL, "description": ASK_BY_TOOL, "inputSchema": {"json": dict(answer)}}
    choice: Block = {"any": {}} if tools else {"tool": {"name": ANSWER_TOOL}}
    return {"tools": [*tools, {"toolSpec": ours}], "toolChoice": choice}
