"""Rollups: what lines add up to, per hour, day and month of the workspace's own clock, by each dimension and by all together.

Only sums, and only from lines that were really inserted: duplicates add nothing and any order of events ends in the same rows.
See docs/adr for the choice of tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from operator import add
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from billing.domain.dimensions import OTHER, Dimension
from billing.ledger.copying import Staging
from billing.ledger.lines import NAMED, Line, json_text

MEASURES: Final = (
    "calls", "attempts", "errors", "voids", "cost_nano", "assumed_nano", "unpriced_calls",
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "duration_ms", "timed", "first_byte_ms", "first_bytes", "overhead_us",
)  # fmt: skip
MAX_DETAIL_ROWS: Final = 20_000
"""Combinations of all dimensions kept apart for one workspace and day. Beyond it new ones lose session, user and tags."""

_SESSION: Final = NAMED.index("session")
_USER: Final = NAMED.index("user")
_COLUMNS: Final = tuple("end_user" if name == "user" else name for name in NAMED)

Vector = list[int]


class Buckets(NamedTuple):
    """Where a moment falls on a workspace's clock."""

    hour: int
    """Start of the hour, Unix seconds."""
    day: str
    month: str


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def buckets_at(zone_name: str, at_ms: int) -> Buckets:
    return _buckets(zone_name, at_ms // 900_000)


@lru_cache(maxsize=65_536)
def _buckets(zone_name: str, quarter: int) -> Buckets:
    """All zones in use since 1972 are a whole number of quarter hours from UTC."""
    at = quarter * 900
    local = datetime.fromtimestamp(at, zone(zone_name))
    offset = int((local.utcoffset() or timedelta()).total_seconds())
    return Buckets(
        hour=(at + offset) // 3600 * 3600 - offset, day=local.strftime("%Y-%m-%d"), month=local.strftime("%Y-%m-01")
    )


def measures_of(line: Line) -> Vector:
    """A line -> what it adds, in the order of `MEASURES`. A correction adds its signed difference and no call; a re-rating nothing else."""
    charge = line.leg == 0
    outcome = line.outcome if line.leg < 2 else None
    duration = outcome.duration_ms if outcome and outcome.duration_ms >= 0 else None
    first_byte = outcome.first_byte_ms if outcome and outcome.first_byte_ms >= 0 else None
    return [
        int(charge and line.context.attempt == 1),
        int(charge),
        int(line.failed and outcome is not None),
        int(line.state == "void"),
        line.cost_nano,
        line.assumed_nano,
        line.unpriced,
        *line.tokens,
        duration or 0,
        int(duration is not None),
        first_byte or 0,
        int(first_byte is not None),
        max(outcome.overhead_us, 0) if outcome else 0,
    ]


class Sums:
    """Adds lines up before the database sees them."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, Buckets, str, str], Vector] = {}
        """By hour and value of one dimension; days and months are added up from these."""
        self.details: dict[tuple[int, str, tuple[str, ...], str], Vector] = {}

    def add(self, lines: Iterable[Line], zones: Mapping[int, str]) -> None:
        groups: dict[tuple[int, Buckets], list[tuple[Line, Vector]]] = {}
        for line in lines:
            buckets = buckets_at(zones.get(line.workspace_id, "UTC"), line.at_ms)
            groups.setdefault((line.workspace_id, buckets), []).append((line, measures_of(line)))
        for (workspace, buckets), measured in groups.items():
            details = self.details
            for line, vector in measured:
                _merge(
                    details, (workspace, buckets.day, line.dims, json_text(line.tags) if line.tags else "{}"), vector
                )
            self._add_values(workspace, buckets, measured)

    def _add_values(self, workspace: int, buckets: Buckets, measured: Sequence[tuple[Line, Vector]]) -> None:
        """By each dimension and tag, and all of them."""
        vectors = [vector for _, vector in measured]
        dims = list(zip(*[line.dims for line, _ in measured], strict=True))
        columns: list[tuple[str, Sequence[str | None]]] = [("", [""] * len(vectors)), *zip(NAMED, dims, strict=True)]
        names = {name for line, _ in measured for name in line.tags}
        columns += [(f"tag:{name}", [line.tags.get(name) for line, _ in measured]) for name in sorted(names)]
        add_up = _added_by_column if len(vectors) >= WORTH_A_TABLE else _added_by_line
        for name, value, vector in add_up(columns, vectors):
            _merge(self.values, (workspace, buckets, name, value), vector)

    @property
    def simple(self) -> bool:
        """One hour a workspace: then each row is also its day's and month's sum."""
        return len({key[:2] for key in self.values}) == len({key[0] for key in self.values})


WORTH_A_TABLE: Final = 100
"""So many lines of one hour are added up by numpy: a fifth of the time. A writer that never sees so many at once does not load it."""
_SAFE: Final = 2**46
"""Numbers below it cannot overflow 64 bits in a batch."""
Columns = Sequence[tuple[str, Sequence[str | None]]]
"""Dimension -> its value for each line. None, and an empty value of a dimension that has a name, is none."""


def _added_by_line(columns: Columns, vectors: Sequence[Vector]) -> Iterator[tuple[str, str, Vector]]:
    """(dimension, value, sums)"""
    for name, column in columns:
        sums: dict[str, Vector] = {}
        for value, vector in zip(column, vectors, strict=True):
            if value is not None and (value or not name or name.startswith("tag:")):
                _merge(sums, value, vector)
        for value, vector in sums.items():
            yield name, value, vector


def _added_by_column(columns: Columns, vectors: Sequence[Vector]) -> Iterator[tuple[str, str, Vector]]:
    """The same, as long as the numbers are of a size that calls have."""
    import numpy as np

    try:
        table = np.array(vectors, np.int64)
    except OverflowError:
        table = np.array([[_SAFE]])
    if table.max() >= _SAFE or table.min() <= -_SAFE:
        yield from _added_by_line(columns, vectors)
        return
    for name, column in columns:
        places: dict[str | None, int] = {}
        codes = np.array([places.setdefault(value, len(places)) for value in column], np.int32)
        if len(places) == 1:
            sums = [table.sum(axis=0).tolist()]
        else:
            order = np.argsort(codes, kind="stable")
            starts = np.searchsorted(codes[order], np.arange(len(places)))
            sums = np.add.reduceat(table[order], starts, axis=0).tolist()
        for value, vector in zip(places, sums, strict=True):
            if value is not None and (value or not name or name.startswith("tag:")):
                yield name, value, vector


def _merge(sums: dict[Any, Vector], key: Any, vector: Vector) -> None:
    present = sums.get(key)
    sums[key] = vector if present is None else list(map(add, present, vector))


def write(cursor: Any, sums: Sums, *, most_details: int = MAX_DETAIL_ROWS) -> None:
    """Add the sums to the tables. Partitions must exist (`partitions.ensure`)."""
    _VALUES.fill(
        cursor,
        [
            [str(workspace), str(buckets.hour), buckets.day, buckets.month, name, value, *map(str, vector)]
            for (workspace, buckets, name, value), vector in sums.values.items()
        ],
    )
    for statement in _ADD_SIMPLY if sums.simple else _ADD_UP:
        cursor.execute(statement)
    details = _bounded(cursor, sums.details, most_details)
    _DETAILS.fill(
        cursor,
        [
            [str(workspace), day, _digest(dims, tags), *dims, tags, *map(str, vector)]
            for (workspace, day, dims, tags), vector in details.items()
        ],
    )
    cursor.execute(_UPSERT_DETAILS)


def _digest(dims: Sequence[str], tags: str) -> str:
    return blake2b("\x1f".join((*dims, tags)).encode(), digest_size=16).hexdigest()


# --- The bound on details: an estimate per workspace and day that is only ever too high, made exact when it reaches the bound
_estimates: dict[tuple[int, str], int] = {}


def _bounded(
    cursor: Any, details: dict[tuple[int, str, tuple[str, ...], str], Vector], most: int
) -> dict[tuple[int, str, tuple[str, ...], str], Vector]:
    new: dict[tuple[int, str], int] = {}
    for workspace, day, _, _ in details:
        new[workspace, day] = new.get((workspace, day), 0) + 1
    full = {key for key, count in new.items() if not _room(cursor, key, count, most)}
    if not full:
        return details
    bounded: dict[tuple[int, str, tuple[str, ...], str], Vector] = {}
    for (workspace, day, dims, tags), vector in details.items():
        if (workspace, day) in full:
            dims, tags = _coarse(dims), "{}"
        _merge(bounded, (workspace, day, dims, tags), vector)
    return bounded


def _room(cursor: Any, key: tuple[int, str], count: int, most: int) -> bool:
    estimate = _estimates.get(key)
    if estimate is None or estimate + count > most:
        cursor.execute(
            "SELECT count(*) + coalesce((SELECT rows FROM billing_detail_pack WHERE workspace_id = %s AND day = %s), 0) "
            "FROM (SELECT 1 FROM billing_rollup_detail WHERE workspace_id = %s AND day = %s LIMIT %s) AS kept",
            [*key, *key, most],
        )
        estimate = int(cursor.fetchone()[0])
    if len(_estimates) > 10_000:
        _estimates.clear()
    if estimate + count > most:
        _estimates[key] = estimate
        return False
    _estimates[key] = estimate + count
    return True


def _coarse(dims: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(OTHER if value and place in (_SESSION, _USER) else value for place, value in enumerate(dims))


# --- SQL --------------------------------------------------------------------------------------------------------------
_measure_columns: Final = [(name, "bigint") for name in MEASURES]
_names: Final = ", ".join(MEASURES)
_sums: Final = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in MEASURES)

_VALUES: Final = Staging(
    "ledger_sums",
    [
        ("workspace_id", "bigint"), ("hour", "bigint"), ("day", "date"), ("month", "date"), ("dimension", "text"), ("value", "text"),
        *_measure_columns,
    ],
)  # fmt: skip
_DETAILS: Final = Staging(
    "ledger_details",
    [
        ("workspace_id", "bigint"), ("day", "date"), ("digest", "uuid"), *((name, "text") for name in _COLUMNS), ("tags", "jsonb"),
        *_measure_columns,
    ],
)  # fmt: skip


NO_HOURS: Final = frozenset((Dimension.SESSION, Dimension.USER))
"""Dimensions of so many values that hours of them would be one row a call."""
NO_MONTHS: Final = NO_HOURS
"""Days say as much: of a month's values few come again on many days. What is read of them is read from packs of days."""


def _upsert(column: str, made_from: str, without: frozenset[Dimension], *, simply: bool) -> str:
    selected = _names if simply else ", ".join(f"sum({name})::bigint" for name in MEASURES)
    where = f"WHERE dimension NOT IN ({', '.join(repr(str(name)) for name in sorted(without))})" if without else ""
    return (
        f"INSERT INTO billing_rollup_{column} AS r (workspace_id, dimension, {column}, value, {_names}) "  # noqa: S608 - made of literals
        f"SELECT workspace_id, dimension, {made_from}, value, {selected} FROM pg_temp.ledger_sums {where} "
        f"{'' if simply else 'GROUP BY 1, 2, 3, 4'} "
        f"ON CONFLICT (workspace_id, dimension, {column}, value) DO UPDATE SET {_sums}"
    )


def _upserts(*, simply: bool) -> tuple[str, str, str]:
    return (
        _upsert("hour", "to_timestamp(hour::double precision)", NO_HOURS, simply=simply),
        _upsert("day", "day", frozenset(), simply=simply),
        _upsert("month", "month", NO_MONTHS, simply=simply),
    )


_ADD_SIMPLY: Final = _upserts(simply=True)
_ADD_UP: Final = _upserts(simply=False)
_detail_names: Final = f"workspace_id, day, digest, {', '.join(_COLUMNS)}, tags, {_names}"
_UPSERT_DETAILS: Final = (
    f"INSERT INTO billing_rollup_detail AS r ({_detail_names}) SELECT {_detail_names} FROM pg_temp.ledger_details "  # noqa: S608 - made of literals
    f"ON CONFLICT (workspace_id, day, digest) DO UPDATE SET {_sums}"
)
