"""How far the books lag behind the gate, and what they miss: what a page says beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.domain.keys import partition_of
from billing.ledger.asking import inside
from billing.ledger.stream import MoneyStream
from billing.models import DeadLetter, SequenceMark, StreamOffset
from workspaces.models import Workspace


@dataclass(frozen=True, slots=True)
class Trust:
    """What a page says beside its numbers."""

    lag_s: float
    """Age of the oldest event of the workspace's partition that is not booked yet; 0: none waits."""
    quarantined: int
    """Events set aside."""
    missing: int
    """Numbers of events never seen."""


def trust(workspace: Workspace, stream: MoneyStream, now: datetime) -> Trust:
    inside(workspace)
    gaps = SequenceMark.objects.filter(workspace_id=workspace.pk).values_list("gaps", flat=True).first() or []
    return Trust(
        lag_s=lag_s(stream, partition_of(workspace.pk), now),
        quarantined=DeadLetter.objects.filter(workspace_id=workspace.pk).count(),
        missing=sum(last - first + 1 for first, last in gaps),
    )


def lag_s(stream: MoneyStream, partition: int, now: datetime) -> float:
    """Seconds that the oldest unbooked event of a partition has waited."""
    last_id = StreamOffset.objects.filter(partition=partition).values_list("last_id", flat=True).first() or ""
    waiting = [entry for entry in stream.read_from(partition, last_id, 2) if entry.id != last_id]
    if not waiting:
        return 0.0
    return max(0.0, now.timestamp() - int(waiting[0].id.partition("-")[0]) / 1000)
