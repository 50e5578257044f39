"""Adding up rows of packed combinations: which groups are largest, and what some groups come to. Pure but for numpy.

Blocks number their values each in its own way. To add some known groups up, their values are looked for in each block. To rank more groups than
`placing` can, a group is a hash of its values' digests, and what cannot be among the largest is sieved out before the rest is told apart. Blocks are
gone through one by one, at the width their numbers were packed: a day's column fits the processor's cache, thirty days' does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce
from math import prod
from operator import add
from typing import Any, Final

import numpy as np

from billing.ledger.asking import Row, Totals
from billing.ledger.packs import placing
from billing.ledger.packs.columns import Numbers, Texts, digest
from billing.ledger.packs.reading import Block

BUCKETS: Final = 1 << 18
"""Where groups are too many to have a place each, they share so many."""
_SHELVES: Final = 1 << 11
"""So many buckets are surely among the fullest enough: the fullest one of each shelf."""
FEW: Final = 1 << 13
"""So many are told apart as quickly as they are sieved."""
MOST_EQUALS: Final = 1_000
"""Of more groups that come to the same, only those that can be shown are called by their names."""
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

    def numbers(self, measures: Sequence[str]) -> Numbers:
        """Of each row, the sum of the measures."""
        every: Numbers = reduce(add, (self.block.column(name).numbers() for name in measures))
        return every if self.rows is None else every[self.rows]

    def total(self, measure: str) -> int:
        return self.block.column(measure).total(self.rows)

    def added(self, measure: str, some: Numbers, places: Numbers, counts: Numbers) -> Numbers:
        """Sums of `some` of the rows by their `places`, of which `counts` says how often each occurs."""
        return self.block.column(measure).added(some if self.rows is None else self.rows[some], places, counts)

    def __len__(self) -> int:
        return self.block.length if self.rows is None else len(self.rows)


PeriodOf = Callable[[date], Any]


def by_period(chosen: Iterable[Chosen], period_of: PeriodOf) -> list[Chosen]:
    """The same with merged months taken apart where a period ends; each part is on its first day. Blocks of a day stay."""
    found = []
    for one in chosen:
        if one.block.spread is None:
            found.append(one)
            continue
        for day, start, stop in one.block.spread.runs(period_of):
            if one.rows is None:
                block, rows, place = one.block.piece(start, stop, day=day), None, slice(start, stop)
            else:
                low, high = np.searchsorted(one.rows, [start, stop]).tolist()
                block, rows, place = one.block.only_on(day), one.rows[low:high], slice(low, high)
            if rows is None or len(rows):
                found.append(Chosen(block, rows, one.texts, [codes[place] for codes in one.codes]))
    return found


def condensed(one: Chosen, measures: Sequence[str]) -> Chosen:
    """The same with one row a group, where these are much fewer than rows: what follows then hardly takes time."""
    sizes = [len(texts.digests) for texts in one.texts]
    if not sizes or prod(sizes) * 4 > len(one):
        return one
    places = one.codes[0] if len(sizes) == 1 else one.codes[0].astype(np.int64) * sizes[1] + one.codes[1]
    counts = np.bincount(places, minlength=prod(sizes))
    there = np.flatnonzero(counts)
    columns = {name: one.block.column(name) for name in measures}
    sums = {name: column.added(one.rows, places, counts)[there] for name, column in columns.items()}
    codes = np.unravel_index(there, sizes)
    texts = [texts.with_codes(some) for texts, some in zip(one.texts, codes, strict=True)]
    return Chosen(Block(one.block.day, len(there), texts, sums), None, texts, codes)


def whole(one: Chosen, measures: Sequence[str]) -> Totals:
    return Totals(**{name: one.total(name) for name in measures})


# --- Ranking all groups -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Entries:
    """Groups of a block, some perhaps more than once: 64 bits of each (two of a million groups are alike once in thirty million
    questions), what it comes to, and the codes of its values."""

    texts: Sequence[Texts]
    keys: Numbers
    sums: Numbers
    codes: Sequence[Numbers]

    def group(self, place: int) -> Group:
        return tuple(texts.value(int(codes[place])) for texts, codes in zip(self.texts, self.codes, strict=True))


def ranked(
    chosen: Sequence[Chosen], rank_by: Sequence[str], limit: int, *, most_equals: int = MOST_EQUALS
) -> list[Group]:
    """The groups whose sum of the measures `rank_by` is largest, largest first; equals in the order of their names."""
    parts = [placing.Part(one.texts, one.codes, len(one), partial(one.numbers, rank_by)) for one in chosen if len(one)]
    if not parts or limit < 1:
        return []
    placed = placing.ranked(parts, limit, most_equals)
    if placed is not None:
        return placed
    entries = [_entries(part) for part in parts]
    some, sums = _largest(
        np.concatenate([one.keys for one in entries]), np.concatenate([one.sums for one in entries]), limit
    )
    if len(some) > limit + most_equals:
        some, sums = _first_of_equals(entries, some, sums, limit)
    found = zip((-sums).tolist(), _named(entries, some), strict=True)
    return [group for _, group in sorted(found)[:limit]]


def _entries(one: placing.Part) -> _Entries:
    sides = (texts.digests.view(np.uint64)[codes] for texts, codes in zip(one.texts, one.codes, strict=True))
    return _Entries(one.texts, reduce(_mixed, sides).view(np.int64), one.numbers(), one.codes)


def _mixed(first: Any, second: Any) -> Any:
    return first * _SPREAD ^ second


def _largest(keys: Numbers, sums: Numbers, limit: int) -> tuple[Numbers, Numbers]:
    """(of each of the `limit` largest groups and those that equal the last of them, the place of an entry; what it comes to)."""
    kept = _candidates(keys, sums, limit) if len(keys) > FEW else None
    if kept is not None:
        keys, sums = keys[kept], sums[kept]
    order, starts = _in_groups(keys)
    sums, places = np.add.reduceat(sums[order], starts), order[starts]
    if kept is not None:
        places = kept[places]
    if len(sums) > limit:
        fits = sums >= np.partition(sums, len(sums) - limit)[len(sums) - limit]
        places, sums = places[fits], sums[fits]
    return places, sums


def _candidates(keys: Numbers, sums: Numbers, limit: int) -> Numbers | None:
    """Entries that can belong to the `limit` largest groups; None when that may be most.

    Groups share buckets by their last bits; none comes to more than what its bucket is given. So the groups of the fullest buckets are added
    up, and whose bucket has less than the last one wanted of these is out.
    """
    if 2 * limit >= _SHELVES:
        return None
    buckets = keys & (BUCKETS - 1)
    given = np.bincount(buckets, weights=np.maximum(sums, 0), minlength=BUCKETS)
    fullest = np.partition(given.reshape(_SHELVES, -1).max(axis=1), _SHELVES - 2 * limit)[_SHELVES - 2 * limit]
    if fullest <= 0:
        return None
    of_fullest = np.flatnonzero((given >= fullest)[buckets])
    order, starts = _in_groups(keys[of_fullest])
    full = np.add.reduceat(sums[of_fullest][order], starts)
    if len(full) < limit:
        return None
    least = float(np.partition(full, len(full) - limit)[len(full) - limit]) * (1 - 1e-9)  # floats were added up
    return np.flatnonzero((given >= least)[buckets])


def _in_groups(keys: Numbers) -> tuple[Numbers, Numbers]:
    """(an order in which equal keys stand together, where each begins in it).

    Numbers are sorted many times faster than places by their numbers, so the place takes a key's last bits; in the rare case that
    these made a difference the slow way is taken.
    """
    bits = len(keys).bit_length()
    tagged = (keys >> bits << bits) | np.arange(len(keys))
    tagged.sort()
    order = tagged & ((1 << bits) - 1)
    is_new = _is_new(keys[order])
    if np.count_nonzero(is_new) != np.count_nonzero(_is_new(tagged >> bits)):
        order = np.argsort(keys)
        is_new = _is_new(keys[order])
    return order, np.flatnonzero(is_new)


def _is_new(ordered: Numbers) -> Numbers:
    """Where each value begins, of a column in order."""
    is_new = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return is_new


def _named(entries: Sequence[_Entries], places: Numbers) -> list[Group]:
    begins = np.cumsum([0, *(len(one.keys) for one in entries)])
    blocks = np.searchsorted(begins, places, side="right") - 1
    within = places - begins[blocks]
    return [entries[block].group(place) for block, place in zip(blocks.tolist(), within.tolist(), strict=True)]


def _first_of_equals(
    entries: Sequence[_Entries], places: Numbers, sums: Numbers, limit: int
) -> tuple[Numbers, Numbers]:
    """Of hundreds of thousands of groups that come to the same (nothing, mostly), those whose first value's name comes first."""
    equal = sums == sums.min()
    above, equals = np.flatnonzero(~equal), np.flatnonzero(equal)
    firsts = np.concatenate([one.texts[0].digests[one.codes[0]] for one in entries])[places[equals]]
    distinct, some, counts = np.unique(firsts, return_index=True, return_counts=True)
    names = [group[0] for group in _named(entries, places[equals[some]])]
    order = np.array(sorted(range(len(names)), key=names.__getitem__))
    enough = int(np.searchsorted(np.cumsum(counts[order]), limit - len(above))) + 1
    kept = np.concatenate([above, equals[np.isin(firsts, distinct[order[:enough]])]])
    return places[kept], sums[kept]


def distinct(chosen: Sequence[Chosen]) -> list[str]:
    """All values of the first dimension."""
    return sorted(
        {one.texts[0].value(int(code)) for one in chosen for code in np.flatnonzero(np.bincount(one.codes[0]))}
    )


# --- Adding known groups up -------------------------------------------------------------------------------------------
class _Sums:
    """Sums of so many places, block by block."""

    def __init__(self, length: int, measures: Sequence[str]) -> None:
        self.counts = np.zeros(length, np.int64)
        self._columns = {name: np.zeros(length, np.int64) for name in measures}

    def add_some(self, one: Chosen, rows: Numbers, places: Numbers) -> None:
        """As `add`, without the rows whose place is -1."""
        there = np.flatnonzero(places >= 0)
        if len(there) < len(places):
            rows, places = rows[there], places[there]
        self.add(one, rows, places)

    def add(self, one: Chosen, rows: Numbers, places: Numbers) -> None:
        """The rows of a block, each at its place."""
        if not len(rows):
            return
        counts = np.bincount(places, minlength=len(self.counts))
        self.counts += counts
        for name, sums in self._columns.items():
            sums += one.added(name, rows, places, counts)

    def totals(self) -> list[tuple[int, Totals]]:
        """(place, sums), of those to which a row was added."""
        there = np.flatnonzero(self.counts)
        columns = {name: sums[there].tolist() for name, sums in self._columns.items()}
        return [
            (place, Totals(**{name: column[number] for name, column in columns.items()}))
            for number, place in enumerate(there.tolist())
        ]


def of(chosen: Sequence[Chosen], groups: Sequence[Group], measures: Sequence[str]) -> list[Row]:
    """A row for each of the groups that is there, in their order."""
    return of_groups_and_days(chosen, groups, [], measures)[0]


def of_groups_and_days(
    chosen: Sequence[Chosen], groups: Sequence[Group], charted: Sequence[str], measures: Sequence[str]
) -> tuple[list[Row], list[tuple[date, str, Totals]]]:
    """(`of`; sums of each day and value of the first dimension, of those `charted`, which the groups have): rows are looked for once."""
    if not groups:
        return [], []
    sides = [sorted_digests(values) for values in zip(*groups, strict=True)]
    place_of = np.full(prod(len(side) for side in sides), -1, np.int64)
    for place, group in enumerate(groups):
        place_of[_number(group, sides)] = place
    line_of = np.full(len(sides[0]), -1, np.int64)
    line_of[[int(np.searchsorted(sides[0], digest(value))) for value in charted]] = np.arange(len(charted))
    sums = _Sums(len(groups), measures)
    of_each: dict[date, _Sums] = {}
    wanted = [_Wanted(side) for side in sides]
    for one in chosen:
        rows, at = wanted[0].rows(one.texts[0], one.codes[0])
        if charted:
            if one.block.on not in of_each:
                of_each[one.block.on] = _Sums(len(charted), measures)
            of_each[one.block.on].add_some(one, rows, line_of[at])
        if len(sides) == 2:
            some, second = wanted[1].rows(one.texts[1], one.codes[1][rows])
            rows, at = rows[some], at[some] * len(sides[1]) + second
        sums.add_some(one, rows, place_of[at])
    lines = [(day, charted[line], totals) for day in sorted(of_each) for line, totals in of_each[day].totals()]
    return [Row(groups[place], totals) for place, totals in sums.totals()], lines


def of_days(chosen: Sequence[Chosen], values: Sequence[str], measures: Sequence[str]) -> list[tuple[date, str, Totals]]:
    """Sums of each day and value of the first dimension, where there are any. The blocks were read apart."""
    if not values or not chosen:
        return []
    days = sorted({one.block.on for one in chosen})
    wanted = _Wanted(sorted_digests(values))
    names = {int(np.searchsorted(wanted.digests, digest(value))): value for value in values}
    of_each = {day: _Sums(len(wanted.digests), measures) for day in days}
    for one in chosen:
        of_each[one.block.on].add(one, *wanted.rows(one.texts[0], one.codes[0]))
    return [(day, names[place], totals) for day in days for place, totals in of_each[day].totals()]


def _number(group: Group, sides: Sequence[Numbers]) -> int:
    number = 0
    for value, side in zip(group, sides, strict=True):
        number = number * len(side) + int(np.searchsorted(side, digest(value)))
    return number


class _Wanted:
    """Some values, in the order of their digests; where texts stand among them is looked up once for all pieces of a month, which share them."""

    def __init__(self, digests: Numbers) -> None:
        self.digests = digests
        self._known: dict[int, tuple[Texts, Numbers, Any]] = {}

    def rows(self, texts: Texts, codes: Numbers) -> tuple[Numbers, Numbers]:
        """(rows whose value is one of them; which of them it is)."""
        known = self._known.get(id(texts.digests))
        if known is None and 4 * len(codes) <= len(texts.digests):
            at = place_among(self.digests, texts.digests[codes])
            rows = np.flatnonzero(at >= 0)
            return rows, at[rows]
        if known is None:  # the texts are kept as well, so that nothing else gets their id
            places = place_among(self.digests, texts.digests)
            known = self._known[id(texts.digests)] = texts, places, places >= 0
        _, places, is_one = known
        rows = np.flatnonzero(
            is_one.take(codes, mode="clip")
        )  # codes are within their column: to look would take longer
        return rows, places[codes[rows]]


# --- Small ------------------------------------------------------------------------------------------------------------
def sorted_digests(values: Iterable[str]) -> Numbers:
    return np.array(sorted({digest(value) for value in values}), np.int64)


def place_among(wanted: Numbers, digests: Numbers) -> Numbers:
    """The place of each in `wanted`, which is in order; -1 for those that are not there."""
    places = np.full(len(digests), -1, np.int64)
    if not len(wanted):
        return places
    # Most are not among a few: their last bits say so, at a tenth of a search.
    sieve = np.zeros(_SIEVE, bool)
    sieve[wanted & (_SIEVE - 1)] = True
    maybe = np.flatnonzero(sieve[digests & (_SIEVE - 1)])
    at = np.searchsorted(wanted, digests[maybe])
    at[at == len(wanted)] = 0
    places[maybe] = np.where(wanted[at] == digests[maybe], at, -1)
    return places


def by_block_day(chosen: Sequence[Chosen], measures: Sequence[str]) -> Mapping[date, Totals]:
    """The whole of each day. The blocks were read apart."""
    found: dict[date, Totals] = {}
    for one in chosen:
        if len(one):
            sums, before = whole(one, measures), found.get(one.block.on)
            found[one.block.on] = sums if before is None else before + sums
    return found
