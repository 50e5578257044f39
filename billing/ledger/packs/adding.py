"""Adding up rows of packed combinations: which groups are largest, and what some groups come to. Pure but for numpy.

Blocks number their values each in its own way. To add some known groups up, their values are looked for in each block. Only to rank all
groups do blocks have to agree on numbers: by their distinct values, or, where these make too many pairs, by a hash of both digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np

from billing.ledger.asking import Row, Totals
from billing.ledger.packs.columns import Numbers, Texts, digest, sums_at
from billing.ledger.packs.reading import Block

MOST_DIRECT: Final = 4_000_000
"""Pairs of values that are added up in a table of all of them; of more, only those that occur."""
MOST_AGREED: Final = 200_000
"""Values of all blocks on whose numbers they agree."""
BUCKETS: Final = 1 << 18
"""Where groups are too many to have a place each, they share so many."""
_SIEVE: Final = 1 << 14
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
"""Odd and without a pattern (the golden ratio's digits), so that (a, b) and (b, a) differ."""

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a block that count: `rows` are their numbers, None for all; `codes` choose their group's values."""

    block: Block
    rows: Numbers | None
    texts: Sequence[Texts]
    codes: Sequence[Numbers]

    def numbers(self, measure: str, some: Numbers | None = None) -> Numbers:
        """Of all rows chosen, or of `some` of them."""
        every = self.block.numbers(measure)
        rows = self.rows if some is None else some if self.rows is None else self.rows[some]
        return every if rows is None else every[rows]

    def total(self, measure: str) -> int:
        same = self.block.constant(measure)
        return int(self.numbers(measure).sum()) if same is None else same * len(self)

    def group(self, row: int) -> Group:
        return tuple(texts.value(int(codes[row])) for texts, codes in zip(self.texts, self.codes, strict=True))

    def __len__(self) -> int:
        return self.block.length if self.rows is None else len(self.rows)


Part: TypeAlias = tuple[Chosen, Numbers, Numbers]
"""Some rows of those chosen, and the place where each is added."""


def whole(one: Chosen, measures: Sequence[str]) -> Totals:
    return Totals(**{name: one.total(name) for name in measures})


# --- Ranking all groups -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Ranked:
    """Groups in their order, and where their rows are: `parts` as `_added` wants them."""

    groups: list[Group]
    parts: list[Part]


def ranked(chosen: Sequence[Chosen], rank_by: Sequence[str], limit: int, *, most_agreed: int = MOST_AGREED) -> Ranked:
    """The groups whose sum of the measures `rank_by` is largest, largest first; equals in the order of their names."""
    chosen = [one for one in chosen if len(one)]
    if not chosen or limit < 1:
        return Ranked([], [])
    measure = sum((concatenated([one.numbers(name) for one in chosen]) for name in rank_by[1:]),
                  concatenated([one.numbers(rank_by[0]) for one in chosen]))  # fmt: skip
    agreed = _agreed_keys(chosen, most_agreed)
    if agreed is not None:
        rows, keys = None, agreed[0]
        sums = sums_at(keys, measure, agreed[1])
        occur = np.flatnonzero(np.bincount(keys, minlength=agreed[1]))
        sums = sums[occur]
    else:
        keys = _hashed_keys(chosen)
        rows = _candidates(keys, measure, limit)
        keys = keys if rows is None else keys[rows]
        occur, sums = _grouped(keys, measure if rows is None else measure[rows])
    if len(sums) > limit:
        least = np.partition(sums, len(sums) - limit)[len(sums) - limit]
        occur, sums = occur[sums >= least], sums[sums >= least]
    return _named(chosen, keys, rows, occur, sums, limit)


def _named(
    chosen: Sequence[Chosen], keys: Numbers, rows: Numbers | None, occur: Numbers, sums: Numbers, limit: int
) -> Ranked:
    """The groups with the keys `occur` (in order) by their names, and their rows. `keys` are those of `rows`, or of all."""
    at = place_among(occur, keys)
    hits = np.flatnonzero(at >= 0)
    at, hits = at[hits], hits if rows is None else rows[hits]
    begins = np.cumsum([0, *(len(one) for one in chosen)])
    some_row = np.empty(len(occur), np.int64)
    some_row[at] = hits
    blocks = np.searchsorted(begins, some_row, side="right") - 1
    names = [chosen[block].group(int(row - begins[block])) for block, row in zip(blocks, some_row, strict=True)]
    order = sorted(range(len(names)), key=lambda place: (-int(sums[place]), names[place]))[:limit]
    new_place = np.full(len(names), -1, np.int64)
    new_place[order] = np.arange(len(order))
    at = new_place[at]
    hits, at = hits[at >= 0], at[at >= 0]
    ends = np.searchsorted(hits, begins)
    parts = [
        (one, hits[first:last] - begins[number], at[first:last])
        for number, (one, (first, last)) in enumerate(zip(chosen, pairwise(ends), strict=True))
    ]
    return Ranked([names[place] for place in order], parts)


def _agreed_keys(chosen: Sequence[Chosen], most_agreed: int) -> tuple[Numbers, int] | None:
    """(a number for each row, equal for equal groups; how many there are), or None when there are too many values to agree on them."""
    width = len(chosen[0].texts)
    pairs = max(prod(len(texts.digests) for texts in one.texts) for one in chosen)
    values = sum(len(texts.digests) for one in chosen for texts in one.texts)
    if pairs > MOST_DIRECT or values > most_agreed:
        return None
    columns, sizes = zip(*(_agreed(chosen, place) for place in range(width)), strict=True)
    length = prod(sizes)
    if length > MOST_DIRECT:
        return None
    return (columns[0] if width == 1 else columns[0] * sizes[1] + columns[1]), length


def _hashed_keys(chosen: Sequence[Chosen]) -> Numbers:
    """64 bits of each row's group: two of a million are alike once in thirty million questions."""
    mixed = None
    for place in range(len(chosen[0].texts)):
        column = concatenated([one.texts[place].digests[one.codes[place]] for one in chosen]).view(np.uint64)
        mixed = column if mixed is None else mixed * _SPREAD ^ column
    assert mixed is not None  # noqa: S101 - a group has a dimension
    return mixed.view(np.int64)


def _candidates(keys: Numbers, measure: Numbers, limit: int) -> Numbers | None:
    """Rows that can belong to the `limit` largest groups; None when that may be any.

    Groups share buckets; none comes to more than what its bucket is given. So the groups of the fullest buckets are added up, and whose
    bucket has less than the last one wanted of these is out.
    """
    buckets = keys & (BUCKETS - 1)
    given = np.bincount(buckets, weights=np.maximum(measure, 0), minlength=BUCKETS)
    fullest = np.partition(given, BUCKETS - 2 * limit)[BUCKETS - 2 * limit] if 2 * limit < BUCKETS else 0
    if fullest <= 0:
        return None
    rows = np.flatnonzero((given >= fullest)[buckets])
    _, sums = _grouped(keys[rows], measure[rows])
    if len(sums) < limit:
        return None
    least = float(np.partition(sums, len(sums) - limit)[len(sums) - limit]) * (1 - 1e-9)  # floats were added up
    return np.flatnonzero((given >= least)[buckets])


def _grouped(keys: Numbers, measure: Numbers) -> tuple[Numbers, Numbers]:
    """(the distinct keys in order, what each comes to)."""
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(_is_new(ordered))
    return ordered[starts], np.add.reduceat(measure[order], starts)


def _agreed(chosen: Sequence[Chosen], place: int) -> tuple[Numbers, int]:
    """A column of numbers on which all blocks agree, and how many distinct values there are."""
    texts = [one.texts[place] for one in chosen]
    every = concatenated([one.digests for one in texts])
    order = np.argsort(
        every
    )  # not a stable sort, as numpy's `unique` takes: any of equals will do, in a sixth of the time
    is_new = _is_new(every[order])
    agreed = np.empty(len(every), np.int64)
    agreed[order] = np.cumsum(is_new) - 1
    starts = np.cumsum([0, *(len(one.digests) for one in texts)])
    column = [agreed[start:end][one.codes[place]] for (start, end), one in zip(pairwise(starts), chosen, strict=True)]
    return concatenated(column), int(is_new.sum())


def _is_new(ordered: Numbers) -> Any:
    """Where each value begins, of a column in order."""
    is_new = np.ones(len(ordered), dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return is_new


def distinct(chosen: Sequence[Chosen]) -> list[str]:
    """All values of the first dimension."""
    return sorted(
        {one.texts[0].value(int(code)) for one in chosen for code in np.flatnonzero(np.bincount(one.codes[0]))}
    )


# --- Adding known groups up -------------------------------------------------------------------------------------------
def of_ranked(found: Ranked, measures: Sequence[str]) -> list[Row]:
    _, totals = _added(found.parts, len(found.groups), measures)
    return [Row(group, one) for group, one in zip(found.groups, totals, strict=True)]


def of(chosen: Sequence[Chosen], groups: Sequence[Group], measures: Sequence[str]) -> list[Row]:
    """A row for each of the groups that is there, in their order."""
    if not groups:
        return []
    sides = [sorted_digests(values) for values in zip(*groups, strict=True)]
    place_of = np.full(prod(len(side) for side in sides), -1, np.int64)
    for place, group in enumerate(groups):
        place_of[_number(group, sides)] = place
    parts = []
    for one in chosen:
        rows, at = _rows_with(one, 0, sides[0], None)
        if len(sides) == 2:
            some, second = _rows_with(one, 1, sides[1], rows)
            rows, at = rows[some], at[some] * len(sides[1]) + second
        at = place_of[at]
        parts.append((one, rows[at >= 0], at[at >= 0]))
    counts, totals = _added(parts, len(groups), measures)
    return [Row(group, totals[place]) for place, group in enumerate(groups) if counts[place]]


def of_days(chosen: Sequence[Chosen], values: Sequence[str], measures: Sequence[str]) -> list[tuple[date, str, Totals]]:
    """Sums of each day and value of the first dimension, where there are any. The blocks were read apart."""
    if not values or not chosen:
        return []
    days = sorted({one.block.on for one in chosen})
    wanted = sorted_digests(values)
    names = {int(np.searchsorted(wanted, digest(value))): value for value in values}
    parts = []
    for one in chosen:
        rows, at = _rows_with(one, 0, wanted, None)
        parts.append((one, rows, days.index(one.block.on) * len(wanted) + at))
    counts, totals = _added(parts, len(days) * len(wanted), measures)
    return [
        (days[place // len(wanted)], names[place % len(wanted)], one)
        for place, one in enumerate(totals)
        if counts[place]
    ]


def _number(group: Group, sides: Sequence[Numbers]) -> int:
    number = 0
    for value, side in zip(group, sides, strict=True):
        number = number * len(side) + int(np.searchsorted(side, digest(value)))
    return number


def _rows_with(one: Chosen, place: int, wanted: Numbers, among: Numbers | None) -> tuple[Numbers, Numbers]:
    """(rows, of all or of those `among`, whose value is one of `wanted`; which of them it is)."""
    texts, codes = one.texts[place], one.codes[place]
    if among is None or len(among) > len(texts.digests):
        at = place_among(wanted, texts.digests)[codes if among is None else codes[among]]
    else:
        at = place_among(wanted, texts.digests[codes[among]])
    rows = np.flatnonzero(at >= 0)
    return rows, at[rows]


def _added(parts: Sequence[Part], length: int, measures: Sequence[str]) -> tuple[list[int], list[Totals]]:
    """How many rows are at each place, and what they come to. A part: rows of a block, and the place of each."""
    at = concatenated([places for *_, places in parts])
    counts = np.bincount(at, minlength=length)
    columns = {}
    for name in measures:
        same = {one.block.constant(name) for one, *_ in parts}
        alike = same.pop() if len(same) == 1 else None
        if alike is not None:  # most columns of most days: nothing needs to be unpacked
            columns[name] = (counts * alike).tolist()
        else:
            numbers = concatenated([one.numbers(name, rows) for one, rows, _ in parts if len(rows)])
            columns[name] = sums_at(at, numbers, length).tolist()
    totals = [Totals(**{name: column[place] for name, column in columns.items()}) for place in range(length)]
    return counts.tolist(), totals


# --- Small ------------------------------------------------------------------------------------------------------------
def sorted_digests(values: Iterable[str]) -> Numbers:
    return np.array(sorted({digest(value) for value in values}), np.int64)


def place_among(wanted: Numbers, digests: Numbers) -> Numbers:
    """The place of each in `wanted`, which is in order; -1 for those that are not there."""
    if not len(wanted):
        return np.full(len(digests), -1, np.int64)
    if (
        len(wanted) * 8 < _SIEVE and len(digests) > 256
    ):  # most are not among a few: their last bits say so, at a tenth of a search
        sieve = np.zeros(_SIEVE, bool)
        sieve[wanted & (_SIEVE - 1)] = True
        maybe = np.flatnonzero(sieve[digests & (_SIEVE - 1)])
        places = np.full(len(digests), -1, np.int64)
        places[maybe] = _searched(wanted, digests[maybe])
        return places
    return _searched(wanted, digests)


def _searched(wanted: Numbers, digests: Numbers) -> Numbers:
    at = np.searchsorted(wanted, digests)
    at[at == len(wanted)] = 0
    return np.where(wanted[at] == digests, at, -1)


def concatenated(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def by_block_day(chosen: Sequence[Chosen], measures: Sequence[str]) -> Mapping[date, Totals]:
    """The whole of each day. The blocks were read apart."""
    found: dict[date, Totals] = {}
    for one in chosen:
        if len(one):
            sums, before = whole(one, measures), found.get(one.block.on)
            found[one.block.on] = sums if before is None else before + sums
    return found
