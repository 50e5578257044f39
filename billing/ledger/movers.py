"""What changed: the values whose spend differs most from that of as many days before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.core.cache import cache
from django.db import connection

from billing.ledger import ranking, sums
from billing.ledger import values as kept
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
    months = sorted({day.replace(day=1) for day in ranking.days_between(before.first, days.last)})
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, [list(dimensions), workspace.pk, months, MOVER_CANDIDATES])
        candidates = cursor.fetchall()
    wanted: dict[str, list[str]] = {}
    for dimension, value in candidates:
        wanted.setdefault(dimension, []).append(value)
    moved = (
        kept.before_and_after(workspace.pk, wanted, before.first, days.last, days.first, "cost_nano") if wanted else []
    )
    found = sorted(moved, key=lambda one: (-abs(one[2] - one[3]), one[0], one[1]))[:limit]
    if len(candidates) >= MANY:
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
# The LATERAL is written so that the planner cannot turn it into a join that reads the whole rollup; LIMIT keeps a sub-query to itself.
_CANDIDATES: Final = """
SELECT d.dimension, dear.value FROM unnest(%s::text[]) AS d(dimension) CROSS JOIN LATERAL (
    SELECT value FROM billing_rollup_month WHERE workspace_id = %s AND dimension = d.dimension AND month = ANY(%s)
    GROUP BY value ORDER BY sum(cost_nano) DESC, value LIMIT %s
) AS dear
"""
