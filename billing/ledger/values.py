"""Sums of one dimension's values by the hour and the day, wherever they stand: in rows of its rollup, in packs, or in both (docs/adr/0025).

Whoever asks for the workspace's total alone (the empty dimension) may read the rows: it is never packed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from struct import Struct
from typing import Any, Final, TypeAlias

from django.db import connection

Moment: TypeAlias = date | datetime
"""A day of the workspace's calendar, or the start of an hour."""


@dataclass(frozen=True, slots=True)
class Grain:
    column: str
    rows: str
    """The rollup that the writer adds to."""
    packs: str
    months: str | None = None
    """Where the packs of a closed month's days are merged (`packs.merging`)."""


DAY: Final = Grain("day", "billing_rollup_day", "billing_day_pack", "billing_day_month_pack")
HOUR: Final = Grain("hour", "billing_rollup_hour", "billing_hour_pack")


def over_time(
    workspace_id: int,
    grain: Grain,
    dimension: str,
    first: Moment,
    last: Moment,
    measures: Sequence[str],
    values: Sequence[str] | None = None,
) -> list[tuple[Any, ...]]:
    """(moment, value, *sums), oldest first, of the values given or of all; both ends are included."""
    found: list[tuple[Any, ...]] = _packed().over_time(workspace_id, grain, dimension, (first, last), measures, values)
    return found


def summed(
    workspace_id: int, grain: Grain, dimensions: Sequence[str], first: Moment, last: Moment, measures: Sequence[str]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Dimension -> value -> its sums over the time, of every value; those of most of the first measure come first."""
    found: dict[str, dict[str, tuple[int, ...]]] = _packed().summed(
        workspace_id, grain, dimensions, (first, last), measures
    )
    return found


def moved(
    workspace_id: int, dimensions: Sequence[str], first: date, last: date, *, since: date, measure: str, limit: int
) -> tuple[list[tuple[str, str, int, int]], int]:
    """([(dimension, value, its measure from `since` on, before it)] of those that differ most, how many values there are)."""
    found: tuple[list[tuple[str, str, int, int]], int] = _packed().moved(
        workspace_id, dimensions, (first, last), since, measure, limit
    )
    return found


def has(workspace_id: int, dimension: str, value: str, first: date) -> bool:
    """Whether any call since then had this value. Of millions of values, the latest are looked through."""
    return bool(_packed().has(workspace_id, dimension, value, first))


def names(workspace_id: int, dimensions: Sequence[str], first: date, most: int) -> list[str]:
    """Values of dimensions seen since then (or in its month), at most about so many. Needs no numpy: a gateway that rebuilds counters asks."""
    found: dict[str, None] = {}
    with connection.cursor() as cursor:
        asked: list[Any] = [workspace_id, list(dimensions), first, most]
        cursor.execute(
            "SELECT DISTINCT value FROM billing_rollup_day WHERE workspace_id = %s AND dimension = ANY(%s) AND day >= %s LIMIT %s",
            asked,
        )
        found.update((value, None) for (value,) in cursor.fetchall())
        cursor.execute(
            "SELECT value FROM (SELECT value, day FROM billing_day_pack WHERE workspace_id = %s AND dimension = ANY(%s) AND day >= %s UNION ALL "
            "SELECT value, day FROM billing_day_month_pack WHERE workspace_id = %s AND dimension = ANY(%s) AND day >= date_trunc('month', %s::date)"
            ") AS packs ORDER BY day DESC LIMIT %s",
            [*asked[:3], *asked],
        )
        for (packed,) in cursor:
            if len(found) >= most:
                break
            found.update(dict.fromkeys(texts_in(bytes(packed))))
    return list(found)[:most]


def texts_in(packed: bytes) -> list[str]:
    """The distinct texts of a packed column (`packs.columns`)."""
    count, told = _TEXTS.unpack_from(packed)
    start = _TEXTS.size + 8 * count
    body = packed[start : start + (told & ~_DEFLATED)]
    text = zlib.decompress(body) if told & _DEFLATED else body
    return text.decode().split("\x00") if count else []


_DEFLATED: Final = 1 << 31
_TEXTS: Final = Struct("<II")


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a value used in all, and of it what went beyond a limit that begins anew with each period."""

    value: str
    used: int
    beyond: int
    calls: int
    """The share of each period's calls that its use beyond the limit had, rounded up."""


def beyond(
    workspace_id: int,
    grain: Grain,
    dimension: str,
    first: Moment,
    last: Moment,
    *,
    measures: Sequence[str],
    less: Sequence[str],
    limit: int | None,
    starts: Sequence[date] | None,
) -> list[Beyond]:
    """Of each value; used are `measures` less others, added up. `limit`: None is no limit. `starts`: the first days of the periods; without them
    each hour is one."""
    found: list[Beyond] = _packed().beyond(
        workspace_id, grain, dimension, (first, last), measures=measures, less=less, limit=limit, starts=starts
    )
    return found


def _packed() -> Any:
    """Imported when it is first asked: a gateway never does, and shall not carry numpy's 20 MB."""
    from billing.ledger.packs import of_values

    return of_values
