"""Celery wakes the tellers and senders. What they do stands in the database: a lost message costs seconds, never a notice."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

from celery import Task, shared_task
from kombu.exceptions import OperationalError as BrokerAway

from guardrails.leases import alone
from guardrails.signals import digests, hooks, mail, outlooks, retention, stages, telling, unknown

log = logging.getLogger(__name__)

SCHEDULE: Final = {
    "signals.tell": 3.0,
    "signals.send_mail": 3.0,
    "signals.post": 3.0,
    "signals.look_at_stages": 5.0,
    "signals.look_ahead": 120.0,
    "signals.weekly": 300.0,
    "signals.retire": 3600.0,
}
PROMPT: Final = {"signals.tell", "signals.send_mail", "signals.post", "signals.look_at_stages"}
SLOW: Final = set(SCHEDULE) - PROMPT


def wake(task: Task[Any, Any]) -> None:
    """Soon instead of at the next tick. Without a broker the tick has to do."""
    try:
        task.apply_async(retry=False, expires=30)
    except BrokerAway as error:
        log.warning("the broker does not answer; %s waits for its tick: %s", task.name, error)


@shared_task(name="signals.tell")
@alone("signals:tell")
def tell() -> None:
    """Crossings and unknown usage that the ledger writer recorded become notices; then their senders are woken."""
    now = datetime.now(UTC)
    if telling.tell(now) + unknown.tell(now):
        wake(send_mail)
        wake(post)


@shared_task(name="signals.send_mail")
@alone("signals:mail")
def send_mail() -> None:
    mail.send_due()


@shared_task(name="signals.post")
@alone("signals:post")
def post() -> None:
    """To webhooks and Slack."""
    hooks.post_due()


@shared_task(name="signals.look_at_stages")
@alone("signals:stages")
def look_at_stages() -> None:
    stages.look(datetime.now(UTC))


@shared_task(name="signals.look_ahead")
@alone("signals:ahead")
def look_ahead() -> None:
    outlooks.look(datetime.now(UTC))


@shared_task(name="signals.weekly")
@alone("signals:weekly")
def weekly() -> None:
    digests.make(datetime.now(UTC))


@shared_task(name="signals.retire")
@alone("signals:retire")
def retire() -> None:
    if gone := retention.retire(datetime.now(UTC)):
        log.info("retired %d old notices", gone)
