"""Token counts without a network: proven upper bounds by tokenizer family, and exact counts where a vocabulary is at hand.

Bounds (BILLING.md, "Bounds"): byte-level BPE never makes more tokens than UTF-8 bytes; Gemini's SentencePiece at most one more; Claude's
up to 1.18 an ASCII byte and 1.95 a raw byte as measured, newer ones a third more, hence 2 and 3; after an NFC normaliser bytes can grow
threefold, after an NFKC one elevenfold.
Vocabularies are files, so whoever reads files hands a loader in (`use_vocabularies`); without one, exact counting falls back to the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

LONGEST_EXACT_CHARS = 2_000_000
"""Beyond this an exact count costs more than it can save."""

FACTORS = {"o200k": (1, 1), "cl100k": (1, 1), "bytes": (1, 1), "gemini": (1, 1), "claude": (2, 3), "nfc": (1, 3)}
"""Family -> tokens per ASCII byte, tokens per byte of other text. Families with a vocabulary, or none, share the table."""
UNKNOWN = (1, 11)
PER_MESSAGE = {"claude": 16}


class Encoder(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...


_load: Callable[[str], Encoder | None] = lambda family: None


def use_vocabularies(loader: Callable[[str], Encoder | None]) -> None:
    """Names who loads an encoder for a family ("o200k", "cl100k"); called once by `billing.prices`."""
    global _load
    _load = loader


def bound(text: str, family: str) -> int:
    """No fewer tokens than `text` can make."""
    plain, other = FACTORS.get(family, UNKNOWN)
    if text.isascii():
        return plain * len(text) + 1
    size = len(text.encode("utf-8", "surrogatepass"))
    if plain == other:
        return plain * size + 1
    ascii_bytes = sum(1 for char in text if char < "\x80")
    return plain * ascii_bytes + other * (size - ascii_bytes) + 1


def bound_json(size: int, other_bytes: int, family: str) -> int:
    """`bound` for `size` bytes of JSON of which `other_bytes` stand for text beyond ASCII (escapes only make JSON longer than what it says)."""
    plain, other = FACTORS.get(family, UNKNOWN)
    return plain * size + (other - plain) * other_bytes + 1


def is_even(family: str) -> bool:
    """Whether the family's bound is the same for every byte, so that nobody need look at the text."""
    plain, other = FACTORS.get(family, UNKNOWN)
    return plain == other


def other_bytes(value: object) -> int:
    """UTF-8 bytes beyond ASCII in all texts of a JSON value. Without recursion, for bodies nested as deep as they like."""
    total = 0
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            if not node.isascii():
                total += sum(len(char.encode("utf-8", "surrogatepass")) for char in node if char > "\x7f")
        elif isinstance(node, Mapping):
            waiting += node.keys()
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return total


def per_message(family: str) -> int:
    """Framing tokens a message can add beyond its text: role, separators, a name."""
    return PER_MESSAGE.get(family, 8)


def count_tokens(text: str, family: str) -> tuple[int, bool]:
    """(tokens, whether that is exact). Exact for families with a vocabulary here, else the proven bound."""
    if len(text) <= LONGEST_EXACT_CHARS:
        encoder = _load(family)
        if encoder is not None:
            return len(encoder.encode_ordinary(text.encode("utf-8", "replace").decode())), True
    return bound(text, family), False


def likely_tokens(text: str, family: str) -> int:
    """A fair count for a stream that ended without usage: exact where possible, else about one token in three bytes, rounded up."""
    tokens, exact = count_tokens(text, family)
    if exact:
        return tokens
    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)
