"""The text of a key: `slk_<locator>_<secret><checksum>` (virtual keys) or `slt_...` (API tokens), everything in base62.

* locator, 12 characters (71 bits): finds the row; not a secret.
* secret, 43 characters: 256 random bits. Only a peppered digest of the whole text is stored.
* checksum, 6 characters: CRC-32 of all that stands before it. A mistyped or truncated key is refused before any lookup, and
  secret scanners can tell a real key from a lookalike without asking us (GitHub's token format works the same way).

For secret scanning: `SCANNING_PATTERN`, then the checksum.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from _hashlib import HASH

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LOCATOR_LENGTH = 12
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
SECRET_BYTES = 32
KEY_LENGTH = 4 + LOCATOR_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
LOCATOR = slice(4, 4 + LOCATOR_LENGTH)
"""Where it stands in a key's text."""

SCANNING_PATTERN = r"\bsl[kt]_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\b"


class KeyKind(StrEnum):
    VIRTUAL_KEY = "slk"
    API_TOKEN = "slt"  # noqa: S105 - a prefix


class MalformedKey(ValueError):
    """The text is not one of our keys: wrong form or wrong checksum. The message never repeats the text."""


class KeyText(msgspec.Struct, frozen=True):
    """A well-formed key. `repr` and `str` show the locator only, so that no log line can hold the secret."""

    kind: KeyKind
    locator: str
    text: str

    @property
    def last_four(self) -> str:
        return self.text[-4:]

    def __repr__(self) -> str:
        return f"{self.kind.value}_{self.locator}_…"

    __str__ = __repr__


def base62(number: int, length: int) -> str:
    """`number` in exactly `length` base62 digits. Raises ValueError when it does not fit."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    if number:
        raise ValueError("number too large")
    return "".join(reversed(digits))


def checksum(body: str) -> str:
    return base62(crc32(body.encode("ascii")), CHECKSUM_LENGTH)


def build(kind: KeyKind, *, locator_random: int, secret: bytes) -> KeyText:
    """A key of given randomness: an integer below 62^12 and 32 bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError("a secret has 32 bytes")
    locator = base62(locator_random, LOCATOR_LENGTH)
    body = f"{kind.value}_{locator}_{base62(int.from_bytes(secret, 'big'), SECRET_LENGTH)}"
    return KeyText(kind, locator, body + checksum(body))


_SHAPE = {kind: re.compile(rf"{kind.value}_([0-9A-Za-z]{{12}})_[0-9A-Za-z]{{49}}", re.ASCII) for kind in KeyKind}


def parse(text: str, kind: KeyKind) -> KeyText:
    """Read a presented key. Raises MalformedKey, without touching any store, for everything that is not one of ours."""
    match = _SHAPE[kind].fullmatch(text) if len(text) == KEY_LENGTH else None
    if match is None:
        raise MalformedKey("not a key of this installation")
    if checksum(text[:-CHECKSUM_LENGTH]) != text[-CHECKSUM_LENGTH:]:
        raise MalformedKey("not a key of this installation")
    return KeyText(kind, match.group(1), text)


def digest(key: KeyText, pepper: bytes) -> bytes:
    """What is stored of a key: HMAC-SHA256 of its whole text under the pepper. A dump of the database alone verifies no guess."""
    begun_inside, begun_outside = _begun(pepper)
    inside, outside = begun_inside.copy(), begun_outside.copy()
    inside.update(key.text.encode("ascii"))
    outside.update(inside.digest())
    return outside.digest()


@lru_cache(maxsize=8)
def _begun(pepper: bytes) -> tuple[HASH, HASH]:
    """HMAC (RFC 2104) after its first block, which is the pepper's alone: half of the work, and made once."""
    block = (hashlib.sha256(pepper).digest() if len(pepper) > _BLOCK_BYTES else pepper).ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(block.translate(_INSIDE)), hashlib.sha256(block.translate(_OUTSIDE))


_BLOCK_BYTES = 64
_INSIDE, _OUTSIDE = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def pepper_version(pepper: bytes) -> int:
    """A pepper's version: 15 bits of its fingerprint, so that a row says which pepper made its digest without a counter to keep."""
    return int.from_bytes(hashlib.sha256(b"sluice pepper version\0" + pepper).digest()[:2], "big") & 0x7FFF
