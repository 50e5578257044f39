"""Sums over combinations of dimensions: by one or two of them, narrowed by any, over time.

Half a million combinations (thirty days of a workspace with ten thousand customers) are added up in some hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from billing.domain.dimensions import OTHER
from billing.ledger.asking import Days, Filters, Row, Totals
from billing.ledger.packs import adding
from billing.ledger.packs.adding import Chosen, Group, PeriodOf, place_among, sorted_digests
from billing.ledger.packs.reading import blocks
from billing.ledger.rollups import MEASURES


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
    return adding.ranked(_chosen(workspace_id, days, dimensions, filters, rank_by), rank_by, limit)


def dearest_values(
    workspace_id: int, days: Days, dimension: str, *, limit: int, rank_by: Sequence[str]
) -> list[str] | None:
    """As `dearest`, of one dimension and without calls that have no value; None when days were too full to keep it apart."""
    chosen = _chosen(workspace_id, days, [dimension], {}, rank_by)
    other = sorted_digests([OTHER])
    if any((one.texts[0].digests == other).any() for one in chosen):
        return None
    return [value for (value,) in adding.ranked(chosen, rank_by, limit + 1) if value][:limit]


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
    chosen = _chosen(workspace_id, days, dimensions, filters, MEASURES)
    if not dimensions:
        return [Row((), sum((adding.whole(one, MEASURES) for one in chosen), Totals()))]
    return adding.of(chosen, _groups(chosen, only, rank_by, limit), MEASURES)


def answered(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    *,
    limit: int,
    rank_by: Sequence[str],
    measures: Sequence[str],
    period_of: PeriodOf,
    charted: int = 0,
    only: Sequence[Group] | None = None,
) -> Answered:
    """`grouped` by one or two dimensions, and each day's whole and first `charted` values of the first one (days of one period may be added up and
    stand on the first of them). Other measures than `measures` are 0."""
    wanted = tuple(dict.fromkeys((*measures, *(() if only is not None else rank_by))))
    chosen = _chosen(workspace_id, days, dimensions, filters, wanted, period_of)
    groups = _groups(chosen, only, rank_by, limit)
    values = [value for value in dict.fromkeys(group[0] for group in groups) if value][:charted]
    by_day = [(day, "", totals) for day, totals in adding.by_block_day(chosen, measures).items()]
    rows, lines = adding.of_groups_and_days(chosen, groups, values, measures)
    return Answered(rows, by_day + lines)


def by_day(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    values: Sequence[str] | None,
    period_of: PeriodOf,
) -> list[tuple[date, str, Totals]]:
    """Sums of each day (those of one period may stand on its first), per value of at most one dimension (only of `values`, if given); "" without
    a dimension."""
    chosen = _chosen(workspace_id, days, dimensions, filters, MEASURES, period_of)
    if dimensions:
        wanted = adding.distinct(chosen) if values is None else list(dict.fromkeys(values))
        return adding.of_days(chosen, wanted, MEASURES)
    return [(day, "", totals) for day, totals in adding.by_block_day(chosen, MEASURES).items()]


def _groups(
    chosen: Sequence[Chosen], only: Sequence[Group] | None, rank_by: Sequence[str], limit: int
) -> Sequence[Group]:
    return adding.ranked(chosen, rank_by, limit) if only is None else list(dict.fromkeys(only))


def _chosen(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    measures: Sequence[str],
    period_of: PeriodOf | None = None,
) -> list[Chosen]:
    """The blocks' rows that pass the filters; with `period_of` no days of different periods together."""
    tests = [sorted_digests([value]) for value in filters.values()]
    chosen = []
    for block in blocks(workspace_id, days, dimensions, filters, measures, apart=period_of is not None):
        kept: Any = None
        for texts, wanted in zip(block.texts[len(dimensions) :], tests, strict=True):
            fits = place_among(wanted, texts.digests) >= 0
            if not fits.all():
                kept = fits[texts.codes] if kept is None else kept & fits[texts.codes]
        rows = None if kept is None else np.flatnonzero(kept)
        if rows is None or len(rows):
            grouped_by = block.texts[: len(dimensions)]
            codes = [one.codes if rows is None else one.codes[rows] for one in grouped_by]
            one = Chosen(block, rows, grouped_by, codes)
            parts = [one] if period_of is None else adding.by_period([one], period_of)
            chosen += [adding.condensed(part, measures) for part in parts]
    return chosen
