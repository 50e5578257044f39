"""The question that the overview asks all the time: what is the newest that was booked? One row by its key."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from billing.domain.dimensions import Dimension
from billing.models import RollupMonth, SequenceMark


@dataclass(frozen=True, slots=True)
class Mark:
    seq: int = 0
    """A number that grows with everything booked: what a page compares to know whether it is stale."""
    has_calls: bool = False
    """Whether any call ever ended. A hold alone moves `seq` and is no call yet."""
    has_features: bool = False
    """Whether any call ever named a feature."""


def mark(workspace_id: int) -> Mark:
    rows = RollupMonth.objects.filter(workspace_id=OuterRef("workspace_id"))
    ended, featured = rows.filter(dimension=""), rows.filter(dimension=Dimension.FEATURE)
    marks = SequenceMark.objects.filter(workspace_id=workspace_id)
    row = marks.values_list("seq", Exists(ended), Exists(featured)).first()
    return Mark(*row) if row else Mark()
