"""A chat completion's body -> a Gemini generateContent body. Pure; raises Untranslatable."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.providers.translation import Untranslatable
from gateway.translation import chat
from gateway.translation.chat import Fields

Part = dict[str, Any]

_BUDGETS = {"none": 0, "minimal": 0, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
"""As Google's own compatible endpoint maps efforts for the 2.5 models."""
_LEVELS = {
    "none": "minimal",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_LEAST_OF_PRO = 128
_LEVEL_MODELS = re.compile(r"gemini-(?:[3-9]|\d\d)")
_NO_THOUGHTS = re.compile(r"gemini-(?:1|2\.0)|gemma|learnlm")
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls whose signature is not at hand; from Gemini 3 on, a call without any is refused with 400
(ai.google.dev/gemini-api/docs/thought-signatures, "FAQs"; docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures)."""
_SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_MIME = re.compile(r"(?:image|audio|video|text)/[\w.+-]+|application/(?:pdf|json)")


def request(fields: Fields, model: str) -> dict[str, Any]:
    """The generateContent body for `model`."""
    chat.check_asked(fields)
    system, contents = _contents(fields, model)
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    tools = chat.functions_of(fields)
    if tools:
        body["tools"] = [{"functionDeclarations": [_declaration(function) for function, _ in tools]}]
        how, name = chat.choice_of(fields)
        if how:
            calling: dict[str, Any] = {"mode": _MODES[how]}
            if name:
                calling["allowedFunctionNames"] = [name]
            body["toolConfig"] = {"functionCallingConfig": calling}
    config = _config(fields, model)
    if config:
        body["generationConfig"] = config
    return body


def _contents(fields: Fields, model: str) -> tuple[list[Part], list[Part]]:
    """(system parts, turns). Turns of one role in a row are one turn."""
    system: list[Part] = []
    turns: list[Part] = []
    names: dict[str, str] = {}
    """The function of each call id: results name it, OpenAI's do not."""
    for where, message in chat.messages_of(fields):
        role = message.get("role")
        if role in ("system", "developer"):
            system += _parts(message, where)
            continue
        if role == "user":
            speaker, parts = "user", _parts(message, where)
        elif role == "assistant":
            speaker, parts = "model", _assistant(message, where, model, names)
        elif role in ("tool", "function"):
            speaker, parts = "user", [_result(message, where, names)]
        else:
            raise Untranslatable(f"{where} has the role '{str(role)[:40]}'", f"{where}.role")
        parts = [part for part in parts if part.get("text") != "" or "thoughtSignature" in part]
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": speaker, "parts": parts})
    if not turns:
        raise Untranslatable("There is no message but instructions", "messages")
    return [part for part in system if part.get("text")], turns


def _parts(message: Fields, where: str) -> list[Part]:
    return [_part(part, where) for part in chat.parts_of(message.get("content"), where)]


def _part(part: Fields, where: str) -> Part:
    kind = part.get("type")
    if kind == "text":
        return {"text": chat.string(part.get("text"))}
    if kind == "image_url":
        image = part.get("image_url")
        return _media(image.get("url") if isinstance(image, Mapping) else image, where, "image/jpeg")
    if kind == "file":
        file = part.get("file")
        if isinstance(file, Mapping) and file.get("file_url"):
            return _media(file["file_url"], where, "application/pdf")
        encoded = file.get("file_data") if isinstance(file, Mapping) else None
        if not isinstance(encoded, str):
            raise Untranslatable(f"{where} has a file that is stored at OpenAI", where)
        return _media(encoded if ":" in encoded[:8] else f"data:application/pdf;base64,{encoded}", where, "")
    if kind == "input_audio":
        sound = part.get("input_audio")
        mime = _SOUNDS.get(str(sound.get("format"))) if isinstance(sound, Mapping) else None
        if mime is None or not isinstance(sound, Mapping):
            raise Untranslatable(f"{where} has audio that is neither wav nor mp3", where)
        return {"inlineData": {"mimeType": mime, "data": str(sound.get("data") or "")}}
    raise Untranslatable(f"{where} has a part of type '{str(kind)[:40]}', which Gemini does not take", where)


def _media(url: Any, where: str, otherwise: str) -> Part:
    if not isinstance(url, str):
        raise Untranslatable(f"{where} has a picture without a url", where)
    inline = chat.data_url(url)
    if inline is None:
        mime = mimetypes.guess_type(url.partition("?")[0])[0] or otherwise
        return {"fileData": {"mimeType": mime, "fileUri": url}}
    mime, encoded = inline
    if not _MIME.fullmatch(mime) or not encoded:
        raise Untranslatable(f"{where} has data of type '{mime[:40]}', which Gemini does not take", where)
    return {"inlineData": {"mimeType": mime, "data": encoded}}


def _assistant(message: Fields, where: str, model: str, names: dict[str, str]) -> list[Part]:
    parts = _parts(message, where)
    own = signature_of(message)
    if own and parts:
        parts[-1]["thoughtSignature"] = own
    first = True
    for call_id, name, arguments, call in chat.calls_of(message, where):
        names[call_id] = name
        part: Part = {"functionCall": {"name": name, "args": arguments}}
        signature = signature_of(call)
        if signature or (first and _LEVEL_MODELS.search(model)):  # of parallel calls, only the first is signed
            part["thoughtSignature"] = signature or NO_SIGNATURE
        first = False
        parts.append(part)
    return parts


def signature_of(source: Fields) -> str:
    """The thought signature that a message or a call carries, where Google's own compatible endpoint puts it."""
    extra = source.get("extra_content")
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    return signature if isinstance(signature, str) else ""


def _result(message: Fields, where: str, names: dict[str, str]) -> Part:
    call_id = str(message.get("tool_call_id") or "")
    name = names.get(call_id) or message.get("name")
    if not isinstance(name, str) or not name:
        raise Untranslatable(f"{where} answers a call that no message made", f"{where}.tool_call_id")
    if any(part.get("type") != "text" for part in chat.parts_of(message.get("content"), where)):
        raise Untranslatable(f"{where} answers a call with more than text, which Gemini does not take", where)
    text = chat.text_of(message.get("content"), where)
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        told = None
    return {"functionResponse": {"name": name, "response": told if isinstance(told, dict) else {"result": text}}}


def _declaration(function: Fields) -> Part:
    made: Part = {"name": function["name"]}
    if isinstance(function.get("description"), str):
        made["description"] = function["description"]
    schema = function.get("parameters")
    if isinstance(schema, dict) and schema:
        made["parametersJsonSchema"] = schema
    return made


def _config(fields: Fields, model: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    limit = chat.output_limit(fields)
    if limit is not None:
        config["maxOutputTokens"] = limit
    for ours, theirs in (
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("seed", "seed"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
        ("n", "candidateCount"),
    ):
        if fields.get(ours) is not None:
            config[theirs] = fields[ours]
    if config.get("candidateCount") == 1:
        del config["candidateCount"]
    listed = chat.stops(fields)
    if listed:
        config["stopSequences"] = listed
    kind, schema = chat.schema_of(fields)
    if kind != "text":
        config["responseMimeType"] = "application/json"
    if kind == "json_schema":
        config["responseJsonSchema"] = schema
    effort = fields.get("reasoning_effort")
    if _NO_THOUGHTS.search(model):
        return config
    if isinstance(effort, str) and effort in _BUDGETS:
        if _LEVEL_MODELS.search(model):
            level = _LEVELS[effort]
            config["thinkingConfig"] = {"thinkingLevel": "low" if level == "minimal" and "pro" in model else level}
        else:
            least = _LEAST_OF_PRO if "pro" in model else 0
            config["thinkingConfig"] = {"thinkingBudget": max(_BUDGETS[effort], least)}
    if fields.get("show_reasoning") is True:
        config.setdefault("thinkingConfig", {})["includeThoughts"] = True
    return config
