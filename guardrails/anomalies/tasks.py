"""Celery wakes the looks. What they find stands in the database: a lost message costs seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from celery import shared_task

from guardrails.anomalies import looking, watching
from guardrails.leases import alone
from guardrails.signals import tasks as signals

SCHEDULE: Final = {"anomalies.watch": 5.0, "anomalies.look": 60.0, "anomalies.lift_limits": 15.0}
PROMPT: Final = {"anomalies.watch", "anomalies.lift_limits"}
SLOW: Final = {"anomalies.look"}


@shared_task(name="anomalies.watch")
@alone("anomalies:watch")
def watch() -> None:
    """Loops and error storms, in the last minutes."""
    _send(watching.watch(datetime.now(UTC)))


@shared_task(name="anomalies.look")
@alone("anomalies:look")
def look() -> None:
    """Dear hours, shifted models, newcomers."""
    _send(looking.look(datetime.now(UTC)))


@shared_task(name="anomalies.lift_limits")
@alone("anomalies:lift_limits")
def lift_limits() -> None:
    """Limits whose time is over."""
    looking.lift_limits(datetime.now(UTC))


def _send(told: int) -> None:
    if told:
        signals.wake(signals.send_mail)
        signals.wake(signals.post)
