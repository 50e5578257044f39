"""The plain chat, which is nearly every call: texts only, no tools, no tier. Its bound and its usage in a fraction of the instructions.

Both are short cuts of the careful readers (`quote`, `extraction.openai`), taken only when nothing in the body or the answer can make a
difference, and then with the same result, field by field: a test compares the two on whatever hypothesis thinks of. What is not plain gets None
here and the careful way there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import convert

from billing.domain.limits import MAX_CHOICES, MAX_LIMIT
from billing.domain.modalities import SCALARS

FIELDS = frozenset(
    {
        "model", "messages", "max_completion_tokens", "max_tokens", "n", "temperature", "top_p", "top_k", "min_p", "stop", "seed", "user",
        "stream", "stream_options", "metadata", "store", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "reasoning_effort", "verbosity", "safety_identifier", "prompt_cache_key", "logit_bias", "user_id", "session_id",
    }
)  # fmt: skip
"""Top-level fields that neither cost anything nor hold anything that does."""
SMALLEST_ROOM = 4_096
"""Output tokens that a model keeps beside a prompt that fills its window, as far as bounds go."""


@dataclass(frozen=True, slots=True)
class PlainTerms:
    """What the bound of a plain chat is made of, for one model at one address: a line in the size of the body."""

    tokens_per_byte: int
    tokens_per_message: int
    tokens_besides: int
    """Of every call: what providers put before a prompt."""
    window: int
    """The most that a prompt can cost; 0: not known."""
    most_prompt: int
    """Above it other rates begin: no longer plain."""
    context_window: int
    most_output: int
    input_rate: int
    fixed: int
    output_rate: int
    denominator: int

    def bound(
        self, body: Mapping[str, Any], body_bytes: int, default_limit: int | None
    ) -> tuple[int, int, str, int, int | None] | None:
        """(input tokens, output limit, where it is from, answers, the client's limit), or None for a body that is not plain."""
        messages = body.get("messages")
        if type(messages) is not list or not FIELDS.issuperset(body) or not _texts_only(body, messages):
            return None
        wishes = _wishes(body)
        if wishes is None:
            return None
        asked, outputs = wishes
        text = self.tokens_per_byte * body_bytes + self.tokens_per_message * len(messages) + self.tokens_besides
        if text > self.window > 0:
            text = self.window
        if text > self.most_prompt:
            return None
        most = self.most_output
        limit, source = (asked, "client") if asked is not None else (default_limit, "default")
        if limit is not None:
            return text, min(limit, most) if most else limit, source, outputs, asked
        if not most:
            return None
        if most * 4 > self.context_window * 3:  # as `quote` has it, where the maximum is the window
            most = max(self.context_window - text, min(most, SMALLEST_ROOM))
        return text, most, "model", outputs, None


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class _Messages(msgspec.Struct, gc=False):
    """A type that msgspec has looked at once; of a bare `list[_Message]` it would make itself a picture at each call."""

    messages: list[_Message]


def _texts_only(body: Mapping[str, Any], messages: list[Any]) -> bool:
    kinds = list(map(type, body.values()))
    if kinds.count(list) != 1 or (dict in kinds and not _flat(body)):
        return False
    try:
        convert({"messages": messages}, _Messages)
    except msgspec.ValidationError:
        return False
    return True


def _wishes(body: Mapping[str, Any]) -> tuple[int | None, int] | None:
    """(the client's output limit, answers asked for); None where somebody must look closer."""
    asked, older, outputs = body.get("max_completion_tokens"), body.get("max_tokens"), body.get("n")
    if asked is None:
        asked = older
    elif older is not None:
        return None
    if asked is not None and (type(asked) is not int or not 0 < asked <= MAX_LIMIT):
        return None
    if outputs is None:
        return asked, 1
    return (asked, outputs) if type(outputs) is int and 0 < outputs <= MAX_CHOICES else None


def _flat(body: Mapping[str, Any]) -> bool:
    return all(type(value) is not dict or SCALARS.issuperset(map(type, value.values())) for value in body.values())


_MOST = 1_000_000_000
_Count = Annotated[int, msgspec.Meta(gt=0, le=_MOST)]
_Part = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _Inside(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Part = 0
    audio_tokens: Literal[0] = 0


class _Outside(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Part = 0
    audio_tokens: Literal[0] = 0
    accepted_prediction_tokens: Any = 0
    rejected_prediction_tokens: Any = 0


class _Usage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: int
    prompt_tokens_details: _Inside | None = None
    completion_tokens_details: _Outside | None = None


_COUNTS = frozenset(_Usage.__struct_fields__)
_USAGE = msgspec.json.Decoder(_Usage)


def plain_buckets(usage: dict[str, Any] | bytes) -> dict[str, int] | None:
    """The buckets of a chat completion's usage (JSON or read) that has text only and contradicts itself nowhere; None for any other."""
    try:
        if type(usage) is bytes:
            counts = _USAGE.decode(usage)
        elif _COUNTS.issuperset(usage):
            counts = convert(usage, _Usage)
        else:
            return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    prompt, output, inside = counts.prompt_tokens, counts.completion_tokens, counts.prompt_tokens_details
    cached = 0 if inside is None else inside.cached_tokens
    if counts.total_tokens != prompt + output or cached > prompt:
        return None
    buckets = {}
    if cached < prompt:
        buckets["input_uncached"] = prompt - cached
    if cached:
        buckets["cache_read"] = cached
    buckets["output_text"] = output
    return buckets
