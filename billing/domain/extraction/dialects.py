"""Which reader an answer needs: by the endpoint's path first, by the answer's shape where the path does not say. A new API is one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from billing.domain.extraction import anthropic, gemini, media, native, openai, streams
from billing.domain.extraction.common import Call, unreadable
from billing.domain.extraction.record import NOTHING, Usage

Event = Mapping[str, Any]


def _no_answer(call: Call) -> Usage:
    return unreadable("usage_missing")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one API tells its usage: in a whole body, in a stream's events, or not at all (a binary answer)."""

    name: str
    whole: Callable[[Event, Call], Usage]
    stream: Callable[[Sequence[Event], Call], Usage]
    absent: Callable[[Call], Usage] = _no_answer


COMPLETIONS = Dialect("completions", openai.completions, streams.completions)
RESPONSES = Dialect("responses", openai.responses, streams.responses)
MESSAGES = Dialect("messages", anthropic.messages, anthropic.stream)
GENERATE = Dialect("generate", gemini.generate, gemini.stream)
CACHES = Dialect("caches", gemini.cache_storage, lambda events, call: unreadable("usage_missing"))
GENERATION = Dialect("generation", native.openrouter_generation, lambda events, call: unreadable("usage_missing"))
IMAGES = Dialect("images", media.images, media.images_stream)
SPEECH = Dialect("speech", media.speech, media.speech_stream, media.speech_binary)
TRANSCRIPTION = Dialect("transcription", media.transcription, media.transcription_stream)
MODERATION = Dialect("moderation", media.moderation, lambda events, call: NOTHING, lambda call: NOTHING)
REALTIME = Dialect("realtime", media.realtime, media.realtime_events)
OLLAMA = Dialect("ollama", native.ollama, native.ollama_stream)
COHERE = Dialect("cohere", native.cohere, native.cohere_stream)
CONVERSE = Dialect("converse", native.bedrock, native.bedrock_stream)
PAGES = Dialect("pages", native.pages, lambda events, call: unreadable("usage_missing"))
ONLY_TOTAL = Dialect("only_total", native.only_total, lambda events, call: unreadable("usage_missing"))
PREDICTIONS = Dialect("predictions", native.predictions, lambda events, call: unreadable("usage_missing"))
FREE = Dialect("free", lambda body, call: NOTHING, lambda events, call: NOTHING, lambda call: NOTHING)

BY_PATH = (
    ("count_tokens", FREE),
    ("counttokens", FREE),
    ("/responses/input_tokens", FREE),
    ("/v1/files", FREE),
    ("/vector_stores", FREE),
    ("cachedcontents", CACHES),
    ("/api/v1/generation", GENERATION),
    ("/v1/uploads", FREE),
    ("/realtime", REALTIME),
    ("/responses", RESPONSES),
    ("/messages", MESSAGES),
    ("generatecontent", GENERATE),
    ("embedcontent", GENERATE),
    ("/images/", IMAGES),
    ("/audio/speech", SPEECH),
    ("/audio/t", TRANSCRIPTION),
    ("/moderations", MODERATION),
    ("/ocr", PAGES),
    ("/converse", CONVERSE),
    ("/invoke/embed", CONVERSE),
    (":predict", PREDICTIONS),
    ("/api/chat", OLLAMA),
    ("/api/generate", OLLAMA),
    ("/api/embed", OLLAMA),
    ("/v2/chat", COHERE),
    ("/v1/chat/completions", COMPLETIONS),
    ("/chat/completions", COMPLETIONS),
)


def choose(call: Call, payload: Any) -> Dialect:
    """The dialect of an answer. A batch's results may hold any of them, so there the shape decides."""
    named = _by_path(call.endpoint, call.batch)
    if named is not None:
        return named
    if isinstance(payload, Mapping):
        return _by_shape(payload, call)
    first = (
        next((event for event in payload if isinstance(event, Mapping)), {}) if isinstance(payload, Sequence) else {}
    )
    return _by_shape(first, call, streamed=True)


@lru_cache(maxsize=1024)
def _by_path(endpoint: str, batch: bool) -> Dialect | None:
    """The dialect that an endpoint's path names, or None."""
    path = endpoint.lower()
    if batch and "message" not in path and "generatecontent" not in path:
        return None
    return next((dialect for part, dialect in BY_PATH if part in path), None)


def _by_shape(body: Event, call: Call, *, streamed: bool = False) -> Dialect:
    usage = body.get("usage")
    kind = str(body.get("type") or body.get("object") or "")
    if "usageMetadata" in body or "usage_metadata" in body or "promptTokenCount" in body:
        return GENERATE
    if (
        kind in ("message", "message_start")
        or (isinstance(usage, Mapping) and "cache_read_input_tokens" in usage)
        or "cache_read_input_tokens" in body
    ):
        return MESSAGES
    if kind.startswith("response"):
        return RESPONSES
    if isinstance(body.get("data"), list) and "created" in body:
        return IMAGES
    own = _by_counts(body, usage, call)
    if own is not None:
        return own
    if call.provider == "anthropic" and not streamed and "prompt_tokens" not in body:
        return MESSAGES
    return COMPLETIONS


def _by_counts(body: Event, usage: Any, call: Call) -> Dialect | None:
    """The small native APIs, by the names of their counts."""
    stated: Event = usage if isinstance(usage, Mapping) else {}
    if "prompt_eval_count" in body or "eval_count" in body:
        return OLLAMA
    if "billed_units" in stated or "billed_units" in body:
        return COHERE
    if call.provider == "cohere" and "prompt_tokens" not in stated:
        return COHERE  # its compatible API states usage as OpenAI does
    if "inputTokens" in stated or not body.keys().isdisjoint(
        ("inputTokens", "prompt_token_count", "inputTextTokenCount")
    ):
        return CONVERSE
    if "usage_info" in body:
        return PAGES
    return ONLY_TOTAL if stated.keys() == {"total_tokens"} else None
