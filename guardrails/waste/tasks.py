"""Celery wakes the looks. How far they are stands in the database."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Final

from celery import shared_task
from django.db import InterfaceError, OperationalError

from guardrails.leases import alone
from guardrails.waste import looking, retention
from workspaces.models import Workspace

log = logging.getLogger(__name__)

SCHEDULE: Final = {"waste.look": 30.0, "waste.retire": 6 * 3600.0}
SLOW: Final = set(SCHEDULE)
AT_ONCE: Final = 20
RUN_S: Final = 40.0
"""One run; a workspace that needs longer goes on in the next, so that others have their turn and what is slow besides."""


@shared_task(name="waste.look")
@alone("waste:look")
def look() -> None:
    stop = time.monotonic() + RUN_S
    now = datetime.now(UTC)
    for workspace in Workspace.objects.filter(pk__in=list(looking.due(now, AT_ONCE))):
        left = stop - time.monotonic()
        if left <= 0:
            return
        try:
            looking.look_at(workspace, now, seconds=left)
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # one workspace that fails must not cost the others theirs; it is tried again later
            log.exception("workspace %d was not looked at for waste", workspace.pk)


@shared_task(name="waste.retire")
def retire() -> None:
    if gone := retention.retire(datetime.now(UTC)):
        log.info("retired %d old sums of waste", gone)
