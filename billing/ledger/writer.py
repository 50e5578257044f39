"""The ledger writer: drains a partition's stream into PostgreSQL (PROTOCOL.md, "The ledger").

One writer a partition (advisory lock). The offset commits with the rows, so a kill at any moment replays or does nothing. The last
committed entry stays in the stream and is read again first: when it is gone, or is another one, Redis has lost or replaced the
stream, and all that is in it is read from the beginning, which duplicates nothing.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction

from billing.domain.events import Kind, StreamEvent
from billing.domain.keys import PARTITIONS, partition_of
from billing.ledger import dead_letters
from billing.ledger.booking import Batch, Booked, book, mark_sequence
from billing.ledger.lines import NotBookable
from billing.ledger.stream import MoneyStream, RawEntry
from workspaces import tenancy

log = logging.getLogger(__name__)

BATCH: Final = 4000
"""Events in one transaction, where so many wait: what calls share (an hour, a customer, a key) is then written once for all of them."""
ADVISORY_CLASS: Final = 0x51_0C_E0
"""First key of the advisory locks; the second is the partition."""
REASON: Final = "the ledger writer books the calls of all workspaces of a partition in one batch"
KEPT: Final = timedelta(hours=1)
KEPT_WHEN_LONG: Final = timedelta(minutes=5)
LONG: Final = 50_000
"""Entries in a stream above which committed ones are kept for minutes only: Redis' memory is for the gate."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What one transaction did."""

    read: int = 0
    booked: int = 0
    crossings: int = 0
    buried: int = 0
    """Events set aside to be tried again."""
    busy: bool = False
    """Another writer has the partition."""

    def __add__(self, other: Drained) -> Drained:
        return Drained(
            self.read + other.read,
            self.booked + other.booked,
            self.crossings + other.crossings,
            self.buried + other.buried,
            self.busy or other.busy,
        )


@dataclass(frozen=True, slots=True)
class Offset:
    last_id: str
    last_seal: bytes


def drain_once(stream: MoneyStream, partition: int, *, batch: int = BATCH) -> Drained:
    """Book the next batch of a partition in one transaction; nothing when another writer is at it."""
    with _no_collections(), tenancy.every_workspace(REASON), connection.cursor() as cursor:
        if not locked(cursor, partition):
            return Drained(busy=True)
        offset = _offset(cursor, partition)
        entries, lost = _unread(stream, partition, offset, batch)
        if entries or lost:
            done = _book_entries(cursor, partition, entries)
            crash_point("before_commit")
            _move_offset(cursor, partition, entries, lost=lost)
        else:
            done = Drained()
            cursor.execute(
                "UPDATE billing_stream_offset SET drained_at = clock_timestamp() "
                "WHERE partition = %s AND (drained_at IS NULL OR drained_at < clock_timestamp() - interval '5 seconds')",
                [partition],
            )
    crash_point("after_commit")
    return done


@contextmanager
def _no_collections() -> Iterator[None]:
    """A batch makes a hundred thousand objects and no cycles: to look for those took an eighth of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def drain(stream: MoneyStream, partition: int, *, batch: int = BATCH, most_batches: int = 10_000) -> Drained:
    """Book all that a partition has."""
    done = Drained()
    for _ in range(most_batches):
        step = drain_once(stream, partition, batch=batch)
        done += step
        if step.busy or step.read < batch:
            break
    return done


def retry_dead_letters(partition: int, now: datetime) -> int:
    """Try the due dead letters of a partition again; answers how many were booked after all."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        if not locked(cursor, partition):
            return 0
        saved = 0
        for letter in dead_letters.due(cursor, partition, now):
            try:
                event = _decode(partition, letter.entry)
                with transaction.atomic():
                    book(cursor, Batch.of([event]))
            except _POISON as error:
                dead_letters.note_failure(cursor, letter, error, now)
            else:
                dead_letters.resolve(cursor, letter)
                saved += 1
        return saved


@dataclass(frozen=True, slots=True)
class Survey:
    """Where streams and books stand, by partition."""

    newest: list[str]
    committed: list[str]

    @property
    def behind(self) -> list[int]:
        """Partitions whose newest entry is not the last committed one."""
        pairs = zip(self.newest, self.committed, strict=True)
        return [partition for partition, (newest, committed) in enumerate(pairs) if newest != committed]


def survey(stream: MoneyStream) -> Survey:
    """Cheap: one round trip to each store."""
    newest = stream.newest_ids()
    with connection.cursor() as cursor:
        cursor.execute("SELECT partition, last_id FROM billing_stream_offset")
        committed = dict(cursor.fetchall())
    return Survey(newest, [committed.get(partition, "") for partition in range(PARTITIONS)])


class StillBehind(Exception):
    """The books did not catch up in time; another writer may be stuck."""


def drain_now(stream: MoneyStream, partitions: Iterable[int] | None = None, *, timeout_s: float = 30) -> Drained:
    """Book all that was in the streams when called, or wait for the writer that is at it. For rebuilds, reconciliation and tests.

    Raises StillBehind when that takes longer than `timeout_s`.
    """
    wanted = set(range(PARTITIONS) if partitions is None else partitions)
    until = time.monotonic() + timeout_s
    target = survey(stream).newest
    done = Drained()
    while left := [partition for partition in survey(stream).behind if partition in wanted]:
        for partition in left:
            done += drain(stream, partition)
        committed = survey(stream).committed
        wanted = {p for p in left if target[p] and _id_key(committed[p] or "0-0") < _id_key(target[p])}
        if wanted and time.monotonic() > until:
            raise StillBehind(f"partitions {sorted(wanted)} are still behind")
        if wanted:
            time.sleep(0.02)
    return done


def partitions_with_due_letters(now: datetime) -> list[int]:
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT partition FROM billing_dead_letter WHERE next_at <= %s", [now])
        return [row[0] for row in cursor.fetchall()]


def trim(stream: MoneyStream, now: datetime) -> int:
    """Drop entries that are committed and an hour old; the last committed one always stays. Answers how many went."""
    lengths = stream.lengths()
    with connection.cursor() as cursor:
        cursor.execute("SELECT partition, last_id FROM billing_stream_offset WHERE last_id <> ''")
        committed = dict(cursor.fetchall())
    oldest = {}
    for partition, last_id in committed.items():
        kept = KEPT_WHEN_LONG if lengths[partition] > LONG else KEPT
        floor = f"{int((now - kept).timestamp() * 1000)}-0"
        oldest[partition] = min(floor, last_id, key=_id_key)
    return stream.trim(oldest) if oldest else 0


def crash_point(name: str) -> None:
    """The fault tests end the process here (mode test only)."""
    if name == settings.CRASH_AT:
        os._exit(137)


# --- One batch --------------------------------------------------------------------------------------------------------
_POISON: Final = (ValueError, TypeError, OverflowError, DataError, IntegrityError)
"""What a bad event raises. Anything else is the servers' trouble: the transaction fails and the batch is read again."""


def _book_entries(cursor: Any, partition: int, entries: Sequence[RawEntry]) -> Drained:
    now = datetime.now(UTC)
    buried = 0
    booked = _book_at_once(cursor, partition, entries)
    if booked is None:
        booked, buried = _book_one_by_one(cursor, partition, entries, now)
    seen: dict[int, list[int]] = {}
    for entry in entries:
        for workspace_id, seq in dead_letters.numbers_of(entry):
            if partition_of(workspace_id) == partition:
                seen.setdefault(workspace_id, []).append(seq)
    mark_sequence(cursor, seen)
    return Drained(len(entries), booked.lines, booked.crossings, buried)


def _book_at_once(cursor: Any, partition: int, entries: Sequence[RawEntry]) -> Booked | None:
    """Book a batch in which all is well, as nearly all are; None for one with an event that cannot be booked.

    A hold whose end is in the batch is not even decoded: nothing of it would be kept.
    """
    ended = {entry.fields.get(b"r") for entry in entries if entry.fields.get(b"k") in _ENDS}
    try:
        batch = Batch.of(
            [
                _decode(partition, entry)
                for entry in entries
                if entry.fields.get(b"k") != _HOLD or entry.fields.get(b"r") not in ended
            ]
        )
        with transaction.atomic():
            return book(cursor, batch)
    except _POISON:
        return None


def _book_one_by_one(cursor: Any, partition: int, entries: Sequence[RawEntry], now: datetime) -> tuple[Booked, int]:
    """Book what can be booked, bury the rest."""
    events: list[tuple[RawEntry, StreamEvent]] = []
    buried = 0
    for entry in entries:
        try:
            events.append((entry, _decode(partition, entry)))
        except _POISON as error:
            dead_letters.bury(cursor, partition, entry, error, now)
            buried += 1
    booked, more = _book_surely(cursor, partition, events, now)
    return booked, buried + more


_HOLD: Final = Kind.HOLD.value.encode()
_ENDS: Final = frozenset(kind.value.encode() for kind in (Kind.SETTLE, Kind.VOID, Kind.EXPIRE))


def _book_surely(
    cursor: Any, partition: int, events: Sequence[tuple[RawEntry, StreamEvent]], now: datetime
) -> tuple[Booked, int]:
    """Book a batch; where the database refuses it, halve it until the culprits are found and buried, the others booked."""
    if not events:
        return Booked(0, 0), 0
    try:
        batch = Batch.of([event for _, event in events])
        with transaction.atomic():
            return book(cursor, batch), 0
    except _POISON as error:
        if len(events) == 1:
            dead_letters.bury(cursor, partition, events[0][0], error, now)
            return Booked(0, 0), 1
    middle = len(events) // 2
    first, buried = _book_surely(cursor, partition, events[:middle], now)
    second, more = _book_surely(cursor, partition, events[middle:], now)
    return Booked(first.lines + second.lines, first.crossings + second.crossings), buried + more


def _decode(partition: int, entry: RawEntry) -> StreamEvent:
    event = StreamEvent.decode(entry.id, entry.named())
    if partition_of(event.workspace_id) != partition:
        raise NotBookable(f"workspace {event.workspace_id} does not belong to partition {partition}")
    return event


# --- The offset -------------------------------------------------------------------------------------------------------
def locked(cursor: Any, partition: int) -> bool:
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [ADVISORY_CLASS, partition])
    return bool(cursor.fetchone()[0])


def _offset(cursor: Any, partition: int) -> Offset:
    cursor.execute("SELECT last_id, last_seal FROM billing_stream_offset WHERE partition = %s FOR UPDATE", [partition])
    row = cursor.fetchone()
    if row is None:
        cursor.execute(
            "INSERT INTO billing_stream_offset (partition, last_id, last_seal, resets) VALUES (%s, '', '', 0)",
            [partition],
        )
        return Offset("", b"")
    return Offset(row[0], bytes(row[1]))


def _unread(stream: MoneyStream, partition: int, offset: Offset, batch: int) -> tuple[list[RawEntry], bool]:
    """The entries after the offset, and whether the stream was found lost or replaced (then: from its beginning)."""
    if not offset.last_id:
        return stream.read_from(partition, "", batch), False
    entries = stream.read_from(partition, offset.last_id, batch + 1)
    if entries and entries[0].id == offset.last_id and entries[0].seal() == offset.last_seal:
        return entries[1:], False
    log.error(
        "partition %d: the last committed event %s is gone from the stream; reading what is there from the beginning",
        partition,
        offset.last_id,
    )
    return stream.read_from(partition, "", batch), True


def _move_offset(cursor: Any, partition: int, entries: Sequence[RawEntry], *, lost: bool) -> None:
    last_id, last_seal = (entries[-1].id, entries[-1].seal()) if entries else ("", b"")
    cursor.execute(
        "UPDATE billing_stream_offset SET last_id = %s, last_seal = %s, resets = resets + %s WHERE partition = %s",
        [last_id, last_seal, int(lost), partition],
    )


def _id_key(id_: str) -> tuple[int, int]:
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number or 0)
