"""Celery wakes the looks. What they find stands in the database: a lost message costs seconds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Final

from celery import shared_task
from django.core.cache import cache
from django.db import InterfaceError, OperationalError, connection

from guardrails.anomalies import looking, watching
from guardrails.signals import tasks as signals

log = logging.getLogger(__name__)

SCHEDULE: Final = {"anomalies.watch": 5.0, "anomalies.look": 60.0, "anomalies.lift_limits": 15.0}
PROMPT: Final = {"anomalies.watch", "anomalies.lift_limits"}
SLOW: Final = {"anomalies.look"}
HELD_S: Final = 120
"""How long one run may keep others of its kind away, should its process die."""


def _alone(name: str) -> Callable[[Callable[[], int]], Callable[[], None]]:
    def decorate(run: Callable[[], int]) -> Callable[[], None]:
        @wraps(run)
        def guarded() -> None:
            if not cache.add(f"anomalies:{name}", 1, timeout=HELD_S):
                return
            try:
                if run():
                    signals.wake(signals.send_mail)
                    signals.wake(signals.post)
            except (OperationalError, InterfaceError) as error:
                log.warning("%s: PostgreSQL does not answer: %s", name, str(error).split("\n", 1)[0])
                connection.close()
            finally:
                cache.delete(f"anomalies:{name}")

        return guarded

    return decorate


@shared_task(name="anomalies.watch")
@_alone("watch")
def watch() -> int:
    """Loops and error storms, in the last minutes."""
    return watching.watch(datetime.now(UTC))


@shared_task(name="anomalies.look")
@_alone("look")
def look() -> int:
    """Dear hours, shifted models, newcomers."""
    return looking.look(datetime.now(UTC))


@shared_task(name="anomalies.lift_limits")
@_alone("lift_limits")
def lift_limits() -> int:
    """Limits whose time is over."""
    return looking.lift_limits(datetime.now(UTC)) and 0
