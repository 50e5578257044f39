"""What a request body holds beside text: images, audio, documents, server tools. Each with the most tokens it can cost, or a reason why not.

One walk over the body finds them in every dialect's spelling. What is not known is never taken for text: it is named as a reason to
refuse under a hard budget (PROTOCOL.md, "The bound").
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 64
TEXT_PARTS = frozenset(
    {
        "text", "input_text", "output_text", "refusal", "tool_use", "tool_result", "thinking", "redacted_thinking", "reasoning",
        "server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result", "function_call",
        "function_call_output", "message", "summary_text", "reasoning_text", "search_result", "web_search_result", "tool_reference",
        "custom_tool_call", "custom_tool_call_output", "mcp_tool_use", "mcp_tool_result", "compaction", "item_reference", "json",
        "bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "tool_search_tool_result", "web_search_call",
        "file_search_call", "code_interpreter_call", "computer_call", "computer_call_output", "image_generation_call", "mcp_call",
        "mcp_list_tools", "document_text", "content_block_location", "connector_text",
    }
)  # fmt: skip

CLIENT_TOOLS = frozenset({"function", "custom", "namespace", "tool_search"})
CLIENT_TOOL_PREFIXES = (
    "bash_",
    "text_editor_",
    "computer_",
    "memory_",
    "str_replace_",
    "apply_patch",
    "local_shell",
    "tool_search_",
)
CONVERSE_TOOLS_TOKENS = 1_000
"""What a model on Bedrock is told about the use of tools, at most, beside their schemas."""
TOOL_OVERHEAD_TOKENS = {"bash_": 400, "text_editor_": 1000, "computer_": 5000, "browser_": 7000, "memory_": 2000}


@dataclass(slots=True)
class Contents:
    """What the walk found. `media_bytes` are base64 and so no text; `reasons` say why there is no bound."""

    messages: int = 0
    media_bytes: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0
    video_tokens: int = 0
    document_tokens: int = 0
    overhead_tokens: int = 0
    cache_write: str = ""
    """"5m" or "1h" when the request asks for cache writes of that life."""
    tools: list[Mapping[str, Any]] = field(default_factory=list)
    stateful: bool = False
    """Input that is stored at the provider: its size is not in the body."""
    texts: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)


@dataclass(frozen=True, slots=True)
class ImageRule:
    """The most tokens an image can cost on a family of models, and how to be exact when its size is known."""

    cap: int
    patch: int = 0
    """Pixels per patch side; 0 when only the cap is known."""
    factor_percent: int = 120
    high_cap: int = 0


def image_rule(provider: str, model: str, cap: int = 0) -> ImageRule:
    """The measured caps of BILLING.md ("Images"); the larger of neighbours where a model is not listed."""
    name = model.lower()
    if cap:
        return ImageRule(cap)
    if provider in ("anthropic", "bedrock") or "claude" in name:
        old = any(mark in name for mark in ("claude-3", "-4-0", "-4-1", "-4-5", "-4-6", "sonnet-4-2", "opus-4-2"))
        return ImageRule(1_661 if old else 4_784)
    if provider == "google" or "gemini" in name:
        return ImageRule(258 * 16 if "2.5" in name or "2.0" in name or "1.5" in name else 1_120)
    if "4o-mini" in name:
        return ImageRule(48_169)
    if name.startswith(("gpt-5.5", "gpt-5-5", "gpt-5.6", "gpt-5-6", "gpt-6", "gpt-7")):
        return ImageRule(14_400 if name.startswith(("gpt-6", "gpt-7")) else 12_000, patch=32, high_cap=3_000)
    if name.startswith(("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "o1", "o3", "o4", "chatgpt")):
        return ImageRule(12_000 if "mini" in name or "nano" in name or "5.4" in name else 1_445)
    if provider == "simulator":
        return ImageRule(1_445)
    return ImageRule(48_169)


def survey(body: Mapping[str, Any], provider: str, model: str, image_cap: int = 0, *, texts: bool = False) -> Contents:
    """Walks a request body once. Never raises."""
    if not texts and only_texts(body):
        return Contents(messages=len(body["messages"]))
    found = Contents()
    rule = image_rule(provider, model, image_cap)
    for key in ("messages", "input", "contents"):
        if isinstance(body.get(key), list):
            found.messages += len(body[key])
    if any(body.get(key) and body[key] != BEGINS for key in STORED):
        found.stateful = True
    prompt = body.get("prompt")
    if isinstance(prompt, Mapping) and prompt.get("id"):
        found.stateful = True
    tools = body.get("tools")
    if isinstance(tools, list):
        found.tools = [
            tool for tool in tools if isinstance(tool, (dict, Mapping))
        ]  # a dict is told without asking an ABC
    if "toolConfig" in body or "outputConfig" in body:
        found.overhead_tokens += CONVERSE_TOOLS_TOKENS
    _cache_control(body, found)
    for key, value in body.items():
        if key in CONVERSATION:
            if isinstance(value, str | Mapping | list):
                _walk(value, str(key), found, rule, 0, texts, True)
        elif isinstance(value, Mapping | list):
            _markers(value, found)
    return found


SCALARS = frozenset({str, int, float, bool, type(None)})
STORED = ("previous_response_id", "conversation", "cachedContent", "cached_content", "thread")
"""Fields that name input which lies at the provider."""
BEGINS = {"type": "create"}
"""A thread whose whole input is in the body."""


def only_texts(body: Mapping[str, Any]) -> bool:
    """Whether the walk would find messages and nothing else: the plain chat, told at a fraction of the walk's cost.

    So it is when messages are flat objects without a `type`, and the other fields are scalars, or flat objects outside the conversation.
    """
    messages = body.get("messages")
    if type(messages) is not list:
        return False
    for name, value in body.items():
        if name in STORED and value:
            return False
        if type(value) not in SCALARS and name != "messages":
            if type(value) is not dict or name in CONVERSATION or name == "cache_control":
                return False
            if not SCALARS.issuperset(map(type, value.values())):
                return False
    return all(
        type(message) is dict and "type" not in message and SCALARS.issuperset(map(type, message.values()))
        for message in messages
    )


CONVERSATION = frozenset(
    {
        "messages",
        "input",
        "contents",
        "system",
        "instructions",
        "prompt",
        "prediction",
        "systemInstruction",
        "system_instruction",
        "suffix",
    }
)
"""The top-level fields that hold what is said; media counts as media only inside them."""
FREE_FORM = frozenset({"arguments", "args", "input_schema", "parameters", "schema", "json_schema", "metadata"})
"""Fields whose content is read as text by the model, whatever it looks like: an "image" in there is text."""


def _walk(node: Any, key: str, found: Contents, rule: ImageRule, depth: int, texts: bool, media: bool) -> None:
    if depth > MAX_DEPTH:
        found.refuse("nested too deeply")
        return
    if isinstance(node, str):
        if texts:
            found.texts.append(node)
        return
    if isinstance(node, Mapping):
        _cache_control(node, found)
        if media and _media(node, found, rule):
            return
        for name, value in node.items():
            if texts:
                found.texts.append(str(name))
            free = name in FREE_FORM or (name in ("input", "response") and isinstance(value, Mapping))
            _walk(value, str(name), found, rule, depth + 1, texts, media and not free)
    elif isinstance(node, list):
        for item in node:
            if media and key in ("content", "parts"):
                _known_part(item, found)
            _walk(item, "", found, rule, depth + 1, texts, media)
    elif texts and node is not None:
        found.texts.append(str(node))


NESTED = frozenset({dict, list})


def _markers(node: Any, found: Contents) -> None:
    """The walk through what is not said (schemas of thousands of tools): nothing counts there but cache markers and depth."""
    level = [node]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for one in level:
            if type(one) is not list:
                if "cache_control" in one:
                    _cache_control(one, found)
                one = one.values()
            for value in one:
                if type(value) in NESTED:
                    below.append(value)  # noqa: PERF401 - a comprehension is a call for each of thousands of nodes
        if not below:
            return
        level = below
    found.refuse("nested too deeply")


def _known_part(item: Any, found: Contents) -> None:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if isinstance(kind, str) and kind not in TEXT_PARTS and kind not in MEDIA:
        found.refuse(f"content of type {kind[:40]!r}")


def _cache_control(node: Mapping[str, Any], found: Contents) -> None:
    control = node.get("cache_control")
    if isinstance(control, Mapping):
        found.cache_write = "1h" if control.get("ttl") == "1h" or found.cache_write == "1h" else "5m"


def _media(node: Mapping[str, Any], found: Contents, rule: ImageRule) -> bool:
    """Handles a node that carries media; False when it is none."""
    kind = node.get("type")
    if kind == "item_reference":
        found.stateful = True
    if isinstance(kind, str) and kind in MEDIA:
        return MEDIA[kind](node, found, rule)
    spoken = node.get("audio")
    if isinstance(spoken, Mapping) and "id" in spoken:
        found.refuse("audio stored at the provider")
    inline = node.get("inlineData") or node.get("inline_data")
    if isinstance(inline, Mapping):
        _by_mime(str(inline.get("mimeType") or inline.get("mime_type") or ""), inline.get("data"), node, found, rule)
        return True
    if _on_bedrock(node, found, rule):
        return True
    stored = node.get("fileData") or node.get("file_data")
    if isinstance(stored, Mapping):
        mime = str(stored.get("mimeType") or stored.get("mime_type") or "")
        if mime.startswith("image/"):
            found.image_tokens += rule.cap
        else:
            found.refuse("a stored file of unknown length")
        return True
    return False


def _on_bedrock(node: Mapping[str, Any], found: Contents, rule: ImageRule) -> bool:
    """Converse's blocks have no type: `{"image": {"format", "source": {"bytes"}}}`, and documents alike."""
    for name in ("image", "document"):
        inner = node.get(name)
        source = inner.get("source") if isinstance(inner, Mapping) and "format" in inner else None
        encoded = source.get("bytes") if isinstance(source, Mapping) else None
        if isinstance(encoded, str):
            found.media_bytes += len(encoded)
            if name == "image":
                found.image_tokens += image_tokens(encoded, "", rule)
            else:
                found.document_tokens += pdf_tokens(len(encoded) * 3 // 4)
            return True
    return False


def _by_mime(mime: str, encoded: Any, node: Mapping[str, Any], found: Contents, rule: ImageRule) -> None:
    size = len(encoded) if isinstance(encoded, str) else 0
    found.media_bytes += size
    raw_bytes = size * 3 // 4
    if mime.startswith("image/"):
        found.image_tokens += image_tokens(encoded, "", rule)
    elif mime.startswith("audio/"):
        found.audio_tokens += 32 * seconds_at_most(raw_bytes)
    elif mime.startswith("video/"):
        found.video_tokens += VIDEO_TOKENS_PER_S * (raw_bytes // SLOWEST_VIDEO_BYTES_PER_S + 1)
    elif mime == "application/pdf":
        found.document_tokens += pdf_tokens(raw_bytes)
    elif mime.startswith("text/") or mime == "application/json":
        found.document_tokens += raw_bytes
    else:
        found.refuse(f"media of type {mime[:40] or 'unknown'!r}")


def _image(node: Mapping[str, Any], found: Contents, rule: ImageRule) -> bool:
    source = node.get("image_url", node.get("source", node.get("image")))
    detail = str(node.get("detail") or "")
    url: Any = source
    if isinstance(source, Mapping):
        detail = str(source.get("detail") or detail)
        url = source.get("url") or source.get("data")
        if source.get("type") == "base64":
            found.media_bytes += len(url) if isinstance(url, str) else 0
            found.image_tokens += image_tokens(url, detail, rule)
            return True
    if isinstance(url, str) and url.startswith("data:"):
        found.media_bytes += len(url)
        found.image_tokens += image_tokens(url.partition(",")[2], detail, rule)
    else:  # a URL or a file id: its size is not known here
        found.image_tokens += rule.high_cap if detail == "high" and rule.high_cap else rule.cap
    return True


def _audio(node: Mapping[str, Any], found: Contents, rule: ImageRule) -> bool:
    source = node.get("input_audio", node.get("audio", node.get("source")))
    encoded = source.get("data") if isinstance(source, Mapping) else None
    if not isinstance(encoded, str):
        if node.get("type") == "audio" and isinstance(source, Mapping) and "id" in source:
            found.refuse("audio stored at the provider")
            return True
        found.refuse("audio of unknown length")
        return True
    found.media_bytes += len(encoded)
    found.audio_tokens += 32 * seconds_at_most(len(encoded) * 3 // 4)
    return True


def _document(node: Mapping[str, Any], found: Contents, rule: ImageRule) -> bool:
    source = node.get("source", node.get("file", node))
    if not isinstance(source, Mapping):
        found.refuse("a document of unknown length")
        return True
    if source.get("type") in ("text", "content"):
        return False  # its text is in the body
    encoded = source.get("data", source.get("file_data"))
    if isinstance(encoded, str) and encoded:
        found.media_bytes += len(encoded)
        found.document_tokens += pdf_tokens(len(encoded) * 3 // 4)
    else:
        found.refuse("a document of unknown length")
    return True


def _unknown_length(node: Mapping[str, Any], found: Contents, rule: ImageRule) -> bool:
    found.refuse(f"content of type {str(node.get('type'))[:40]!r}")
    return True


MEDIA = {
    "image_url": _image,
    "input_image": _image,
    "image": _image,
    "computer_screenshot": _image,
    "input_audio": _audio,
    "audio": _audio,
    "file": _document,
    "input_file": _document,
    "document": _document,
    "document_url": _unknown_length,
    "video_url": _unknown_length,
    "input_video": _unknown_length,
    "video": _unknown_length,
    "container_upload": _unknown_length,
}


def image_tokens(encoded: Any, detail: str, rule: ImageRule) -> int:
    """The most tokens an image can cost: from its own width and height where its header tells, else the model's cap."""
    cap = rule.high_cap if detail == "high" and rule.high_cap else rule.cap
    if not rule.patch or not isinstance(encoded, str):
        return cap
    size = dimensions(encoded)
    if size is None:
        return cap
    across, down = (-(-side // rule.patch) for side in size)
    return min(cap, -(-across * down * rule.factor_percent // 100))


def dimensions(encoded: str) -> tuple[int, int] | None:
    """(width, height) from the header of a base64 PNG, GIF, WebP or JPEG; None when it cannot be read."""
    try:
        head = base64.b64decode(encoded[: 4 * 16_384], validate=False)
    except (binascii.Error, ValueError):
        return None
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    if head[:2] == b"\xff\xd8":
        return _jpeg(head)
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    form = head[12:16]
    if form == b"VP8X" and len(head) >= 30:
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if form == b"VP8 " and len(head) >= 30:
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    if form == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


VIDEO_TOKENS_PER_S = 295  # 263 a second of picture, 32 of sound
SLOWEST_VIDEO_BYTES_PER_S = 1_000
SLOWEST_AUDIO_BYTES_PER_S = 500
"""No speech codec in use is under 4 kbit/s: what a file of unknown length can hold at most."""


def seconds_at_most(size: int) -> int:
    return size // SLOWEST_AUDIO_BYTES_PER_S + 1


def pdf_tokens(size: int) -> int:
    """The most tokens a PDF of `size` bytes can cost: by pages (no page is under 300 bytes, 2,500 tokens each, 1,000 pages at most) plus its text."""
    pages = min(size // 300 + 1, 1_000)
    return pages * 2_500 + size
