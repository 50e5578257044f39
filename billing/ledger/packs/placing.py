"""Ranking groups that are few enough to have a place each: their sums are added up at it, and nothing is hashed or sorted. Pure but for numpy.

Columns number their distinct texts each in its own way; here those of all of them are numbered together, by their digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from math import prod
from operator import add
from typing import Any, Final, NamedTuple

import numpy as np

from billing.ledger.packs.columns import Numbers, Texts, sums_at

MOST_PLACES: Final = 1 << 21
"""Of groups: their sums are then 16 MB."""
ROWS_A_PLACE: Final = 0.5
"""With fewer rows, places that nobody takes cost more than they save."""
_AT_ONCE: Final = 1 << 18
"""Rows added up together: of many small columns, adding the sums of each would take most of the time."""
_LEAST_SLOTS, _MOST_SLOTS = 1 << 12, 1 << 20


class Part(NamedTuple):
    texts: Sequence[Texts]
    codes: Sequence[Numbers]
    """Of each row, for each of the texts."""
    length: int
    numbers: Callable[[], Numbers]
    """What each row comes to. Asked for when it is added up: columns of a year at full width do not fit the processor's caches."""


class _Side:
    """The distinct texts of one dimension in all parts."""

    def __init__(self, columns: Sequence[Texts]) -> None:
        self._columns = list({id(one.digests): one for one in columns}.values())
        every = np.concatenate([one.digests for one in self._columns])
        numbers, self._first = _numbered(every, max(len(one.digests) for one in self._columns))
        self._ends = np.cumsum([len(one.digests) for one in self._columns])
        self.length = len(self._first)
        self._numbers = numbers

    def places(self, each: int) -> dict[int, Any]:
        """For each column of texts: where its codes lead, when numbers of this side are so far apart."""
        pieces = np.split((self._numbers * each).astype(np.int32), self._ends[:-1])
        return {id(one.digests): piece for one, piece in zip(self._columns, pieces, strict=True)}

    def name(self, number: int) -> str:
        entry = int(self._first[number])
        column = int(np.searchsorted(self._ends, entry, side="right"))
        one = self._columns[column]
        return one.value(entry - int(self._ends[column]) + len(one.digests))


def _numbered(digests: Numbers, longest: int) -> tuple[Numbers, Numbers]:
    """(of each digest, the number of its kind; of each kind, one place where it stands)."""
    slots = min(max(1 << (16 * longest).bit_length(), _LEAST_SLOTS), _MOST_SLOTS)
    slot = digests & (slots - 1)
    own = np.arange(len(digests))
    table = np.zeros(slots, np.int64)
    table[slot] = own  # the last one of a slot stays, and stands for all that are alike
    stands = table[slot]
    others = np.flatnonzero(digests[stands] != digests)
    if len(others):
        _, first, inverse = np.unique(digests[others], return_index=True, return_inverse=True)
        stands[others] = others[first][inverse]
    kinds = np.flatnonzero(stands == own)
    number = np.empty(len(digests), np.int64)
    number[kinds] = np.arange(len(kinds))
    return number[stands], kinds


def ranked(parts: Sequence[Part], limit: int, most_equals: int) -> list[tuple[str, ...]] | None:
    """The groups that come to most, largest first, equals in the order of their names; None where a place each is too much, or more than so
    many equals would have to be named."""
    rows = sum(part.length for part in parts)
    most = min(MOST_PLACES, rows / ROWS_A_PLACE)
    width = len(parts[0].texts)
    if prod(max(len(part.texts[side].digests) for part in parts) for side in range(width)) > most:
        return None
    sides = [_Side([part.texts[side] for part in parts]) for side in range(width)]
    size = prod(side.length for side in sides)
    if size > most:
        return None
    sums, there = np.zeros(size, np.int64), np.zeros(size, bool)
    for places, numbers in _together(_placed(parts, sides)):
        sums += sums_at(places, numbers, size)
        there[places[numbers <= 0]] = True  # of the others the sum says that they are there
    groups = np.flatnonzero(there | (sums != 0))
    amounts = sums[groups]
    if len(groups) > limit:
        fits = amounts >= np.partition(amounts, len(groups) - limit)[len(groups) - limit]
        groups, amounts = groups[fits], amounts[fits]
    if len(groups) > limit + most_equals:
        return None
    codes = np.unravel_index(groups, [side.length for side in sides])
    named = [[side.name(number) for number in some.tolist()] for side, some in zip(sides, codes, strict=True)]
    names = zip(*named, strict=True)
    return [group for _, group in sorted(zip((-amounts).tolist(), names, strict=True))[:limit]]


def _placed(parts: Sequence[Part], sides: Sequence[_Side]) -> Iterator[tuple[Numbers, Numbers]]:
    """(the place of each row, what it comes to) of each part. Codes are within their columns, so `take` need not look (a third of the time)."""
    lengths = [side.length for side in sides]
    leads = [side.places(prod(lengths[number + 1 :])) for number, side in enumerate(sides)]
    for part in parts:
        columns = zip(leads, part.texts, part.codes, strict=True)
        yield (
            reduce(add, (to[id(texts.digests)].take(codes, mode="clip") for to, texts, codes in columns)),
            part.numbers(),
        )


def _together(placed: Iterator[tuple[Numbers, Numbers]]) -> Iterator[tuple[Numbers, Numbers]]:
    waiting: list[tuple[Numbers, Numbers]] = []
    count = 0
    for one in placed:
        waiting.append(one)
        count += len(one[0])
        if count >= _AT_ONCE:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(some: Sequence[tuple[Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
    if len(some) == 1:
        return some[0]
    return np.concatenate([places for places, _ in some]), np.concatenate([numbers for _, numbers in some])
