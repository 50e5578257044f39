"""Celery wakes the tellers and senders. What they do stands in the database: a lost message costs seconds, never a notice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final

from celery import Task, shared_task
from django.core.cache import cache
from django.db import InterfaceError, OperationalError, connection
from kombu.exceptions import OperationalError as BrokerAway

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
HELD_S: Final = 90
"""How long one run may keep others of its kind away, should its process die."""


def _alone(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """One run at a time: slow mail servers and receivers occupy one thread of the worker each, never all of them."""

    def decorate(run: Callable[[], None]) -> Callable[[], None]:
        @wraps(run)
        def guarded() -> None:
            with _held(f"signals:{name}") as mine:
                if not mine:
                    return
                try:
                    run()
                except (OperationalError, InterfaceError) as error:
                    log.warning("%s: PostgreSQL does not answer: %s", name, str(error).split("\n", 1)[0])
                    connection.close()

        return guarded

    return decorate


@contextmanager
def _held(key: str) -> Iterator[bool]:
    mine = cache.add(key, 1, timeout=HELD_S)
    try:
        yield mine
    finally:
        if mine:
            cache.delete(key)


def wake(task: Task[Any, Any]) -> None:
    """Soon instead of at the next tick. Without a broker the tick has to do."""
    try:
        task.apply_async(retry=False, expires=30)
    except BrokerAway as error:
        log.warning("the broker does not answer; %s waits for its tick: %s", task.name, error)


@shared_task(name="signals.tell")
@_alone("tell")
def tell() -> None:
    """Crossings and unknown usage that the ledger writer recorded become notices; then their senders are woken."""
    now = datetime.now(UTC)
    if telling.tell(now) + unknown.tell(now):
        wake(send_mail)
        wake(post)


@shared_task(name="signals.send_mail")
@_alone("mail")
def send_mail() -> None:
    mail.send_due()


@shared_task(name="signals.post")
@_alone("post")
def post() -> None:
    """To webhooks and Slack."""
    hooks.post_due()


@shared_task(name="signals.look_at_stages")
@_alone("stages")
def look_at_stages() -> None:
    stages.look(datetime.now(UTC))


@shared_task(name="signals.look_ahead")
@_alone("ahead")
def look_ahead() -> None:
    outlooks.look(datetime.now(UTC))


@shared_task(name="signals.weekly")
@_alone("weekly")
def weekly() -> None:
    digests.make(datetime.now(UTC))


@shared_task(name="signals.retire")
@_alone("retire")
def retire() -> None:
    if gone := retention.retire(datetime.now(UTC)):
        log.info("retired %d old notices", gone)
