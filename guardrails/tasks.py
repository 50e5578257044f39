"""Periodic work of admission: expire what nobody came back for, repair lost pushes, rebuild what is still lost."""

from __future__ import annotations

import logging

from celery import shared_task
from django.core.cache import cache
from django.db import DatabaseError

from billing.domain.keys import PARTITIONS
from guardrails import pushes, recovery
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.store import StoreError
from workspaces.models import Workspace, WorkspaceState

log = logging.getLogger(__name__)

SCHEDULE = {"guardrails.sweep": 5.0, "guardrails.repair_pushes": 5.0, "guardrails.heal": 15.0}
MOST_ROUNDS = 50
AT_ONCE = 500
HEALED_UP_TO = "guardrails:healed-up-to"
STUCK = ("rebuilding", "corrupt")


@shared_task(name="guardrails.sweep")
def sweep() -> None:
    """Charge the holds whose lease ran out, at the hold; retire counters of long-ended periods."""
    store = sync_store()
    for partition in range(PARTITIONS):
        for _ in range(MOST_ROUNDS):
            swept = control.sweep(store, partition)
            if swept.skewed:
                log.error("sweep: this clock and the money Redis' differ by more than five seconds; nothing expires")
                return
            if swept.expired or swept.failed:
                log.warning("partition %d: %d holds expired, %d could not", partition, swept.expired, swept.failed)
            if swept.expired + swept.retired < 200:
                break


@shared_task(name="guardrails.repair_pushes")
def repair_pushes() -> None:
    """Policy versions that did not reach the money Redis."""
    pushes.repair_pushes()


@shared_task(name="guardrails.heal")
def heal() -> None:
    """Rebuild workspaces that were left half-rebuilt or corrupt, or lost altogether, when no gateway is there to ask for it.

    Some at a time, in turn: a call asks for its own workspace at once, and thousands of idle ones are not walked every few seconds.
    """
    store = sync_store()
    seeded = Workspace.objects.filter(admission_epoch__gt=0, pk__gt=cache.get(HEALED_UP_TO, 0))
    seeded = seeded.exclude(state=WorkspaceState.DELETING).order_by("pk")
    expected = list(seeded.values_list("pk", "admission_epoch")[:AT_ONCE])
    cache.set(HEALED_UP_TO, expected[-1][0] if len(expected) == AT_ONCE else 0, timeout=3600)
    metas = control.read_metas(store, [workspace_id for workspace_id, _ in expected])
    for (workspace_id, epoch), meta in zip(expected, metas, strict=True):
        if meta is None or meta.state in STUCK or meta.epoch < epoch:
            rebuild.delay(workspace_id, epoch)


@shared_task(name="guardrails.rebuild")
def rebuild(workspace_id: int, seen_epoch: int | None = None) -> None:
    try:
        recovery.rebuild(workspace_id, seen_epoch=seen_epoch)
    except (recovery.NotNow, control.Refused, StoreError, DatabaseError) as error:
        log.warning("workspace %d not rebuilt yet: %s: %s", workspace_id, type(error).__name__, error)
