"""The Gemini dialect: generateContent. Thoughts are counted apart, usage is cumulative in every chunk of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.simulator import spoil
from gateway.simulator.catalogue import Model
from gateway.simulator.dialect import Reading, Refused, body_object, checked, known_model, whole_number
from gateway.simulator.embeddings import vector
from gateway.simulator.generate import Ask, Choice, Reply, Tool
from gateway.simulator.sse import Frame
from gateway.simulator.tokens import count, count_image

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_FINISH = {"length": "MAX_TOKENS"}


class Gemini:
    done: bytes | None = None
    content_type = "text/event-stream"

    def error(self, refused: Refused) -> dict[str, Any]:
        status = _STATUS.get(refused.status, "INTERNAL" if refused.status >= 500 else "INVALID_ARGUMENT")
        return {"error": {"code": refused.status, "message": refused.message, "status": status}}

    def whole(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> dict[str, Any]:
        candidates = [_candidate(index, _parts(choice), choice.finish) for index, choice in enumerate(reply.choices)]
        return _response(ask, response_id, candidates, _usage(reply, reply.output_tokens))

    def frames(self, ask: Ask, reply: Reply, response_id: str, at_s: int) -> Iterator[Frame]:
        spent = 0
        for index, choice in enumerate(reply.choices):
            spent += choice.reasoning
            for piece in choice.pieces:
                spent += 1
                parts = [_candidate(index, [{"text": piece}], None)]
                yield Frame(_response(ask, response_id, parts, _usage(reply, spent)), spent)
            spent += sum(len(call.pieces) for call in choice.calls)
            last = [_candidate(index, _parts(Choice([], choice.calls, 0, "")) or [{"text": ""}], choice.finish)]
            for _ in range(2 if ask.script.usage == "twice" else 1):
                yield Frame(_response(ask, response_id, last, _usage(reply, spent)), spent)


def read(raw: bytes, reading: Reading, model_named: str, *, stream: bool) -> Ask:
    """A generateContent request -> an ask. The model comes from the path."""
    body = body_object(raw)
    model, model_script = known_model(model_named)
    contents = body.get("contents")
    if isinstance(contents, dict | str):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
    texts, images, _ = _texts(body.get("systemInstruction") or body.get("system_instruction") or {})
    user_text = ""
    answered = False
    for content in contents:
        spoken, more, answered = _texts(content)
        texts += spoken
        images += more
        if isinstance(content, str) or content.get("role", "user") == "user":
            user_text = "".join(spoken)
    config = body.get("generationConfig") or {}
    tools = _tools(body)
    texts += [msgspec.json.encode([tool.name, tool.parameters]).decode() for tool in tools]
    schema = config.get("responseJsonSchema") or _plain(config.get("responseSchema"))
    if schema is None and config.get("responseMimeType") == "application/json":
        schema = {}
    if schema:
        texts.append(msgspec.json.encode(schema).decode())
    calling = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode", "AUTO")
    script, user_text = reading.script(user_text, body.get("labels"), model_script)
    return checked(
        Ask(
            model=model,
            model_named=model_named,
            script=script,
            attempt=reading.attempt,
            prompt="".join(texts).encode("utf-8", "surrogatepass"),
            image_tokens=images,
            user_text=user_text,
            tools=tools,
            must_call=calling == "ANY" or (calling != "NONE" and not answered),
            json_schema=schema,
            n=whole_number(config, "candidateCount", low=1, high=8) or 1,
            max_output=whole_number(config, "maxOutputTokens", low=1, high=model.max_output),
            stop=tuple(str(stop) for stop in config.get("stopSequences") or ()),
            seed=whole_number(config, "seed", low=-(2**31), high=2**31 - 1),
            stream=stream,
        )
    )


def counted(ask: Ask) -> dict[str, Any]:
    return {"totalTokens": ask.input_tokens}


def embedded(raw: bytes, model_named: str, *, many: bool) -> tuple[dict[str, Any], Model, int]:
    """An embedding request -> its answer, the model and the tokens it read."""
    body = body_object(raw)
    model, _ = known_model(model_named, embeds=True)
    asked = body.get("requests") if many else [body]
    if not isinstance(asked, list) or not asked:
        raise Refused(400, "* BatchEmbedContentsRequest.requests: requests is not specified")
    rows = []
    counted = 0
    for one in asked:
        text = "".join(_texts(one.get("content"))[0]).encode()
        counted += count(len(text))
        rows.append({"values": vector(text, one.get("outputDimensionality") or 768)})
    usage = {"promptTokenCount": counted, "totalTokenCount": counted}
    return {**({"embeddings": rows} if many else {"embedding": rows[0]}), "usageMetadata": usage}, model, counted


def _texts(content: Any) -> tuple[list[str], int, bool]:
    """Text, image tokens, and whether the content answers a function call."""
    if isinstance(content, str):
        return [content], 0, False
    if not isinstance(content, dict):
        raise Refused(400, "Invalid value at 'contents': an object with parts is expected")
    texts: list[str] = []
    images = 0
    answered = False
    parts = content.get("parts") or []
    for part in parts if isinstance(parts, list) else [parts]:
        if not isinstance(part, dict):
            raise Refused(400, "Invalid value at 'contents.parts'")
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        media = part.get("inlineData") or part.get("fileData")
        if isinstance(media, dict):
            images += count_image(str(media.get("data") or media.get("fileUri") or ""))
        for call in ("functionCall", "functionResponse"):
            if isinstance(part.get(call), dict):
                texts.append(msgspec.json.encode(part[call]).decode())
                answered = answered or call == "functionResponse"
    return texts, images, answered


def _tools(body: dict[str, Any]) -> tuple[Tool, ...]:
    tools = []
    for group in body.get("tools") or []:
        for declared in (group.get("functionDeclarations") or []) if isinstance(group, dict) else []:
            if not isinstance(declared, dict) or not isinstance(declared.get("name"), str):
                raise Refused(400, "Invalid value at 'tools.function_declarations': a name is required")
            schema = declared.get("parametersJsonSchema") or _plain(declared.get("parameters"))
            tools.append(Tool(declared["name"], schema))
    return tuple(tools)


def _plain(schema: Any) -> Any:
    """Gemini's schema (types in capitals) -> JSON Schema."""
    if isinstance(schema, dict):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else _plain(value)
            for key, value in schema.items()
        }
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema


def _parts(choice: Choice) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": "".join(choice.pieces)}] if choice.pieces else []
    for call in choice.calls:
        try:
            arguments = msgspec.json.decode("".join(call.pieces))
        except msgspec.DecodeError:
            arguments = {}
        parts.append({"functionCall": {"name": call.name, "args": arguments}})
    return parts


def _candidate(index: int, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if finish:
        candidate["finishReason"] = _FINISH.get(finish, "STOP")
    return candidate


def _response(ask: Ask, response_id: str, candidates: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    answer = {"candidates": candidates, "modelVersion": ask.model.name, "responseId": response_id}
    return spoil.put(answer, "usageMetadata", spoil.spoil(usage, ask.script.usage))


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    thoughts = min(reply.reasoning_tokens, output)
    usage: dict[str, Any] = {
        "promptTokenCount": reply.input_tokens,
        "candidatesTokenCount": output - thoughts,
        "totalTokenCount": reply.input_tokens + output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}],
    }
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if reply.cached_tokens:
        usage["cachedContentTokenCount"] = reply.cached_tokens
    return usage
