"""Combinations as they are kept: packs of days and months, and rows that are not packed yet. All in one statement: nothing moves in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final

import msgspec
import numpy as np
from django.db import connection
from psycopg import Cursor
from psycopg.pq import Format

from billing.ledger.asking import TAG, Days, Filters
from billing.ledger.packs import memory
from billing.ledger.packs.columns import Narrow, Numbers, Texts, coded, narrow, unpack_numbers, unpack_texts

memory.keep()

_TAGS: Final = "tags"
EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Spread:
    """Which rows of a merged month are of which day."""

    days: Numbers
    """Since 1970, in order; each has rows."""
    ends: Numbers
    """Where the rows of each end."""

    def dates(self) -> list[date]:
        return [date.fromordinal(EPOCH + day) for day in self.days.tolist()]

    def dates_of(self, rows: Numbers) -> list[date]:
        dates = self.dates()
        return [dates[place] for place in np.searchsorted(self.ends, rows, side="right").tolist()]

    def runs(self, period_of: Callable[[date], Any]) -> Iterator[tuple[date, int, int]]:
        """(first day, its first row, the end of the last one's) of days that follow each other in one period."""
        dates, start = self.dates(), 0
        ends = self.ends.tolist()
        first, period = dates[0], period_of(dates[0])
        for place in range(1, len(dates)):
            own = period_of(dates[place])
            if own != period:
                yield first, start, ends[place - 1]
                first, period, start = dates[place], own, ends[place - 1]
        yield first, start, ends[-1]


@dataclass(frozen=True, slots=True)
class Block:
    """Some combinations: those of a day's pack, or those not packed. Columns of numbers are unpacked when they are wanted."""

    day: date | None
    """None: of several days, which `spread` tells apart where that is known."""
    length: int
    texts: Sequence[Texts]
    """Of the dimensions grouped by, then of those filtered by."""
    measures: Mapping[str, Any]
    """Measure -> its packed column, or its numbers."""
    spread: Spread | None = None
    _columns: dict[str, Narrow] = field(default_factory=dict)

    @property
    def on(self) -> date:
        """The day of a block that was read apart."""
        if self.day is None:
            raise ValueError("rows of several days were read together")
        return self.day

    def column(self, measure: str) -> Narrow:
        kept = self._columns.get(measure)
        if kept is None:
            packed = self.measures[measure]
            if isinstance(packed, Narrow):
                kept = packed
            else:
                kept = Narrow(0, packed, len(packed)) if isinstance(packed, np.ndarray) else narrow(packed)
            self._columns[measure] = kept
        return kept

    def piece(self, start: int, stop: int, *, day: date | None = None, spread: Spread | None = None) -> Block:
        """Some rows that follow each other. Nothing is copied."""
        texts = [one.with_codes(one.codes[start:stop]) for one in self.texts]
        measures = {name: self.column(name).piece(start, stop) for name in self.measures}
        return Block(day, stop - start, texts, measures, spread)

    def only_on(self, day: date) -> Block:
        """The same columns, for a choice of rows that are all of one day or period that begins with it."""
        return replace(self, day=day, spread=None)


def month_block(
    days: Any,
    ends: Any,
    length: int,
    texts: Sequence[Texts],
    measures: Mapping[str, Any],
    spans: Sequence[tuple[Any, Any]],
) -> list[Block]:
    """What of a merged month lies in some spans of days: a piece for each."""
    spread = Spread(unpack_numbers(days), unpack_numbers(ends))
    whole = Block(None, length, texts, measures, spread)
    found = []
    for first, last in spans:
        low, high = np.searchsorted(spread.days, [first.toordinal() - EPOCH, last.toordinal() - EPOCH + 1]).tolist()
        if high - low == len(spread.days):
            return [whole]
        if low < high:
            start, stop = int(spread.ends[low - 1]) if low else 0, int(spread.ends[high - 1])
            found.append(whole.piece(start, stop, spread=Spread(spread.days[low:high], spread.ends[low:high] - start)))
    return found


_FIRST: Final = 4
"""Columns of a row before the packed ones."""


def blocks(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    measures: Sequence[str],
    *,
    apart: bool = False,
) -> list[Block]:
    """Every pack of the days, and what is not packed: there the filters are applied already. `apart`: the latter by the day, too.
    Of merged months what lies in the range, with its `spread`."""
    names = [*dimensions, *filters]
    columns = list(dict.fromkeys(_column(name) for name in names))
    query, params = _query(workspace_id, days, names, columns, filters, measures, apart=apart)
    rows = read(query, params)
    split = _FIRST + len(columns) + len(measures)
    found: list[Block] = []
    for row in rows:
        if row[1] is not None:
            texts, packed = _packed(row, names, columns, measures)
            if row[2] is None:
                found.append(Block(row[0], row[1], texts, packed))
            else:
                found += month_block(row[2], row[3], row[1], texts, packed, [(days.first, days.last)])
    loose: dict[date | None, list[Any]] = {}
    for row in rows:
        if row[1] is None:
            loose.setdefault(row[0], []).append(row[split:])
    return [*found, *(_loose(day, some, len(names), measures) for day, some in loose.items())]


def read(query: str, params: Sequence[Any]) -> list[Any]:
    """Django's cursors spell bytes out in hexadecimal digits: this one, inside Django's wrapper, takes them as they are."""
    with connection.cursor():  # enters the schema
        pass
    bare: Any = Cursor(connection.connection)
    bare.format = Format.BINARY
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with wrap(bare) as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())


def _packed(
    row: Sequence[Any], names: Sequence[str], columns: Sequence[str], measures: Sequence[str]
) -> tuple[list[Texts], dict[str, Any]]:
    kept = {column: unpack_texts(row[_FIRST + place]) for place, column in enumerate(columns)}
    start = _FIRST + len(columns)
    texts = [
        _tag(kept[_TAGS], name.removeprefix(TAG)) if name.startswith(TAG) else kept[_column(name)] for name in names
    ]
    return texts, {name: row[start + place] for place, name in enumerate(measures)}


def _loose(day: date | None, rows: Sequence[Sequence[Any]], width: int, measures: Sequence[str]) -> Block:
    columns = list(zip(*rows, strict=True))
    return Block(
        day=day,
        length=len(rows),
        texts=[coded(column) for column in columns[:width]],
        measures={name: np.array(columns[width + place], np.int64) for place, name in enumerate(measures)},
    )


def _tag(tags: Texts, key: str) -> Texts:
    """The column of one tag, from that of all tags as JSON."""
    each = coded([msgspec.json.decode(text or "{}", type=dict[str, str]).get(key, "") for text in tags.values()])
    return each.with_codes(each.codes[tags.codes])


def _column(name: str) -> str:
    return _TAGS if name.startswith(TAG) else "end_user" if name == "user" else name


def _query(
    workspace_id: int,
    days: Days,
    names: Sequence[str],
    columns: Sequence[str],
    filters: Filters,
    measures: Sequence[str],
    *,
    apart: bool,
) -> tuple[str, list[Any]]:
    """Two kinds of rows: (day, length, a merged month's days and their ends, packed columns, nothing) and (day, nothing, values and sums).
    All names are ours, values parameters."""
    texts: list[tuple[str, list[str]]] = [
        ("coalesce(tags ->> %s::text, '')", [name.removeprefix(TAG)]) if name.startswith(TAG) else (_column(name), [])
        for name in names
    ]
    passes = texts[len(names) - len(filters) :]
    day = "day" if apart else "NULL::date"
    loose = [f"{day} AS day", *(f"{text} AS v{place}" for place, (text, _) in enumerate(texts))]
    loose += [f"sum({name})::bigint AS {name}" for name in measures]
    where = " AND ".join(["workspace_id = %s", "day BETWEEN %s AND %s", *(f"{text} = %s" for text, _ in passes)])
    by = ", ".join(str(place + 1) for place in range(len(names) + 1))
    packed = [*columns, *measures, *["NULL::text"] * len(names), *["NULL::bigint"] * len(measures)]
    of_packs = ", ".join(["day", "rows", "NULL::bytea", "NULL::bytea", *packed])
    of_months = ", ".join(["day", "rows", "days", "ends", *packed])
    of_rows = ["day", "NULL::integer", *["NULL::bytea"] * (2 + len(columns) + len(measures))]
    of_rows += [*(f"v{place}" for place in range(len(names))), *measures]
    query = (
        f"SELECT {of_packs} FROM billing_detail_pack WHERE workspace_id = %s AND day BETWEEN %s AND %s "  # noqa: S608
        f"UNION ALL SELECT {of_months} FROM billing_detail_month_pack WHERE workspace_id = %s AND day BETWEEN %s AND %s "
        f"UNION ALL SELECT {', '.join(of_rows)} FROM "
        f"(SELECT {', '.join(loose)} FROM billing_rollup_detail WHERE {where} GROUP BY {by}) AS loose"
    )
    between = [workspace_id, days.first, days.last]
    keys = [key for _, given in texts for key in given]
    wanted = [one for (_, given), value in zip(passes, filters.values(), strict=True) for one in (*given, value)]
    of_month = [workspace_id, days.first.replace(day=1), days.last]
    return query, [*between, *of_month, *keys, *between, *wanted]
