"""What changed: the values whose spend differs most from that of as many days before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.core.cache import cache

from billing.ledger import sums
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
    span = (before.first, days.last)
    found, candidates = kept.moved(workspace.pk, dimensions, *span, since=days.first, measure="cost_nano", limit=limit)
    if candidates >= MANY:
        cache.set(name, found, REMEMBERED_S)
    return [Mover(*one) for one in found]


MANY: Final = 100
"""From so many values on the answer is remembered: in smaller books it is asked for each time."""
REMEMBERED_S: Final = 300

MOVER_CANDIDATES: Final = 200
"""Of a lead's department, the values of each dimension that are looked at: those that spent most."""
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
