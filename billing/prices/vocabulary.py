"""Loads the vocabularies that ship in `vocab/` into tiktoken encoders: offline, checked, once per process."""

from __future__ import annotations

import base64
import hashlib
import lzma
from functools import cache
from pathlib import Path

import tiktoken

VOCAB = Path(__file__).parent / "vocab"
FILES = {
    "o200k": ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "cl100k": ("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
}
PATTERNS = {  # how text is cut before merging; part of each vocabulary's definition
    "o200k": "|".join(
        [
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\p{N}{1,3}""",
            r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
            r"""\s*[\r\n]+""",
            r"""\s+(?!\S)""",
            r"""\s+""",
        ]
    ),
    "cl100k": (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
    ),
}


class DamagedVocabulary(RuntimeError):
    """A vocabulary file is not the published one. Nothing may be counted with it."""


@cache
def encoder(family: str) -> tiktoken.Encoding | None:
    """The encoder of a family, or None when no vocabulary of it ships. The first call of a family takes about a second: warm it up."""
    if family not in FILES:
        return None
    name, published = FILES[family]
    unpacked = lzma.decompress((VOCAB / f"{name}.tiktoken.xz").read_bytes())
    if hashlib.sha256(unpacked).hexdigest() != published:
        raise DamagedVocabulary(f"{name}.tiktoken.xz does not unpack to the published vocabulary")
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in unpacked.splitlines())}
    return tiktoken.Encoding(name=name, pat_str=PATTERNS[family], mergeable_ranks=ranks, special_tokens={})


def warm() -> None:
    """Loads every vocabulary; for a start-up thread, so that no call waits for it."""
    for family in FILES:
        encoder(family)
