"""A column of numbers or texts as bytes, and back: the narrowest whole numbers that hold it, deflated where that helps. Pure.

Numbers: one byte of width (0: all are `base`; 1, 2, 4, 8 bytes each), one that says whether the rest is deflated, `base` (the smallest) and the
count; then the differences from `base`. Texts: a digest of each distinct one, the texts with NUL between them (deflated where that helps, which
the highest bit of their length says), then numbers that choose among them, or none where each text has one row, in their order. Columns of several
days are compared by digest: hundreds of thousands of texts are then never looked at, nor inflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.int64]

_HEAD: Final = Struct("<BBqI")
_TEXTS: Final = Struct("<II")
_WIDTHS: Final[dict[int, Any]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_DEFLATED: Final = 1 << 31
WORTH_IT: Final = 0.5
"""Deflated only when it becomes this much smaller: inflating costs time whenever it is read."""
_TEXTS_WORTH_IT: Final = 0.8
"""Texts are inflated for those that are shown only."""
_SAMPLE: Final = 4096
_NONE: Final = np.zeros(0, np.int64)


@dataclass(slots=True)
class _Joined:
    """The distinct texts of a column, and of all columns made of it: inflated and taken apart once, when one is asked for by name."""

    text: bytes | memoryview
    is_deflated: bool = False
    ends: Numbers | None = None
    """Where each ends: of thousands of them, a few are asked for."""

    def plain(self) -> bytes | memoryview:
        if self.is_deflated:
            self.text, self.is_deflated = zlib.decompress(self.text), False
        return self.text


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: for each row which of the distinct ones it has."""

    digests: Numbers
    """Of each distinct text, 64 bits: two of a million are alike once in thirty million workspaces."""
    codes: Numbers
    """Perhaps as narrow as they are packed: they choose, and are widened where they are reckoned with."""
    _joined: _Joined

    def value(self, code: int) -> str:
        joined, text = self._joined, self._joined.plain()
        if joined.ends is None:
            nuls = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
            joined.ends = np.append(nuls, len(text))
        start = int(joined.ends[code - 1]) + 1 if code else 0
        return str(text[start : int(joined.ends[code])], "utf-8")

    def values(self) -> list[str]:
        return str(self._joined.plain(), "utf-8").split("\x00")

    def with_codes(self, codes: Numbers) -> Texts:
        return Texts(self.digests, codes, self._joined)

    def packed(self, worth_it: float = WORTH_IT) -> bytes:
        joined, count = bytes(self._joined.plain()), len(self.digests)
        deflated = zlib.compress(joined, 6)
        is_smaller = len(deflated) < _TEXTS_WORTH_IT * len(joined)
        body = deflated if is_smaller else joined
        in_order = len(self.codes) == count and bool((self.codes == np.arange(count)).all())
        codes = _NONE if in_order else self.codes
        head = _TEXTS.pack(count, len(body) | (_DEFLATED if is_smaller else 0))
        return head + self.digests.tobytes() + body + pack_numbers(codes, worth_it)


def digest(text: str) -> int:
    """Signed, as columns keep it."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def pack_numbers(numbers: Numbers, worth_it: float = WORTH_IT) -> bytes:
    if not len(numbers):
        return _HEAD.pack(0, 0, 0, 0)
    base, most = int(numbers.min()), int(numbers.max())
    if base == most:
        return _HEAD.pack(0, 0, base, len(numbers))
    width = next(width for width in _WIDTHS if (most - base) < 1 << (8 * width))
    plain = (numbers - base).astype(_WIDTHS[width]).tobytes()
    deflated = zlib.compress(plain, 6) if _may_deflate(plain, worth_it) else plain
    is_smaller = len(deflated) < worth_it * len(plain)
    return _HEAD.pack(width, is_smaller, base, len(numbers)) + (deflated if is_smaller else plain)


def _may_deflate(plain: bytes, worth_it: float) -> bool:
    """Of a long column a few pieces tell, before much time is spent on what deflates little."""
    if len(plain) < 16 * _SAMPLE:
        return True
    sample = b"".join(plain[place : place + _SAMPLE] for place in range(0, len(plain), len(plain) // 4))
    return len(zlib.compress(sample, 6)) < 1.2 * worth_it * len(sample)


@dataclass(frozen=True, slots=True)
class Narrow:
    """A column of numbers as it is packed, for adding up: each is `base` and what `above` says, None where all are `base`."""

    base: int
    above: Any
    length: int

    def piece(self, start: int, stop: int) -> Narrow:
        return Narrow(self.base, None if self.above is None else self.above[start:stop], stop - start)

    def numbers(self) -> Numbers:
        if self.above is None:
            return np.full(self.length, self.base, np.int64)
        numbers: Numbers = self.above.astype(np.int64)
        numbers += self.base
        return numbers

    def total(self, rows: Numbers | None) -> int:
        """Of some rows; None: of all."""
        count = self.length if rows is None else len(rows)
        above = None if self.above is None else self.above if rows is None else self.above[rows]
        return self.base * count + (0 if above is None else int(above.sum()))

    def added(self, rows: Numbers | None, places: Numbers, counts: Numbers) -> Numbers:
        """Sums of the numbers of `rows` (None: of all) by their `places`, of which `counts` says how often each occurs."""
        sums = counts * self.base
        if self.above is not None:
            sums += sums_at(places, self.above if rows is None else self.above[rows], len(counts))
        return sums


def narrow(packed: bytes | memoryview) -> Narrow:
    """What `pack_numbers` packed, at the width it was packed."""
    width, is_deflated, base, count = _HEAD.unpack_from(packed)
    if not width:
        return Narrow(base, None, count)
    body = memoryview(packed)[_HEAD.size :]
    above = np.frombuffer(zlib.decompress(body) if is_deflated else body, dtype=_WIDTHS[width])
    return Narrow(base, above.astype(np.int64) if width == 8 else above, count)


def unpack_numbers(packed: bytes | memoryview) -> Numbers:
    return narrow(packed).numbers()


def unpack_texts(packed: bytes) -> Texts:
    count, told = _TEXTS.unpack_from(packed)
    start = _TEXTS.size + 8 * count
    end = start + (told & ~_DEFLATED)
    digests = np.frombuffer(packed, dtype=np.int64, count=count, offset=_TEXTS.size)
    whole = memoryview(packed)
    packed_codes = narrow(whole[end:])
    if not packed_codes.length:
        codes = np.arange(count)
    elif packed_codes.base or packed_codes.above is None:
        codes = packed_codes.numbers()
    else:
        codes = packed_codes.above
        if int(codes.max()) >= count:
            raise ValueError("a packed column chooses texts that it does not have")
    return Texts(digests, codes, _Joined(whole[start:end], bool(told & _DEFLATED)))


def coded(texts: Iterable[str]) -> Texts:
    """A plain list of texts, by their distinct ones. Texts hold no NUL: PostgreSQL has none."""
    places: dict[str, int] = {}
    codes = np.array([places.setdefault(text, len(places)) for text in texts], np.int64)
    digests = np.array([digest(value) for value in places], np.int64)
    return of_digests(list(places), digests, codes)


def of_distinct(values: Sequence[str], codes: Numbers) -> Texts:
    """The column that has these distinct texts by these numbers."""
    return of_digests(values, np.array([digest(value) for value in values], np.int64), codes)


def of_digests(values: Sequence[str], digests: Numbers, codes: Numbers) -> Texts:
    """As `of_distinct`, where the digests are known."""
    return Texts(digests, codes, _Joined("\x00".join(values).encode()))


_EXACT: Final = 2**53
"""Whole numbers below this are exact as floats."""


def sums_at(places: Numbers, numbers: Any, length: int) -> Numbers:
    """Sums of whole `numbers` by their place below `length`, exact: `bincount` adds floats, so large ones go in as two halves floats can add."""
    if not len(numbers):
        return np.zeros(length, np.int64)
    if (
        len(numbers) << (8 * numbers.itemsize) <= _EXACT
        or max(int(numbers.max()), -int(numbers.min())) * len(numbers) < _EXACT
    ):
        return np.bincount(places, weights=numbers, minlength=length).astype(np.int64)
    low = np.bincount(places, weights=numbers & 0xFFFFFF, minlength=length)
    high = np.bincount(places, weights=numbers >> 24, minlength=length)
    return (high.astype(np.int64) << 24) + low.astype(np.int64)
