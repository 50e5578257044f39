"""Periodic housekeeping of workspaces."""

from __future__ import annotations

from celery import shared_task

from workspaces import actions, idempotency

SCHEDULE = {"workspaces.purge": 3600.0, "workspaces.forget_answers": 900.0}
SLOW = {"workspaces.purge", "workspaces.forget_answers"}


@shared_task(name="workspaces.purge")
def purge() -> int:
    """Remove what deleted workspaces left, once admission has heard of it. Hourly."""
    return actions.purge_deleted_workspaces()


@shared_task(name="workspaces.forget_answers")
def forget_answers() -> int:
    """Answers kept for Idempotency-Key are forgotten after a day."""
    return idempotency.purge()
