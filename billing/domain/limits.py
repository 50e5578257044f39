"""Output limits in a request body: which field carries one, what it may hold, and how many answers are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MAX_LIMIT = 10_000_000
MAX_CHOICES = 128


class BadLimit(ValueError):
    """An output limit or a number of choices that cannot be meant. The message says what to write; `param` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Shape:
    """Where one API keeps its output limit and its number of choices, as paths into the body. The first path is the one to set."""

    limits: tuple[tuple[str, ...], ...]
    choices: tuple[tuple[str, ...], ...] = ()
    has_output: bool = True


_CHAT = Shape((("max_completion_tokens",), ("max_tokens",)), (("n",), ("best_of",)))
_CHAT_OLD = Shape((("max_tokens",), ("max_completion_tokens",)), (("n",), ("best_of",)))
CHATS = (_CHAT, _CHAT_OLD)
_COMPLETIONS = Shape((("max_tokens",),), (("n",), ("best_of",)))
_RESPONSES = Shape((("max_output_tokens",),))
_MESSAGES = Shape((("max_tokens",),))
_GEMINI = Shape(
    (
        ("generationConfig", "maxOutputTokens"),
        ("generation_config", "max_output_tokens"),
        ("generationConfig", "max_output_tokens"),
    ),
    (("generationConfig", "candidateCount"), ("generation_config", "candidate_count")),
)
_CONVERSE = Shape((("inferenceConfig", "maxTokens"),))
_OLLAMA = Shape((("options", "num_predict"),))
_NO_OUTPUT = Shape((), has_output=False)
_IMAGES = Shape((), (("n",),))
_OTHER_OUTPUT = Shape(())

MODERN_FIELD = frozenset({"openai", "azure", "simulator", "groq", "cerebras", "xai", "openrouter", "bedrock"})
"""Providers whose chat completions read `max_completion_tokens`; the others read `max_tokens`."""


@lru_cache(maxsize=256)
def shape_of(provider: str, endpoint: str) -> Shape:
    path = endpoint.lower()
    if "count_tokens" in path or "counttokens" in path:
        return _NO_OUTPUT
    for part, shape in (
        ("/converse", _CONVERSE),
        ("/responses", _RESPONSES),
        ("/messages", _MESSAGES),
        ("/chat/completions", _CHAT if provider in MODERN_FIELD else _CHAT_OLD),
        ("/completions", _COMPLETIONS),
        ("embed", _NO_OUTPUT),
        ("/moderations", _NO_OUTPUT),
        ("/rerank", _NO_OUTPUT),
        ("/images/", _IMAGES),
        ("/audio/", _OTHER_OUTPUT),
        ("generatecontent", _GEMINI),
        ("/api/chat", _OLLAMA),
        ("/api/generate", _OLLAMA),
    ):
        if part in path:
            return shape
    return _CHAT


def limit_field(provider: str, endpoint: str, model: str = "") -> tuple[str, ...] | None:
    """The path of the body field that limits the output, for a gateway that must set one; None where the API has none."""
    limits = shape_of(provider, endpoint).limits
    return limits[0] if limits else None


def client_limit(provider: str, endpoint: str, body: Mapping[str, Any]) -> int | None:
    """The output limit the client wrote, or None. Raises BadLimit when it is no positive whole number, or two fields disagree.

    Anthropic's messages take 0, too.
    """
    found: int | None = None
    where = ""
    for path in shape_of(provider, endpoint).limits:
        value = _at(body, path)
        if value is None:
            continue
        name = ".".join(path)
        if provider == "ollama" and value in (-1, -2):  # "until it stops"
            continue
        if value == 0 and type(value) is int and shape_of(provider, endpoint) is _MESSAGES:
            return 0  # nothing is generated: the prompt is read, and written to the cache
        limit = _whole(value, name, MAX_LIMIT)
        if found is not None and limit != found:
            raise BadLimit(
                f"{where} is {found} but {name} is {limit}: send one of them, or the same number in both", name
            )
        found, where = limit, name
    return found


def choices(provider: str, endpoint: str, body: Mapping[str, Any]) -> int:
    """How many outputs the request asks for (n, best_of, candidateCount, several prompts). At least 1."""
    count = 1
    for path in shape_of(provider, endpoint).choices:
        value = _at(body, path)
        if value is not None:
            count = max(count, _whole(value, ".".join(path), MAX_CHOICES))
    if endpoint.lower().endswith("/completions") and "/chat/" not in endpoint.lower():
        prompt = body.get("prompt")
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            count *= len(prompt)
    return count


def _at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = body
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _whole(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadLimit(f"{name} must be a whole number, like 1024 (got {_shown(value)})", name)
    if value < 1:
        raise BadLimit(f"{name} must be at least 1 (got {_shown(value)})", name)
    if value > most:
        raise BadLimit(f"{name} can be at most {most} (got {_shown(value)})", name)
    return value


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
