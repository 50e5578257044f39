"""Sums over combinations of dimensions: by one or two of them, narrowed by any, over time.

Half a million combinations (thirty days of a workspace with ten thousand customers) are added up in a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any, Final

import numpy as np

from billing.domain.dimensions import OTHER
from billing.ledger.asking import Days, Filters, Row, Totals
from billing.ledger.packs.columns import Numbers, Texts, digest, sums_at
from billing.ledger.packs.reading import Block, blocks
from billing.ledger.rollups import MEASURES

MOST_DIRECT: Final = 4_000_000
"""Pairs of values that are added up in a table of all of them; of more, only those that occur get a place."""

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The rows of a block that pass the filters: `rows` are their numbers, None for all; `codes` choose their group's values."""

    block: Block
    rows: Numbers | None
    texts: Sequence[Texts]
    codes: Sequence[Numbers]

    def numbers(self, measure: str) -> Numbers:
        every = self.block.numbers(measure)
        return every if self.rows is None else every[self.rows]

    def __len__(self) -> int:
        return self.block.length if self.rows is None else len(self.rows)


def dearest(
    workspace_id: int, days: Days, dimensions: Sequence[str], filters: Filters, *, limit: int, rank_by: Sequence[str]
) -> list[Group]:
    """The groups whose sum of the measures `rank_by` is largest; an absent value is empty."""
    return _Sums(_chosen(workspace_id, days, dimensions, filters, rank_by), len(dimensions)).ranked(rank_by, limit)


def dearest_values(
    workspace_id: int, days: Days, dimension: str, *, limit: int, rank_by: Sequence[str]
) -> list[str] | None:
    """As `dearest`, of one dimension and without calls that have no value; None when days were too full to keep it apart."""
    sums = _Sums(_chosen(workspace_id, days, [dimension], {}, rank_by), 1)
    if sums.has(OTHER):
        return None
    return [value for (value,) in sums.ranked(rank_by, limit + 1) if value][:limit]


def grouped(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    *,
    limit: int,
    rank_by: Sequence[str],
    only: Sequence[Group] | None = None,
) -> list[Row]:
    """Rows of the dearest groups, or of the groups `only`, in their order, those that are there. No dimensions: one row of everything."""
    chosen = _chosen(workspace_id, days, dimensions, filters, MEASURES, only=only)
    if not dimensions:
        return [Row((), sum((_whole(one) for one in chosen), Totals()))]
    sums = _Sums(chosen, len(dimensions))
    groups = list(dict.fromkeys(only)) if only is not None else sums.ranked(rank_by, limit)
    return sums.of(groups)


def by_day(
    workspace_id: int, days: Days, dimensions: Sequence[str], filters: Filters, values: Sequence[str] | None
) -> list[tuple[date, str, Totals]]:
    """Sums of each day, per value of at most one dimension (only of `values`, if given); "" without a dimension."""
    only = None if values is None or not dimensions else [(value,) for value in values]
    found: dict[tuple[date, str], Totals] = {}
    for one in _chosen(workspace_id, days, dimensions, filters, MEASURES, only=only, apart=True):
        day = one.block.day
        assert day is not None  # noqa: S101 - read apart
        if dimensions:
            sums = _Sums([one], 1)
            groups = list(only) if only is not None else sums.every()
            rows = [(row.value, row.totals) for row in sums.of(groups)]
        else:
            rows = [("", _whole(one))] if len(one) else []
        for value, totals in rows:
            found[day, value] = found.get((day, value), Totals()) + totals
    return [(day, value, totals) for (day, value), totals in found.items()]


def _whole(one: _Chosen) -> Totals:
    return Totals(*(int(one.numbers(name).sum()) for name in MEASURES))


class _Sums:
    """Groups of rows by the values of one or two dimensions. Every distinct value gets a place, every pair of places a number."""

    def __init__(self, chosen: Sequence[_Chosen], width: int) -> None:
        self.chosen = chosen
        self._values = [_Values([one.texts[place] for one in chosen]) for place in range(width)]
        columns = [
            _concatenated([places[one.codes[place]] for places, one in zip(values.places, chosen, strict=True)])
            for place, values in enumerate(self._values)
        ]
        self._second = max(1, len(self._values[1].digests)) if width == 2 else 1
        self._keys: Numbers = columns[0] if width == 1 else columns[0] * self._second + columns[1]
        self._length = len(self._values[0].digests) * self._second
        self._pairs: Numbers | None = None
        if self._length > MOST_DIRECT:
            self._pairs, self._keys = np.unique(self._keys, return_inverse=True)
            self._length = len(self._pairs)

    def has(self, value: str) -> bool:
        return self._values[0].place_of(value) is not None

    def ranked(self, rank_by: Sequence[str], limit: int) -> list[Group]:
        """Largest first; equals in the order of their names."""
        measure = np.zeros(len(self._keys), np.int64)
        for name in rank_by:
            measure += _concatenated([one.numbers(name) for one in self.chosen])
        occur = np.flatnonzero(np.bincount(self._keys, minlength=self._length))
        if not len(occur) or limit < 1:
            return []
        sums = sums_at(self._keys, measure, self._length)[occur]
        if len(occur) > limit:
            least = np.partition(sums, len(sums) - limit)[len(sums) - limit]
            occur, sums = occur[sums >= least], sums[sums >= least]
        found = sorted((-int(amount), self._group(int(key))) for key, amount in zip(occur, sums, strict=True))
        return [group for _, group in found[:limit]]

    def every(self) -> list[Group]:
        occur = np.flatnonzero(np.bincount(self._keys, minlength=self._length))
        return [self._group(int(key)) for key in occur]

    def of(self, groups: Sequence[Group]) -> list[Row]:
        """A row for each of the groups that is there, in their order."""
        wanted = [(group, key) for group in groups if (key := self._key(group)) is not None]
        if not wanted:
            return []
        places = np.full(self._length, -1, np.int64)
        places[[key for _, key in wanted]] = np.arange(len(wanted))
        at = places[self._keys]
        kept = np.flatnonzero(at >= 0)
        at = at[kept]
        columns = [sums_at(at, self._numbers(name, kept), len(wanted)) for name in MEASURES]
        counts = np.bincount(at, minlength=len(wanted))
        return [
            Row(group, Totals(*(int(column[place]) for column in columns)))
            for place, (group, _) in enumerate(wanted)
            if counts[place]
        ]

    def _numbers(self, name: str, kept: Numbers) -> Numbers:
        parts, start = [], 0
        for one in self.chosen:
            end = start + len(one)
            first, last = np.searchsorted(kept, (start, end))
            if last > first:
                parts.append(one.numbers(name)[kept[first:last] - start])
            start = end
        return _concatenated(parts)

    def _group(self, key: int) -> Group:
        number = key if self._pairs is None else int(self._pairs[key])
        if len(self._values) == 1:
            return (self._values[0].at(number),)
        return self._values[0].at(number // self._second), self._values[1].at(number % self._second)

    def _key(self, group: Group) -> int | None:
        number = 0
        for values, value in zip(self._values, group, strict=True):
            place = values.place_of(value)
            if place is None:
                return None
            number = number * self._second + place
        if self._pairs is None:
            return number
        place = int(np.searchsorted(self._pairs, number))
        return place if place < len(self._pairs) and self._pairs[place] == number else None


class _Values:
    """The distinct values of one dimension in several blocks."""

    def __init__(self, texts: Sequence[Texts]) -> None:
        self._texts = texts
        self._starts = np.cumsum([0, *(len(one.digests) for one in texts)])
        self.digests, self._first, inverse = np.unique(
            _concatenated([one.digests for one in texts]), return_index=True, return_inverse=True
        )
        self.places = [inverse[start:end] for start, end in pairwise(self._starts)]
        """For each block: the place of each of its values."""

    def at(self, place: int) -> str:
        first = int(self._first[place])
        block = int(np.searchsorted(self._starts, first, side="right")) - 1
        return self._texts[block].value(first - int(self._starts[block]))

    def place_of(self, value: str) -> int | None:
        wanted = digest(value)
        place = int(np.searchsorted(self.digests, wanted))
        return place if place < len(self.digests) and self.digests[place] == wanted else None


def _concatenated(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _chosen(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    measures: Sequence[str],
    *,
    only: Sequence[Group] | None = None,
    apart: bool = False,
) -> list[_Chosen]:
    """The blocks' rows that pass the filters and, of groups `only`, have a value of theirs in each dimension."""
    wanted: list[Any] = [None] * len(dimensions)
    if only is not None:
        wanted = [{group[place] for group in only} for place in range(len(dimensions))]
    tests = [_sought(values) for values in (*wanted, *([value] for value in filters.values()))]
    chosen = []
    for block in blocks(workspace_id, days, dimensions, filters, measures, apart=apart):
        kept: Any = None
        for texts, values in zip(block.texts, tests, strict=True):
            if values is None:
                continue
            if not len(values):
                return []
            fits = values[np.searchsorted(values, texts.digests).clip(max=len(values) - 1)] == texts.digests
            if not fits.all():
                kept = fits[texts.codes] if kept is None else kept & fits[texts.codes]
        rows = None if kept is None else np.flatnonzero(kept)
        if rows is None or len(rows):
            grouped_by = block.texts[: len(dimensions)]
            codes = [one.codes if rows is None else one.codes[rows] for one in grouped_by]
            chosen.append(_Chosen(block, rows, grouped_by, codes))
    return chosen


def _sought(values: Iterable[str] | None) -> Numbers | None:
    return None if values is None else np.unique(np.array([digest(value) for value in values], np.int64))
