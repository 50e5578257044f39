"""Identities: UUIDv7, so that ids sort by time of making and an entry's month can be read from its id."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from uuid import UUID


def uuid7(at_ms: int | None = None) -> UUID:
    """A new UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, 74 random bits."""
    return UUID(int=_value(at_ms))


def uuid7_text() -> str:
    """The canonical text of a new UUIDv7, where nobody needs the object. Its chance is drawn from the system for many at once: asking it costs
    more than all the rest."""
    time_is = hex(time.time_ns() // 1_000_000 | 1 << 48)  # 0x1 and then 12 digits: a format takes four times as long
    chance = next(_chances, "")  # each is given once, to whatever thread
    while not chance:
        _draw()
        chance = next(_chances, "")
    return f"{time_is[3:11]}-{time_is[11:]}-{chance[:4]}-{chance[4:8]}-{chance[8:]}"


_AT_ONCE = 256
_chances: Iterator[str] = iter(())
_ALL_RANDOM = int.from_bytes(bytes.fromhex("0fff 3fff ffffffffffff") * _AT_ONCE, "big")
_ALL_FIXED = int.from_bytes(bytes.fromhex("7000 8000 000000000000") * _AT_ONCE, "big")


def _draw() -> None:
    """The 20 hexadecimal digits after the time in each of the next identities: version, variant and 74 random bits."""
    global _chances
    drawn = int.from_bytes(os.urandom(10 * _AT_ONCE), "big") & _ALL_RANDOM | _ALL_FIXED
    _chances = iter(drawn.to_bytes(10 * _AT_ONCE, "big").hex("-", 10).split("-"))


def _forget() -> None:
    """A forked process must not go on with what its parent has drawn."""
    global _chances
    _chances = iter(())


os.register_at_fork(after_in_child=_forget)
_RANDOM = (1 << 76) - 1 & ~(0b11 << 62)
_FIXED = 0x7 << 76 | 0b10 << 62


def _value(at_ms: int | None = None) -> int:
    at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    return (at_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big") & _RANDOM | _FIXED


def made_at_ms(identity: UUID) -> int:
    """The Unix milliseconds a UUIDv7 was made at. Raises ValueError for another version."""
    if identity.version != 7:
        raise ValueError(f"not a UUIDv7: {identity}")
    return identity.int >> 80
