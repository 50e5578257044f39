"""Celery wakes the ledger writer; the events themselves never travel in a message."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

from celery import current_app, shared_task
from django.db import InterfaceError, OperationalError, connection
from kombu.exceptions import OperationalError as BrokerAway

from billing.domain.keys import partition_of
from billing.ledger import crossings, forgetting, minutes, partitions, retention, writer
from billing.ledger.stream import MoneyStream, StreamUnavailable, money_stream

log = logging.getLogger(__name__)

SCHEDULE: Final = {
    "billing.write_ledger": 1.0,
    "billing.recheck_crossings": 5.0,
    "billing.trim_streams": 60.0,
    "billing.keep_partitions": 3600.0,
    "billing.retire_totals": 3600.0,
    "billing.forget_calls": 3600.0,
    "billing.retire_minutes": 300.0,
    "billing.pack_rollups": 600.0,
    "billing.pack_left_over": 86_400.0,
}
SLOW: Final = {
    "billing.keep_partitions",
    "billing.retire_totals",
    "billing.forget_calls",
    "billing.retire_minutes",
    "billing.pack_rollups",
    "billing.pack_left_over",
}

WATCH_S: Final = 0.95
"""How long a waking watches the streams, so that one waking a second leaves no gap and a call is in the books after some 0.1 s."""
BUSY_S: Final = 20.0
"""How long it goes on while there is a backlog."""
HOURS_KEPT: Final = timedelta(days=425)
"""Hourly rollups are kept for fourteen months; days, months, details and the ledger itself for good, but for what `forgetting` deletes."""


@shared_task(name="billing.write_ledger")
def write_ledger() -> None:
    """Book what the gateways wrote, and go on watching for about a second."""
    try:
        watch(money_stream())
    except StreamUnavailable as error:
        log.warning("the money Redis does not answer; its events wait: %s", error)
    except (OperationalError, InterfaceError) as error:
        log.warning("PostgreSQL does not answer; events wait in the stream: %s", str(error).split("\n", 1)[0])
        connection.close()


def watch(
    stream: MoneyStream, *, watch_s: float = WATCH_S, busy_s: float = BUSY_S, batch: int = writer.BATCH
) -> writer.Drained:
    """Drain partitions as entries arrive. Several workers may watch: each partition has one writer at a time.

    One partition's backlog keeps no other one waiting for longer than a batch: whoever had the fewest full batches is next.
    """
    started = time.monotonic()
    done = writer.Drained()
    now = datetime.now(UTC)
    for partition in writer.partitions_with_due_letters(now):
        writer.retry_dead_letters(partition, now)
    full: Counter[int] = Counter()
    while True:
        where = writer.survey(stream)
        read = 0
        for partition in sorted(where.behind, key=lambda one: full[one]):
            step = writer.drain_once(stream, partition, batch=batch)
            done, read = done + step, read + step.read
            if step.crossings:
                _wake_signals()
            if step.read >= batch:
                full[partition] += 1
                break
        elapsed = time.monotonic() - started
        if elapsed >= busy_s or (not read and elapsed >= watch_s):
            return done
        if not read:
            # Where another worker has a partition that is behind, waiting on its stream would return at once.
            if where.behind:
                time.sleep(0.02)
            else:
                stream.wait(where.committed, timeout_ms=min(250, int((watch_s - elapsed) * 1000)))


def _wake_signals() -> None:
    """Crossings wait in their table to be told; this only makes it sooner than the next tick. By name: signals import billing, not the reverse."""
    try:
        current_app.send_task("signals.tell", retry=False, expires=30)
    except BrokerAway as error:
        log.warning("the broker does not answer; crossings are told at the next tick: %s", error)


@shared_task(name="billing.recheck_crossings")
def recheck_crossings() -> None:
    """Thresholds that a changed cap put below what was spent."""
    if crossings.recheck(datetime.now(UTC)):
        _wake_signals()


@shared_task(name="billing.trim_streams")
def trim_streams() -> None:
    try:
        writer.trim(money_stream(), datetime.now(UTC))
    except StreamUnavailable as error:
        log.warning("streams were not trimmed: %s", error)


@shared_task(name="billing.keep_partitions")
def keep_partitions() -> None:
    """Make the partitions of the coming months; drop hourly rollups whose time is over."""
    now = datetime.now(UTC)
    partitions.make_ahead(now)
    for name in partitions.drop_before("billing_rollup_hour", (now - HOURS_KEPT).date()):
        log.info("dropped %s: hourly rollups are kept for %d days", name, HOURS_KEPT.days)
    retention.retire_hours(now - HOURS_KEPT)


@shared_task(name="billing.retire_totals")
def retire_totals() -> None:
    """Drop the totals and crossings of periods that ended long ago."""
    gone = retention.retire(datetime.now(UTC))
    if gone.totals or gone.crossings:
        log.info("retired %d totals and %d crossings of long-ended periods", gone.totals, gone.crossings)


@shared_task(name="billing.forget_calls")
def forget_calls() -> None:
    """Delete single lines of the ledger that are older than their workspace keeps them."""
    gone = forgetting.forget_due(datetime.now(UTC))
    if gone:
        log.info("deleted %d lines of calls that their workspaces keep no longer", gone)


@shared_task(name="billing.retire_minutes")
def retire_minutes() -> None:
    minutes.retire(datetime.now(UTC))


@shared_task(name="billing.pack_rollups")
def pack_rollups() -> None:
    """Pack the combinations, hours and days that gathered since the last time: smaller, and two dimensions are read as fast as one."""
    from billing.ledger.packs import gathering, packing  # numpy's 20 MB only where something is packed

    now = datetime.now(UTC)
    combinations, values = packing.pack_due(now), gathering.pack_due(now)
    if combinations or values:
        log.info("packed %d days of combinations and %d of values", combinations, values)


@shared_task(name="billing.pack_left_over")
def pack_left_over() -> None:
    """Pack days and hours of long ago: what came late, and what was there before packs were. Then months that are over are merged."""
    from billing.ledger.packs import gathering, merging

    now = datetime.now(UTC)
    gathering.pack_left_over(now)
    merging.merge_due(now)


def drain_now(workspace_id: int | None = None, *, timeout_s: float = 30) -> writer.Drained:
    """Book all that is in the stream now (of one workspace's partition, or of all) before answering."""
    wanted = None if workspace_id is None else [partition_of(workspace_id)]
    return writer.drain_now(money_stream(), wanted, timeout_s=timeout_s)
