"""What changed: the values whose spend differs most from that of as many days before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.core.cache import cache
from django.db import connection

from billing.ledger import ranking, sums
from billing.ledger.asking import Days, check_grouping, inside
from workspaces import narrowing
from workspaces.models import Workspace


@dataclass(frozen=True, slots=True)
class Mover:
    """A value whose spend changed, and by how much."""

    dimension: str
    value: str
    now_nano: int
    before_nano: int

    @property
    def change_nano(self) -> int:
        return self.now_nano - self.before_nano


def movers(workspace: Workspace, days: Days, dimensions: Sequence[str], *, limit: int = 8) -> list[Mover]:
    """The values whose spend differs most from that of as many days before, of any of the dimensions."""
    inside(workspace)
    check_grouping((), dict.fromkeys(dimensions, ""))
    if narrowing.department() is not None:
        return _of_department(workspace, days, dimensions[:NARROWED_DIMENSIONS], limit)
    # Yesterday and before change no more but for late corrections: of a large book, all who look see the same for a while.
    name = f"sluice:movers:{workspace.pk}:{days.first}:{days.last}:{limit}:{','.join(dimensions)}"
    remembered: list[list[Any]] | None = cache.get(name)
    if remembered is not None:
        return [Mover(*one) for one in remembered]
    before = days.before()
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVERS,
            {
                "workspace": workspace.pk, "dimensions": list(dimensions), "first": days.first, "limit": limit,
                "months": sorted({day.replace(day=1) for day in ranking.days_between(before.first, days.last)}),
                "days": ranking.days_between(before.first, days.last), "candidates": MOVER_CANDIDATES,
            },
        )  # fmt: skip
        rows = cursor.fetchall()
    found = [(dimension, value, int(now), int(was)) for dimension, value, now, was, _ in rows]
    if rows and rows[0][-1] >= MANY:
        cache.set(name, found, REMEMBERED_S)
    return [Mover(*one) for one in found]


MANY: Final = 100
"""From so many candidates on the answer is remembered: in smaller books it is asked for each time."""
REMEMBERED_S: Final = 300

NARROWED_DIMENSIONS: Final = 2
"""For a lead, of only so many: each is two reads of combinations."""


def _of_department(workspace: Workspace, days: Days, dimensions: Sequence[str], limit: int) -> list[Mover]:
    found = []
    for name in dimensions:
        now, before = (
            {row.value: row.totals.cost_nano for row in sums.by_value(workspace, some, name, limit=MOVER_CANDIDATES)}
            for some in (days, days.before())
        )
        found += [Mover(name, value, now.get(value, 0), before.get(value, 0)) for value in {*now, *before} if value]
    return sorted(found, key=lambda one: (-abs(one.change_nano), one.dimension, one.value))[:limit]


MOVER_CANDIDATES: Final = 200
"""The values of each dimension that are looked at: those that spent most in the months concerned. Who is not among them moved less than
the last of them spent."""
# Both LATERALs are written so that the planner cannot turn them into a join that reads the whole rollup (measured: 44,000 pages instead of 2,500):
# it takes an array of days for a few rows and a workspace for the whole table. LIMIT and OFFSET keep a sub-query to itself.
_MOVERS: Final = """
WITH candidates AS MATERIALIZED (
    SELECT d.dimension, dear.value FROM unnest(%(dimensions)s::text[]) AS d(dimension) CROSS JOIN LATERAL (
        SELECT value FROM billing_rollup_month
        WHERE workspace_id = %(workspace)s AND dimension = d.dimension AND month = ANY(%(months)s)
        GROUP BY value ORDER BY sum(cost_nano) DESC, value LIMIT %(candidates)s
    ) AS dear
)
SELECT c.dimension, c.value, r.now_nano, r.before_nano, (SELECT count(*) FROM candidates) FROM candidates AS c CROSS JOIN LATERAL (
    SELECT coalesce(sum(cost_nano) FILTER (WHERE day >= %(first)s), 0) AS now_nano,
        coalesce(sum(cost_nano) FILTER (WHERE day < %(first)s), 0) AS before_nano
    FROM billing_rollup_day
    WHERE workspace_id = %(workspace)s AND dimension = c.dimension AND day = ANY(%(days)s) AND value = c.value OFFSET 0
) AS r
ORDER BY abs(r.now_nano - r.before_nano) DESC, c.dimension, c.value LIMIT %(limit)s
"""
