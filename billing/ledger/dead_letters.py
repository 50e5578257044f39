"""Events that could not be booked: set aside so that the others go on, tried five times, then quarantined for a person."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from billing.ledger.lines import json_text
from billing.ledger.stream import RawEntry

log = logging.getLogger(__name__)

TRIES: Final = 5
WAITS: Final = (timedelta(seconds=1), timedelta(seconds=4), timedelta(seconds=15), timedelta(seconds=60))
AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Letter:
    id: int
    tries: int
    entry: RawEntry


def bury(cursor: Any, partition: int, entry: RawEntry, error: Exception, now: datetime) -> None:
    """Set an entry aside after its first try. The same entry again changes nothing."""
    log.error("partition %d: event %s cannot be booked: %s", partition, entry.id, _said(error))
    workspace_id = next((workspace for workspace, _ in numbers_of(entry)), None)
    cursor.execute(
        "INSERT INTO billing_dead_letter (workspace_id, partition, stream_id, seal, fields, error, tries, first_at, next_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, 1, %s, %s) ON CONFLICT DO NOTHING",
        [workspace_id, partition, entry.id, entry.seal(), _as_json(entry), _said(error), now, now + WAITS[0]],
    )


def due(cursor: Any, partition: int, now: datetime) -> list[Letter]:
    cursor.execute(
        "SELECT id, tries, stream_id, fields FROM billing_dead_letter WHERE partition = %s AND next_at <= %s ORDER BY id LIMIT %s FOR UPDATE",
        [partition, now, AT_ONCE],
    )
    return [Letter(id_, tries, _entry(stream_id, fields)) for id_, tries, stream_id, fields in cursor.fetchall()]


def note_failure(cursor: Any, letter: Letter, error: Exception, now: datetime) -> None:
    tries = letter.tries + 1
    next_at = now + WAITS[tries - 1] if tries < TRIES else None
    if next_at is None:
        log.error("event %s is quarantined after %d tries: %s", letter.entry.id, tries, _said(error))
    cursor.execute(
        "UPDATE billing_dead_letter SET tries = %s, next_at = %s, error = %s WHERE id = %s",
        [tries, next_at, _said(error), letter.id],
    )


def resolve(cursor: Any, letter: Letter) -> None:
    log.warning("event %s was booked after %d tries", letter.entry.id, letter.tries + 1)
    cursor.execute("DELETE FROM billing_dead_letter WHERE id = %s", [letter.id])


def numbers_of(entry: RawEntry) -> Iterator[tuple[int, int]]:
    """(workspace id, seq) of an entry, where they can be read: even an event that cannot be booked was not lost on the way."""
    try:
        workspace_id, seq = int(entry.fields[b"w"]), int(entry.fields[b"q"])
    except (KeyError, ValueError):
        return
    if 0 < workspace_id < 2**63:
        yield workspace_id, seq


def _said(error: Exception) -> str:
    """The error in one line, without the values of other columns that PostgreSQL likes to print."""
    return str(error).split("\n", 1)[0].replace("\x00", "\ufffd")[:500] or type(error).__name__


def _as_json(entry: RawEntry) -> str:
    # jsonb has no NUL: a byte 0 travels as U+0100, which Latin-1 does not have.
    return json_text({_latin(name): _latin(value) for name, value in entry.fields.items()})


def _latin(raw: bytes) -> str:
    return raw.decode("latin-1").replace("\x00", "\u0100")


def _entry(stream_id: str, fields: Any) -> RawEntry:
    plain: dict[str, str] = msgspec.json.decode(fields) if isinstance(fields, str | bytes) else fields
    return RawEntry(stream_id, {_bytes(name): _bytes(value) for name, value in plain.items()})


def _bytes(latin: str) -> bytes:
    return latin.replace("\u0100", "\x00").encode("latin-1")
