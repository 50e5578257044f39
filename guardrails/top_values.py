"""Which values of an each-value budget have used most, and how many there are, without reading every counter.

A workspace may have a hundred thousand values a period. The order comes from the ledger's totals (a second or so behind the gate) and is
remembered a moment for all who look at the page; the numbers shown beside the few at the top are read live by their counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.core.cache import cache
from django.db import connection

from billing.domain import keys
from guardrails.domain.budgets import Budget
from workspaces.models import Workspace

MANY: Final = 500
"""From so many values on the answer is remembered."""
REMEMBERED_S: Final = 15


@dataclass(frozen=True, slots=True)
class Top:
    suffixes: tuple[str, ...] = ()
    """Counters of the values that have used most, the dearest first."""
    count: int = 0
    """Values that have used anything."""
    stopped: int = 0
    """Those whose cap is used up."""


def top_values(workspace: Workspace, budgets: Sequence[Budget], at_ms: int, *, limit: int) -> dict[str, Top]:
    """For each of these each-value budgets (by id): its top `limit` values in the present period. At most one query."""
    names = {_name(workspace, budget, at_ms, limit): budget for budget in budgets}
    remembered: dict[str, Any] = cache.get_many(names) if names else {}
    found = {names[name].id: Top(tuple(top[0]), top[1], top[2]) for name, top in remembered.items()}
    asked = {name: budget for name, budget in names.items() if name not in remembered}
    if asked:
        read = _read(workspace, list(asked.values()), at_ms, limit)
        found |= read
        many = {name: read[budget.id] for name, budget in asked.items() if read[budget.id].count >= MANY}
        for name, top in many.items():
            cache.set(name, [top.suffixes, top.count, top.stopped], REMEMBERED_S)
    return found


def _name(workspace: Workspace, budget: Budget, at_ms: int, limit: int) -> str:
    suffix = keys.counter_suffix(budget.id, budget.bounds_at(at_ms).start_ms)
    return f"sluice:top:{workspace.pk}:{suffix}:{limit}:{budget.limit_at(at_ms)}"


def _read(workspace: Workspace, budgets: Sequence[Budget], at_ms: int, limit: int) -> dict[str, Top]:
    starts = [budget.bounds_at(at_ms).start_ms for budget in budgets]
    limits = [budget.limit_at(at_ms) for budget in budgets]
    with connection.cursor() as cursor:
        cursor.execute(_TOP, [[UUID(b.id) for b in budgets], starts, limits, workspace.pk, limit])
        rows = cursor.fetchall()
    return {str(budget_id): Top(tuple(top or ()), count, stopped) for budget_id, count, stopped, top in rows}


_TOP: Final = """
SELECT b.budget_id, counted.all, counted.stopped, ARRAY(
    SELECT counter FROM billing_budget_total AS t WHERE t.workspace_id = w.id AND t.budget_id = b.budget_id AND t.period_start = b.start
    ORDER BY settled DESC, counter LIMIT w.top)
FROM (SELECT budget_id, to_timestamp(start_ms::double precision / 1000) AS start, most
    FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS asked(budget_id, start_ms, most)) AS b
CROSS JOIN (SELECT %s::bigint AS id, %s::int AS top) AS w
CROSS JOIN LATERAL (
    SELECT count(*) AS all, count(*) FILTER (WHERE settled >= b.most) AS stopped FROM billing_budget_total AS t
    WHERE t.workspace_id = w.id AND t.budget_id = b.budget_id AND t.period_start = b.start) AS counted
"""
