"""One run of a kind of task at a time over all the workers of an installation: a lease that is renewed while the run goes on, and that is gone
soon after the run's process died.

It keeps slow mail servers, receivers and looks from taking all of a worker's threads. Exactness is not its business: what is told, sent or
booked once is so by the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Final, TypeVar
from uuid import uuid4

from django.core.cache import BaseCache, caches
from django.db import InterfaceError, OperationalError, connection

log = logging.getLogger(__name__)

LEASE_S: Final = 15
"""How long a run whose process was killed keeps others of its kind away. Some missed renewals long: a cache that starts anew is no reason."""
LONGEST_S: Final = 300.0
"""A run that hangs is renewed no longer: Celery ends tasks after as much, but not in a pool of threads."""

Answer = TypeVar("Answer")


def alone(name: str) -> Callable[[Callable[[], Answer]], Callable[[], Answer | None]]:
    """The run does nothing, and answers None, while another of this name is under way; likewise when PostgreSQL goes away under it."""

    def decorate(run: Callable[[], Answer]) -> Callable[[], Answer | None]:
        @wraps(run)
        def guarded() -> Answer | None:
            with leased(name) as mine:
                if not mine:
                    return None
                try:
                    return run()
                except (OperationalError, InterfaceError) as error:
                    log.warning("%s: PostgreSQL does not answer: %s", name, str(error).split("\n", 1)[0])
                    connection.close()
                    return None

        return guarded

    return decorate


@contextmanager
def leased(name: str, *, lease_s: int = LEASE_S, longest_s: float = LONGEST_S) -> Iterator[bool]:
    """Whether the lease is ours; if so, until the block ends, at the most `longest_s` and a lease."""
    cache = caches[
        "default"
    ]  # this thread's own object, handed to the one that renews: it would open a connection of its own
    mine = uuid4().hex
    if not cache.add(name, mine, timeout=lease_s):
        yield False
        return
    ended = threading.Event()
    renewing = threading.Thread(
        target=renew, args=(cache, name, mine, lease_s, longest_s, ended), name=f"lease of {name}", daemon=True
    )
    renewing.start()
    try:
        yield True
    finally:
        ended.set()
        renewing.join()
        if cache.get(name) == mine:  # else it ran out, and is another's by now
            cache.delete(name)


def renew(cache: BaseCache, name: str, mine: str, lease_s: int, longest_s: float, ended: threading.Event) -> None:
    """Until the run has `ended`, took `longest_s`, or lost its lease to another."""
    until = time.monotonic() + longest_s
    while not ended.wait(lease_s / 3) and time.monotonic() < until:
        try:
            if cache.get(name) != mine:
                return
            cache.touch(name, lease_s)
        except Exception:  # a thread's edge: the cache is away, the run goes on, and the next turn may find it again
            log.warning("the lease %s could not be renewed", name, exc_info=True)
