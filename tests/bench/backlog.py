"""A backlog: a stream that is long already when the writer begins, and goes on growing while it drains. Part of `tests.bench.ledger`.

Calls arrive in proportion to the core's time that the writer and PostgreSQL take, so the ratio does not depend on what else the machine does.
Shown besides: whether the last tenth drains as fast as the first one, and what the stream takes of Redis' and the writer of its own memory.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from tests.bench.report import Row

FED_AT_ONCE = 10_000


def drained(
    made: Iterator[Any], waiting: int, arriving: int, *, feed: Callable[[Any, str, Any], str], postgres_cpu_s: Callable[[], float]
) -> Row:  # fmt: skip
    """Feed `waiting` calls, then drain them while `arriving` more come in each second of the core."""
    from django.conf import settings
    from redis import Redis

    from billing.domain.keys import partition_of, stream_key
    from billing.ledger import writer
    from billing.ledger.stream import money_stream

    with Redis.from_url(settings.MONEY_REDIS_URL) as redis:
        fed, partition = 0, 0
        while fed < waiting and (some := list(islice(made, min(FED_AT_ONCE, waiting - fed)))):
            partition = partition_of(int(some[0][0]["w"]))
            feed(redis, stream_key(partition), some)
            fed += len(some)
        memory_mb = int(redis.memory_usage(stream_key(partition), samples=100)) / 1e6
        own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        stream, booked, spent, owed = money_stream(), 0, 0.0, 0.0
        rates: list[float] = []
        while fed - booked > writer.BATCH // 2:  # until the writer waits for calls, not calls for the writer
            began, ours, theirs = booked, time.process_time(), postgres_cpu_s()
            while booked < fed and booked - began < max(writer.BATCH, waiting // 10):
                booked += writer.drain_once(stream, partition).booked
            took = time.process_time() - ours + postgres_cpu_s() - theirs
            spent += took
            rates.append((booked - began) / took)
            owed += arriving * took
            if some := list(islice(made, int(owed))):
                feed(redis, stream_key(partition), some)
                fed, owed = fed + len(some), owed - len(some)
        pace = booked / spent
        rest = writer.drain(stream, partition).booked
        if booked + rest != fed:
            raise SystemExit(f"{fed} calls were fed, {booked + rest} booked")
        writer.trim(stream, _later())
        left = stream.lengths()[partition]
    grown_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - own_mb
    return Row(
        "a backlog drains",
        f"{waiting:,} calls wait, {arriving:,} a second arrive meanwhile",
        f"{booked:,} booked; first tenth {rates[0]:,.0f} a second, last {rates[-1]:,.0f}; the stream took {memory_mb:.0f} MB of Redis "
        f"({1e6 * memory_mb / waiting:.0f} bytes a call), the writer grew by {grown_mb:.0f} MB; {left:,} events are left after trimming",
        f"**{pace / arriving:.1f}** times the arrival rate ({pace:,.0f} entries a second of one core)",
    )


def _later() -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(hours=2)
