"""Sums over combinations of dimensions: by one or two of them, narrowed by any, over time.

Half a million combinations (thirty days of a workspace with ten thousand customers) are added up in a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

    def total(self, measure: str) -> int:
        same = self.block.constant(measure)
        return int(self.numbers(measure).sum()) if same is None else same * len(self)

    def __len__(self) -> int:
        return self.block.length if self.rows is None else len(self.rows)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question to combinations, answered in one read."""

    rows: list[Row]
    by_day: list[tuple[date, str, Totals]]
    """Of each day: the whole (value ""), and each value charted."""


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
        return [Row((), sum((_whole(one, MEASURES) for one in chosen), Totals()))]
    sums = _Sums(chosen, len(dimensions))
    groups = list(dict.fromkeys(only)) if only is not None else sums.ranked(rank_by, limit)
    return sums.of(groups, MEASURES)


def answered(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    *,
    limit: int,
    rank_by: Sequence[str],
    measures: Sequence[str],
    charted: int = 0,
    only: Sequence[Group] | None = None,
) -> Answered:
    """`grouped` by one or two dimensions, and each day's whole and first `charted` values of the first one. Other measures than `measures` are 0."""
    wanted = tuple(dict.fromkeys((*measures, *rank_by)))
    chosen = _chosen(workspace_id, days, dimensions, filters, wanted, apart=True)
    sums = _Sums(chosen, len(dimensions))
    groups = list(dict.fromkeys(only)) if only is not None else sums.ranked(rank_by, limit)
    rows = sums.of(groups, measures)
    values = [value for value in dict.fromkeys(row.value for row in rows) if value][:charted]
    whole: dict[date, Totals] = {}
    for one in chosen:
        whole[one.block.on] = whole.get(one.block.on, Totals()) + _whole(one, measures)
    by_day = [(day, "", totals) for day, totals in whole.items()]
    return Answered(rows, by_day + sums.of_days(values, measures))


def by_day(
    workspace_id: int, days: Days, dimensions: Sequence[str], filters: Filters, values: Sequence[str] | None
) -> list[tuple[date, str, Totals]]:
    """Sums of each day, per value of at most one dimension (only of `values`, if given); "" without a dimension."""
    only = None if values is None or not dimensions else [(value,) for value in values]
    chosen = _chosen(workspace_id, days, dimensions, filters, MEASURES, only=only, apart=True)
    if dimensions:
        sums = _Sums(chosen, 1)
        return sums.of_days(sums.every() if values is None else list(dict.fromkeys(values)), MEASURES)
    found: dict[date, Totals] = {}
    for one in chosen:
        if len(one):
            found[one.block.on] = found.get(one.block.on, Totals()) + _whole(one, MEASURES)
    return [(day, "", totals) for day, totals in found.items()]


def _whole(one: _Chosen, measures: Sequence[str]) -> Totals:
    return Totals(**{name: one.total(name) for name in measures})


class _Sums:
    """Groups of rows by the values of one or two dimensions. Every distinct value gets a place, every pair of places a number, its key."""

    def __init__(self, chosen: Sequence[_Chosen], width: int) -> None:
        self.chosen = chosen
        self._values = [_Values([one.texts[place] for one in chosen]) for place in range(width)]
        self._columns = [
            _concatenated([places[one.codes[place]] for places, one in zip(values.places, chosen, strict=True)])
            for place, values in enumerate(self._values)
        ]
        self._second = max(1, len(self._values[1].digests)) if width == 2 else 1
        self._keys: Numbers = self._columns[0] if width == 1 else self._columns[0] * self._second + self._columns[1]
        self._length = len(self._values[0].digests) * self._second

    def has(self, value: str) -> bool:
        return self._values[0].place_of(value) is not None

    def ranked(self, rank_by: Sequence[str], limit: int) -> list[Group]:
        """Largest first; equals in the order of their names."""
        if not len(self._keys) or limit < 1:
            return []
        measure = sum((self._numbers(name) for name in rank_by), np.zeros(len(self._keys), np.int64))
        if self._length <= MOST_DIRECT:
            occur = np.flatnonzero(np.bincount(self._keys, minlength=self._length))
            sums = sums_at(self._keys, measure, self._length)[occur]
        else:  # so many pairs that only those that occur are added up
            order = np.argsort(self._keys)
            keys = self._keys[order]
            starts = np.flatnonzero(_is_new(keys))
            occur, sums = keys[starts], np.add.reduceat(measure[order], starts)
        if len(occur) > limit:
            least = np.partition(sums, len(sums) - limit)[len(sums) - limit]
            occur, sums = occur[sums >= least], sums[sums >= least]
        found = sorted((-int(amount), self._group(int(key))) for key, amount in zip(occur, sums, strict=True))
        return [group for _, group in found[:limit]]

    def every(self) -> list[str]:
        """All values of the one dimension."""
        occur = np.flatnonzero(np.bincount(self._columns[0], minlength=len(self._values[0].digests)))
        return [self._values[0].at(int(place)) for place in occur]

    def of(self, groups: Sequence[Group], measures: Sequence[str]) -> list[Row]:
        """A row for each of the groups that is there, in their order."""
        keys = {key: group for group in groups if (key := self._key(group)) is not None}
        if not keys:
            return []
        kept = None
        if len(self._values) == 2:  # most rows have another value of the first dimension
            is_wanted = np.zeros(len(self._values[0].digests), dtype=bool)
            is_wanted[[key // self._second for key in keys]] = True
            kept = np.flatnonzero(is_wanted[self._columns[0]])
        wanted = np.array(sorted(keys), np.int64)
        kept, at = _found(wanted, self._keys, kept)
        counts, columns = self._added(at, kept, len(wanted), measures)
        totals = _totals(columns, len(wanted))
        by_group = {keys[int(key)]: totals[place] for place, key in enumerate(wanted) if counts[place]}
        return [Row(group, by_group[group]) for group in groups if group in by_group]

    def of_days(self, values: Sequence[str], measures: Sequence[str]) -> list[tuple[date, str, Totals]]:
        """Sums of each day and value of the first dimension, where there are any. The blocks were read apart."""
        places = {place: value for value in values if (place := self._values[0].place_of(value)) is not None}
        if not places:
            return []
        days = sorted({one.block.on for one in self.chosen})
        wanted = np.array(sorted(places), np.int64)
        kept, at = _found(wanted, self._columns[0], None)
        day_of = np.repeat([days.index(one.block.on) for one in self.chosen], [len(one) for one in self.chosen])
        length = len(days) * len(wanted)
        counts, columns = self._added(day_of[kept] * len(wanted) + at, kept, length, measures)
        totals = _totals(columns, length)
        return [
            (days[place // len(wanted)], places[int(wanted[place % len(wanted)])], totals[place])
            for place in range(length)
            if counts[place]
        ]

    def _added(
        self, at: Numbers, kept: Numbers, length: int, measures: Sequence[str]
    ) -> tuple[Numbers, dict[str, Numbers]]:
        """How many rows are at each place, and the measures' sums there."""
        counts = np.bincount(at, minlength=length)
        columns = {}
        for name in measures:
            same = {one.block.constant(name) for one in self.chosen}
            alike = same.pop() if len(same) == 1 else None
            columns[name] = counts * alike if alike is not None else sums_at(at, self._numbers(name, kept), length)
        return counts, columns

    def _numbers(self, name: str, kept: Numbers | None = None) -> Numbers:
        if kept is None or 2 * len(kept) > len(self._keys):
            every = _concatenated([one.numbers(name) for one in self.chosen])
            return every if kept is None else every[kept]
        parts, start = [], 0
        for one in self.chosen:
            end = start + len(one)
            first, last = np.searchsorted(kept, (start, end))
            if last > first:
                parts.append(one.numbers(name)[kept[first:last] - start])
            start = end
        return _concatenated(parts)

    def _group(self, key: int) -> Group:
        if len(self._values) == 1:
            return (self._values[0].at(key),)
        return self._values[0].at(key // self._second), self._values[1].at(key % self._second)

    def _key(self, group: Group) -> int | None:
        number = 0
        for values, value in zip(self._values, group, strict=True):
            place = values.place_of(value)
            if place is None:
                return None
            number = number * self._second + place
        return number


def _found(wanted: Numbers, keys: Numbers, among: Numbers | None) -> tuple[Numbers, Numbers]:
    """(the rows whose key is one of `wanted`, which of them it is), of all rows or of those `among`. `wanted` is in order."""
    looked_at = keys if among is None else keys[among]
    at = np.searchsorted(wanted, looked_at)
    at[at == len(wanted)] = 0
    hits = np.flatnonzero(wanted[at] == looked_at)
    return hits if among is None else among[hits], at[hits]


def _totals(columns: Mapping[str, Numbers], length: int) -> list[Totals]:
    listed = {name: column.tolist() for name, column in columns.items()}
    return [Totals(**{name: column[place] for name, column in listed.items()}) for place in range(length)]


class _Values:
    """The distinct values of one dimension in several blocks."""

    def __init__(self, texts: Sequence[Texts]) -> None:
        self._texts = texts
        self._starts = np.cumsum([0, *(len(one.digests) for one in texts)])
        every = _concatenated([one.digests for one in texts])
        order = np.argsort(
            every
        )  # not a stable sort, as numpy's `unique` takes: any of equals will do, in a sixth of the time
        ordered = every[order]
        is_new = _is_new(ordered)
        inverse = np.empty(len(every), np.int64)
        inverse[order] = np.cumsum(is_new) - 1
        self.digests, self._first = ordered[is_new], order[is_new]
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


def _is_new(ordered: Numbers) -> Any:
    """Where each value begins, of a column in order."""
    is_new = np.ones(len(ordered), dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return is_new


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
