"""The question that the overview asks all the time: what is the newest that was booked? One row by its key."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from billing.ledger.queries import Days
from billing.models import RollupMonth, SequenceMark


@dataclass(frozen=True, slots=True)
class Mark:
    seq: int = 0
    """A number that grows with everything booked: what a page compares to know whether it is stale."""
    has_calls: bool = False
    """Whether any call ever ended. A hold alone moves `seq` and is no call yet."""


def mark(workspace_id: int) -> Mark:
    ended = RollupMonth.objects.filter(workspace_id=OuterRef("workspace_id"), dimension="")
    row = SequenceMark.objects.filter(workspace_id=workspace_id).values_list("seq", Exists(ended)).first()
    return Mark(*row) if row else Mark()


def has_values(workspace_id: int, dimension: str, days: Days) -> bool:
    """Whether any call of the months of a range had this dimension."""
    rows = RollupMonth.objects.filter(workspace_id=workspace_id, dimension=dimension)
    return rows.filter(month__gte=days.first.replace(day=1), month__lte=days.last).exists()
