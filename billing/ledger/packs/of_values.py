"""Reading days and hours of dimensions' values: packs, merged months, and the rows that are not packed. All in one statement, so that nothing
moves between."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any, Final

import numpy as np
from django.db import connection

from billing.ledger.asking import Row, Totals
from billing.ledger.packs import adding
from billing.ledger.packs.adding import Chosen, place_among, sorted_digests
from billing.ledger.packs.columns import Numbers, coded, digest, sums_at, unpack_texts
from billing.ledger.packs.reading import Block, month_block, read
from billing.ledger.values import DAY, Beyond, Grain, Moment

Span = tuple[Moment, Moment]
"""Both ends are included."""
QUARTER_S: Final = 900
_HOUR: Final = "hour"
"""Beside the measures, the column of a pack of hours that says which: quarters of an hour since 1970."""
_EVERY: Final = 10**9
MOST_SEARCHED: Final = 4_000_000
"""Values of all days whose digests are looked through."""


def of_days(
    workspace_id: int,
    dimension: str,
    spans: Sequence[Span],
    measures: Sequence[str],
    values: Sequence[str] | None = None,
) -> list[Chosen]:
    """Days of a dimension for `adding`: of rows that are not packed, those of `values`; of packs all."""
    return _chosen(workspace_id, DAY, dimension, spans, measures, values=values)


def answered(
    workspace_id: int,
    dimension: str,
    span: Span,
    *,
    limit: int,
    rank_by: Sequence[str],
    measures: Sequence[str],
    charted: int,
    period_of: adding.PeriodOf,
) -> tuple[list[Row], list[tuple[date, str, Totals]]]:
    """(the values that come to most, largest first; sums of each day and of the first `charted` of them): packs are read once. Days of one period
    may be added up and stand on the first of them. Other measures than `measures` are 0."""
    wanted = tuple(dict.fromkeys((*measures, *rank_by)))
    chosen = adding.by_period(_chosen(workspace_id, DAY, dimension, [span], wanted, apart=True), period_of)
    groups = adding.ranked(chosen, rank_by, limit)
    values = [value for (value,) in groups if value][:charted]
    return adding.of_groups_and_days(chosen, groups, values, measures)


def moved(
    workspace_id: int, dimensions: Sequence[str], span: Span, since: date, measure: str, limit: int
) -> tuple[list[tuple[str, str, int, int]], int]:
    found: list[tuple[str, str, int, int]] = []
    many = 0
    for dimension, read_apart in _chosen_of(workspace_id, DAY, dimensions, [span], (measure,), apart=True).items():
        chosen = adding.by_period(read_apart, lambda day: day >= since)
        if not chosen:
            continue
        digests = np.concatenate([one.texts[0].digests[one.codes[0]] for one in chosen])
        amounts = _all(chosen, measure)
        after = np.concatenate([np.full(len(one), one.block.on >= since) for one in chosen])
        values, places = np.unique(digests, return_inverse=True)
        now, before = (sums_at(places[side], amounts[side], len(values)) for side in (after, ~after))
        change = np.abs(now - before)
        least = np.partition(change, len(change) - limit)[len(change) - limit] if len(change) > limit else 0
        some = np.flatnonzero(change >= least)
        names = _names(chosen, values[some])
        found += zip([dimension] * len(some), names, now[some].tolist(), before[some].tolist(), strict=True)
        many += len(values)
    return sorted(found, key=lambda one: (-abs(one[2] - one[3]), one[0], one[1]))[:limit], many


def _names(chosen: Sequence[Chosen], digests: Numbers) -> list[str]:
    """The texts of some digests, which are in order."""
    found: dict[int, str] = {}
    for one in chosen:
        at = place_among(digests, one.texts[0].digests)
        for code in np.flatnonzero(at >= 0).tolist():
            place = int(at[code])
            if place not in found:
                found[place] = one.texts[0].value(code)
        if len(found) == len(digests):
            break
    return [found[place] for place in range(len(digests))]


def summed(
    workspace_id: int, grain: Grain, dimensions: Sequence[str], span: Span, measures: Sequence[str]
) -> dict[str, dict[str, tuple[int, ...]]]:
    found = {}
    for dimension, chosen in _chosen_of(workspace_id, grain, dimensions, [span], measures).items():
        rows = every(chosen, measures)
        found[dimension] = {row.value: tuple(getattr(row.totals, name) for name in measures) for row in rows}
    return found


def every(chosen: Sequence[Chosen], measures: Sequence[str]) -> list[Row]:
    """All values, those of most of the first measure first."""
    return adding.of(chosen, adding.ranked(chosen, measures[:1], _EVERY), measures)


def has(workspace_id: int, dimension: str, value: str, first: date) -> bool:
    """Whether a value was seen since: as far back as `MOST_SEARCHED` values reach. Only digests are read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM billing_rollup_day WHERE workspace_id = %s AND dimension = %s AND value = %s "
            "AND day = ANY(ARRAY(SELECT generate_series(%s::date, current_date + 1, '1 day')::date)))",
            [workspace_id, dimension, value, first],
        )
        if cursor.fetchone()[0]:
            return True
    query = (
        "SELECT substring(value FROM 9 FOR 8 * rows) FROM (SELECT value, rows, sum(rows) OVER (ORDER BY day DESC) AS so_far "
        "FROM billing_day_pack WHERE workspace_id = %s AND dimension = %s AND day >= %s) AS p WHERE so_far - rows < %s"
    )
    wanted = digest(value)
    rows = read(query, [workspace_id, dimension, first, MOST_SEARCHED])
    return any(bool((np.frombuffer(digests, np.int64) == wanted).any()) for (digests,) in rows)


def over_time(
    workspace_id: int,
    grain: Grain,
    dimension: str,
    span: Span,
    measures: Sequence[str],
    values: Sequence[str] | None = None,
) -> list[tuple[Any, ...]]:
    chosen = _chosen(workspace_id, grain, dimension, [span], measures, values=values, apart=True)
    names = adding.distinct(chosen) if values is None else list(dict.fromkeys(values))
    wanted = sorted_digests(names)
    place_of = {int(np.searchsorted(wanted, digest(name))): name for name in names}
    found: dict[tuple[Moment, str], tuple[int, ...]] = {}
    for one in chosen:
        at = place_among(wanted, one.texts[0].digests)[one.codes[0]]
        hits = np.flatnonzero(at >= 0)
        if not len(hits):
            continue
        moments = _moments(one, hits, grain)
        columns = [_some(one, name, hits).tolist() for name in measures]
        for moment, place, *numbers in zip(moments, at[hits].tolist(), *columns, strict=True):
            key = (moment, place_of[place])
            before = found.get(key)
            found[key] = tuple(numbers) if before is None else tuple(map(sum, zip(before, numbers, strict=True)))
    return [(*key, *numbers) for key, numbers in sorted(found.items())]


def beyond(
    workspace_id: int,
    grain: Grain,
    dimension: str,
    span: Span,
    *,
    measures: Sequence[str],
    less: Sequence[str],
    limit: int | None,
    starts: Sequence[date] | None,
) -> list[Beyond]:
    names = tuple(dict.fromkeys((*measures, *less, "attempts", "voids")))
    chosen = [one for one in _chosen(workspace_id, grain, dimension, [span], names, apart=True) if len(one)]
    if not chosen:
        return []
    if starts is not None:
        firsts = list(starts)
        chosen = adding.by_period(chosen, lambda day: bisect_right(firsts, day))
    used = sum((_all(chosen, name) for name in measures[1:]), _all(chosen, measures[0]))
    used = used - sum((_all(chosen, name) for name in less), np.zeros(len(used), np.int64))
    calls = _all(chosen, "attempts") - _all(chosen, "voids")
    periods = (
        _all(chosen, _HOUR) if starts is None else np.concatenate([_periods(one, grain, starts) for one in chosen])
    )
    keys = np.concatenate([one.texts[0].digests[one.codes[0]] for one in chosen])
    name_of = {int(one.texts[0].digests[code]): (one, int(code)) for one in chosen for code in np.unique(one.codes[0])}
    order = np.lexsort([periods, keys])
    keys, periods = keys[order], periods[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = (keys[1:] != keys[:-1]) | (periods[1:] != periods[:-1])
    first = np.flatnonzero(begins)
    keys, used, calls = keys[first], np.add.reduceat(used[order], first), np.add.reduceat(calls[order], first)
    over: dict[int, tuple[int, int]] = {}
    limit = _EVERY**2 if limit is None else limit
    for place in np.flatnonzero(used > limit).tolist():
        amount, known = int(used[place]), over.get(int(keys[place]), (0, 0))
        share = -(-int(calls[place]) * (amount - limit) // amount)
        over[int(keys[place])] = (known[0] + amount - limit, known[1] + share)
    of_each = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    rows = zip(keys[of_each].tolist(), np.add.reduceat(used, of_each).tolist(), strict=True)
    named = ((key, name_of[key], total) for key, total in rows)
    return [Beyond(one.texts[0].value(code), total, *over.get(key, (0, 0))) for key, (one, code), total in named]


def _all(chosen: Sequence[Chosen], measure: str) -> Numbers:
    return np.concatenate([one.numbers([measure]) for one in chosen])


def _some(one: Chosen, measure: str, places: Numbers) -> Numbers:
    """Of some of the rows chosen."""
    column = one.block.column(measure)
    if column.above is None:
        return np.full(len(places), column.base, np.int64)
    rows = places if one.rows is None else one.rows[places]
    numbers: Numbers = column.above[rows].astype(np.int64) + column.base
    return numbers


def _periods(one: Chosen, grain: Grain, starts: Sequence[date]) -> Numbers:
    if grain is not DAY:
        raise ValueError("periods of days are made of days")
    number = int(np.searchsorted([start.toordinal() for start in starts], one.block.on.toordinal(), side="right"))
    return np.full(len(one), number, np.int64)


def _moments(one: Chosen, hits: Any, grain: Grain) -> list[Moment]:
    if grain is DAY:
        spread = one.block.spread
        return [one.block.on] * len(hits) if spread is None else [*spread.dates_of(hits)]
    quarters = _some(one, _HOUR, hits).tolist()
    named = {quarter: datetime.fromtimestamp(quarter * QUARTER_S, UTC) for quarter in set(quarters)}
    return [named[quarter] for quarter in quarters]


def _chosen(
    workspace_id: int,
    grain: Grain,
    dimension: str,
    spans: Sequence[Span],
    measures: Sequence[str],
    *,
    values: Sequence[str] | None = None,
    apart: bool = False,
) -> list[Chosen]:
    return _chosen_of(workspace_id, grain, [dimension], spans, measures, values=values, apart=apart)[dimension]


def _chosen_of(
    workspace_id: int,
    grain: Grain,
    dimensions: Sequence[str],
    spans: Sequence[Span],
    measures: Sequence[str],
    *,
    values: Sequence[str] | None = None,
    apart: bool = False,
) -> dict[str, list[Chosen]]:
    """By dimension, blocks of the time; of the rows that are not packed only those of `values`. `apart`: by moment, else these may be added up.
    Merged months have their `spread`."""
    columns = measures if grain is DAY else (_HOUR, *measures)
    query, params = _query(workspace_id, grain, dimensions, spans, columns, values, apart=apart)
    loose: dict[tuple[str, date | None], list[Any]] = {}
    blocks: dict[str, list[Block]] = {dimension: [] for dimension in dimensions}
    for dimension, day, length, days, ends, packed, *rest in read(query, params):
        kept = dict(zip(columns, rest, strict=False))
        if length is None:
            loose.setdefault((dimension, day), []).append(rest[len(columns) :])
        elif days is None:
            blocks[dimension].append(Block(day, length, [unpack_texts(packed)], kept))
        else:
            blocks[dimension] += month_block(days, ends, length, [unpack_texts(packed)], kept, spans)
    for (dimension, day), rows in loose.items():
        texts, *numbers = zip(*rows, strict=True)
        kept = {name: np.array(column, np.int64) for name, column in zip(columns, numbers, strict=True)}
        blocks[dimension].append(Block(day, len(rows), [coded(texts)], kept))
    pick = _all_of if grain is DAY else lambda block: _within(block, spans)
    return {dimension: [pick(block) for block in found] for dimension, found in blocks.items()}


def _all_of(block: Block) -> Chosen:
    return Chosen(block, None, block.texts, [one.codes for one in block.texts])


def _within(block: Block, spans: Sequence[Span]) -> Chosen:
    """The hours of a pack that are asked for: it has those of a whole day."""
    ((first, last),) = spans
    hours = block.column(_HOUR).numbers()
    rows = np.flatnonzero((hours >= -(-_seconds(first) // QUARTER_S)) & (hours <= _seconds(last) // QUARTER_S))
    if len(rows) == block.length:
        return _all_of(block)
    return Chosen(block, rows, block.texts, [one.codes[rows] for one in block.texts])


def _seconds(moment: Any) -> float:
    return float(moment.timestamp())


def _query(
    workspace_id: int,
    grain: Grain,
    dimensions: Sequence[str],
    spans: Sequence[Span],
    columns: Sequence[str],
    values: Sequence[str] | None,
    *,
    apart: bool,
) -> tuple[str, list[Any]]:
    """Rows (dimension, day, length, a merged month's days and their ends, packed columns, nothing) and (dimension, day or nothing, nothing, value,
    sums). All names are ours."""
    packed = ["value", *columns, "NULL::text", *["NULL::bigint"] * len(columns)]
    of_packs = ", ".join(["dimension", "day", "rows", "NULL::bytea", "NULL::bytea", *packed])
    of_months = ", ".join(["dimension", "day", "rows", "days", "ends", *packed])
    sums = [
        f"(extract(epoch FROM hour) / {QUARTER_S})::bigint" if name == _HOUR else f"sum({name})::bigint"
        for name in columns
    ]
    day = "day" if grain is DAY and apart else "NULL::date"
    of_rows = ["dimension", day, "NULL::integer", *["NULL::bytea"] * (3 + len(columns)), "value", *sums]
    by = ["dimension", "value", *(["day"] if grain is DAY and apart else []), *(["hour"] if grain is not DAY else [])]
    packs, rows = (" OR ".join([f"{column} BETWEEN %s AND %s"] * len(spans)) for column in ("day", grain.column))
    own = "" if values is None else "AND value = ANY(%s)"
    months = ""
    if grain.months:
        months = f"UNION ALL SELECT {of_months} FROM {grain.months} WHERE workspace_id = %s AND dimension = ANY(%s) AND ({packs}) "  # noqa: S608
    query = (
        f"SELECT {of_packs} FROM {grain.packs} WHERE workspace_id = %s AND dimension = ANY(%s) AND ({packs}) {months}"  # noqa: S608 - names of ours
        f"UNION ALL SELECT {', '.join(of_rows)} FROM {grain.rows} WHERE workspace_id = %s AND dimension = ANY(%s) AND ({rows}) {own} "
        f"GROUP BY {', '.join(by)}"
    )
    moments = list(chain.from_iterable(spans))
    days = [moment.astimezone(UTC).date() if isinstance(moment, datetime) else moment for moment in moments]
    names = [str(dimension) for dimension in dimensions]
    whole = [workspace_id, names, *_from_firsts(days)] if grain.months else []
    wanted = [] if values is None else [list(values)]
    return query, [workspace_id, names, *days, *whole, workspace_id, names, *moments, *wanted]


def _from_firsts(days: Sequence[date]) -> list[date]:
    """Spans one after the other, widened to whole months: a merged month stands on its first day."""
    return [day if place % 2 else day.replace(day=1) for place, day in enumerate(days)]
