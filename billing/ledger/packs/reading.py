"""Combinations as they are kept: packs, and the rows that are not packed yet. Both in one statement, so that nothing moves in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import msgspec
import numpy as np
from django.db import connection
from psycopg import Cursor
from psycopg.pq import Format

from billing.ledger.asking import TAG, Days, Filters
from billing.ledger.packs.columns import Narrow, Texts, coded, narrow, unpack_texts

_TAGS: Final = "tags"


@dataclass(frozen=True, slots=True)
class Block:
    """Some combinations: those of a day's pack, or those not packed. Columns of numbers are unpacked when they are wanted."""

    day: date | None
    """None: of several days."""
    length: int
    texts: Sequence[Texts]
    """Of the dimensions grouped by, then of those filtered by."""
    measures: Mapping[str, Any]
    """Measure -> its packed column, or its numbers."""
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
            kept = Narrow(0, packed, len(packed)) if isinstance(packed, np.ndarray) else narrow(packed)
            self._columns[measure] = kept
        return kept


def blocks(
    workspace_id: int,
    days: Days,
    dimensions: Sequence[str],
    filters: Filters,
    measures: Sequence[str],
    *,
    apart: bool = False,
) -> list[Block]:
    """Every pack of the days, and what is not packed: there the filters are applied already. `apart`: the latter by the day, too."""
    names = [*dimensions, *filters]
    columns = list(dict.fromkeys(_column(name) for name in names))
    query, params = _query(workspace_id, days, names, columns, filters, measures, apart=apart)
    rows = read(query, params)
    split = 2 + len(columns) + len(measures)
    found = [_packed(row, names, columns, measures) for row in rows if row[1] is not None]
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


def _packed(row: Sequence[Any], names: Sequence[str], columns: Sequence[str], measures: Sequence[str]) -> Block:
    kept = {column: unpack_texts(row[2 + place]) for place, column in enumerate(columns)}
    start = 2 + len(columns)
    return Block(
        day=row[0],
        length=row[1],
        texts=[_tag(kept[_TAGS], name.removeprefix(TAG)) if name.startswith(TAG) else kept[_column(name)] for name in names],
        measures={name: row[start + place] for place, name in enumerate(measures)},
    )  # fmt: skip


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
    """Two kinds of rows: (day, length, packed columns, nothing) and (day, nothing, values and sums). All names are ours, values parameters."""
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
    of_packs = ["day", "rows", *columns, *measures, *["NULL::text"] * len(names), *["NULL::bigint"] * len(measures)]
    of_rows = ["day", "NULL::integer", *["NULL::bytea"] * (len(columns) + len(measures))]
    of_rows += [*(f"v{place}" for place in range(len(names))), *measures]
    query = (
        f"SELECT {', '.join(of_packs)} FROM billing_detail_pack WHERE workspace_id = %s AND day BETWEEN %s AND %s "  # noqa: S608
        f"UNION ALL SELECT {', '.join(of_rows)} FROM "
        f"(SELECT {', '.join(loose)} FROM billing_rollup_detail WHERE {where} GROUP BY {by}) AS loose"
    )
    between = [workspace_id, days.first, days.last]
    keys = [key for _, given in texts for key in given]
    wanted = [one for (_, given), value in zip(passes, filters.values(), strict=True) for one in (*given, value)]
    return query, [*between, *keys, *between, *wanted]
