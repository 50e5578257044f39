"""Two questions that the overview asks all the time, each one row by its key."""

from __future__ import annotations

from billing.models import RollupMonth, SequenceMark


def seen_up_to(workspace_id: int) -> int:
    """A number that grows with everything booked: what a page compares to know whether it is stale."""
    return SequenceMark.objects.filter(workspace_id=workspace_id).values_list("seq", flat=True).first() or 0


def has_calls(workspace_id: int) -> bool:
    """Whether anything was ever booked for the workspace."""
    return RollupMonth.objects.filter(workspace_id=workspace_id, dimension="").exists()
