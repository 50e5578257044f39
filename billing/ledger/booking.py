"""Booking a batch: lines into the ledger, and from the lines that were really new: totals, crossings, rollups.

Everything here happens in the transaction that also moves the stream offset. Booking the same event again changes nothing, and any
order of events ends in the same books (FAULTS F25, F26).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from billing.domain.events import Kind, StreamEvent, context_from_json, encode
from billing.ledger import common, crossings, doubts, folding, minutes, partitions, rollups, sequence, unknown_usage
from billing.ledger.copying import Staging, array, clean_once, optional
from billing.ledger.lines import (
    NAMED,
    Line,
    admission_of,
    caller_of,
    charges_json,
    fold,
    json_text,
    line_of,
    uuid_or_none,
)

log = logging.getLogger(__name__)

LEASE_MS: Final = 30_000
"""A hold's first lease (PROTOCOL.md, "Admit")."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An attempt as its hold event told it."""

    rid: UUID
    at_ms: int
    event: StreamEvent


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in bookable form."""

    lines: tuple[Line, ...]
    holds: tuple[Hold, ...]

    @classmethod
    def of(cls, events: Sequence[StreamEvent]) -> Batch:
        """Raises NotBookable for the first event that cannot be booked."""
        lines, holds = [], []
        for event in events:
            if event.kind is Kind.HOLD:
                holds.append(Hold(*admission_of(event), event))
            else:
                lines.append(line_of(event))
        return cls(tuple(lines), tuple(holds))


@dataclass(frozen=True, slots=True)
class Booked:
    lines: int
    """New lines."""
    crossings: int


def book(cursor: Any, batch: Batch) -> Booked:
    """Write a batch."""
    lines = _with_lost_contexts(cursor, batch.lines)
    zones = _zones(cursor, {line.workspace_id for line in lines})
    partitions.ensure(cursor, _months(lines, zones))
    new = _insert_lines(cursor, lines)
    crossed = crossings.add_to_totals(cursor, new)
    if new:
        sums = rollups.Sums()
        sums.add(new, zones)
        rollups.write(cursor, sums)
        minutes.write(cursor, new)
        _mark_keys_used(cursor, new)
        unknown_usage.record(cursor, new)
    _keep_open_attempts(cursor, batch.holds, lines)
    return Booked(len(new), crossed)


def mark_sequence(cursor: Any, seen: Mapping[int, Sequence[int]]) -> None:
    """Note the numbers seen per workspace. A number skipped is an alarm: an event was lost between Redis and the books."""
    if not seen:
        return
    workspaces = sorted(seen)
    cursor.execute(
        "SELECT workspace_id, seq, gaps FROM billing_sequence_mark WHERE workspace_id = ANY(%s) ORDER BY workspace_id FOR UPDATE",
        [workspaces],
    )
    marks = {workspace: (seq, gaps) for workspace, seq, gaps in cursor.fetchall()}
    rows = []
    for workspace in workspaces:
        before, raw_gaps = marks.get(workspace, (0, []))
        gaps = [(first, last) for first, last in _json_list(raw_gaps)]
        # Numbers that do not fit a bigint are no numbers of ours.
        after, missing = sequence.advance(before, gaps, [number for number in seen[workspace] if 0 < number < 2**62])
        for first, last in missing:
            if (first, last) not in gaps and first > before:
                log.error("workspace %d: events %d to %d are missing in the stream", workspace, first, last)
        rows.append((workspace, after, json_text(missing)))
    cursor.execute(
        "INSERT INTO billing_sequence_mark (workspace_id, seq, gaps) SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[]::jsonb[]) "
        "ON CONFLICT (workspace_id) DO UPDATE SET seq = excluded.seq, gaps = excluded.gaps",
        [[row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]],
    )


def _json_list(value: Any) -> list[Any]:
    """Django's connections hand jsonb out as text."""
    decoded: list[Any] = msgspec.json.decode(value) if isinstance(value, str | bytes) else value
    return decoded


def _with_lost_contexts(cursor: Any, lines: tuple[Line, ...]) -> list[Line]:
    """Lines without a context (Redis lost the hold record) get it from the open attempt, when the books still have that."""
    lost = [line.rid for line in lines if not line.context.call]
    if not lost:
        return list(lines)
    cursor.execute("SELECT rid, context FROM billing_open_attempt WHERE rid = ANY(%s)", [lost])
    found = {rid: context_from_json(context) for rid, context in cursor.fetchall() if context}
    return [line.in_context(found[line.rid]) if not line.context.call and line.rid in found else line for line in lines]


def _zones(cursor: Any, workspaces: set[int]) -> dict[int, str]:
    if not workspaces:
        return {}
    cursor.execute("SELECT id, time_zone FROM workspaces_workspace WHERE id = ANY(%s)", [sorted(workspaces)])
    return dict(cursor.fetchall())


def _months(lines: Sequence[Line], zones: Mapping[int, str]) -> set[tuple[str, str]]:
    months = set()
    for zone, at_ms in {(zones.get(line.workspace_id, "UTC"), line.at_ms) for line in lines}:
        buckets = rollups.buckets_at(zone, at_ms)
        months.add(("billing_entry", partitions.month_of(at_ms / 1000)))
        months.add(("billing_rollup_hour", partitions.month_of(buckets.hour)))
        months.add(("billing_rollup_detail", buckets.month))
    return months


# --- Lines ------------------------------------------------------------------------------------------------------------
def _insert_lines(cursor: Any, lines: Sequence[Line]) -> list[Line]:
    """Insert what is not there yet; answers exactly the lines that were new."""
    first: dict[tuple[int, UUID, int], Line] = {}
    for line in lines:
        first.setdefault((line.workspace_id, line.rid, line.leg), line)
    if not first:
        return []
    _LINES.fill(cursor, _rows(cursor, list(first.values())))
    cursor.execute(_INSERT_LINES)
    if cursor.rowcount == len(first):
        return list(first.values())
    new = set(cursor.fetchall())  # only after a redelivery: then some were there
    return [line for key, line in first.items() if key in new]


def _rows(cursor: Any, lines: Sequence[Line]) -> Iterator[list[str]]:
    folded = [fold(line) for line in lines]
    callers = common.callers(cursor, {(line.workspace_id, caller_of(line)) for line in lines})
    patterns = common.patterns(
        cursor,
        {
            (line.workspace_id, pattern)
            for line, parts in zip(lines, folded, strict=True)
            for pattern in (parts.shape, parts.plan)
            if pattern
        },
    )
    for line, parts in zip(lines, folded, strict=True):
        workspace, context, outcome = line.workspace_id, line.context, line.outcome
        if outcome and outcome.flags:
            doubts.tell(context.provider, outcome.flags)
        shape, plan = patterns.get((workspace, parts.shape)), patterns.get((workspace, parts.plan))
        if shape is None or (plan is None and parts.plan):
            shape = plan = None
            detail = folding.detail_with_patterns(parts.shape, parts.plan, parts.charged, parts.tail)
        else:
            detail = folding.detail(parts.charged, parts.tail)
        dims = line.dims
        yield [
            str(workspace), str(line.at_ms), str(line.cost_nano), str(line.hold_nano), f"{line.rid.int:032x}", _id(context.call),
            str(callers[workspace, caller_of(line)]), optional(shape), optional(plan), line.state, line.basis, line.price_status,
            str(line.leg), "t" if line.failed else "f", dims[_CUSTOMER], dims[_USER], dims[_SESSION], parts.unsure_tokens, detail.hex(),
        ]  # fmt: skip


def _id(text: str) -> str:
    """A UUID as a column takes it."""
    return text if _CANONICAL.fullmatch(text) else optional(uuid_or_none(text))


_CANONICAL: Final = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CUSTOMER, _USER, _SESSION = (NAMED.index(name) for name in ("customer", "user", "session"))
_LINE_COLUMNS: Final = (
    ("workspace_id", "bigint"), ("at_ms", "bigint"), ("cost_nano", "bigint"), ("hold_nano", "bigint"), ("rid", "uuid"), ("call_id", "uuid"),
    ("caller_id", "integer"), ("shape_id", "integer"), ("plan_id", "integer"), ("state", "public.billing_entry_state"),
    ("basis", "public.billing_entry_basis"), ("price_status", "public.billing_entry_price_status"), ("leg", "smallint"), ("failed", "boolean"),
    ("customer", "text"), ("end_user", "text"), ("session", "text"), ("unsure_tokens", "text"), ("detail", "text"),
)  # fmt: skip
_LINES: Final = Staging("ledger_lines", _LINE_COLUMNS)
_MADE_FROM: Final = {
    "at_ms": ("at", "to_timestamp(at_ms::double precision / 1000)"),
    "detail": ("detail", "decode(detail, 'hex')"),
}
_INTO: Final = ", ".join(_MADE_FROM.get(name, (name, name))[0] for name, _ in _LINE_COLUMNS)
_FROM: Final = ", ".join(_MADE_FROM.get(name, (name, name))[1] for name, _ in _LINE_COLUMNS)
_INSERT_LINES: Final = (
    f"INSERT INTO billing_entry ({_INTO}) SELECT {_FROM} FROM pg_temp.ledger_lines "  # noqa: S608 - made of literals
    "ON CONFLICT DO NOTHING RETURNING workspace_id, rid, leg"
)


# --- Open attempts and keys -------------------------------------------------------------------------------------------
def _keep_open_attempts(cursor: Any, holds: Sequence[Hold], lines: Sequence[Line]) -> None:
    """Holds whose end is not in the books yet are kept; ended ones go. A hold that arrives after its end is not kept."""
    ended = {line.rid for line in lines if line.leg == 0}
    if ended:
        cursor.execute(
            "DELETE FROM billing_open_attempt WHERE rid = ANY(%s::uuid[])", [array(f"{rid.int:032x}" for rid in ended)]
        )
    still = {hold.rid: hold for hold in holds if hold.rid not in ended}
    if not still:
        return
    _HOLDS.fill(cursor, [_hold_row(hold) for hold in still.values()])
    cursor.execute(_INSERT_HOLDS)


def _hold_row(hold: Hold) -> list[str]:
    event = hold.event
    context = encode(event.context).decode() if event.context else ""
    return [
        str(hold.rid), str(event.workspace_id), str(hold.at_ms), str(event.at_ms), str(event.at_ms + LEASE_MS), str(event.seq),
        str(event.held_nano), charges_json(event.charges), clean_once(context, len(context)),
    ]  # fmt: skip


_HOLDS: Final = Staging(
    "ledger_holds",
    [
        ("rid", "uuid"), ("workspace_id", "bigint"), ("at_ms", "bigint"), ("held_ms", "bigint"), ("deadline_ms", "bigint"),
        ("seq", "bigint"), ("hold_nano", "bigint"), ("counters", "jsonb"), ("context", "text"),
    ],
)  # fmt: skip
_INSERT_HOLDS: Final = """
INSERT INTO billing_open_attempt (rid, workspace_id, at, held_at, deadline, seq, hold_nano, counters, context)
SELECT rid, workspace_id, at, to_timestamp(held_ms::double precision / 1000), to_timestamp(deadline_ms::double precision / 1000),
    seq, hold_nano, counters, context
FROM (SELECT *, to_timestamp(at_ms::double precision / 1000) AS at FROM pg_temp.ledger_holds) AS held
WHERE NOT EXISTS (
    SELECT 1 FROM billing_entry AS e WHERE e.workspace_id = held.workspace_id AND e.at = held.at AND e.rid = held.rid AND e.leg = 0
)
ON CONFLICT (rid) DO NOTHING
"""


def _mark_keys_used(cursor: Any, lines: Sequence[Line]) -> None:
    """`last_used_at` of virtual keys, to half a minute. A key that an administrator is editing right now is left for the next batch."""
    used: dict[UUID, int] = {}
    for line in lines:
        key = uuid_or_none(line.context.key)
        if key is not None:
            used[key] = max(used.get(key, 0), line.at_ms)
    if not used:
        return
    cursor.execute(
        """
        UPDATE workspaces_virtualkey AS key SET last_used_at = used.at
        FROM (SELECT id, to_timestamp(at_ms::double precision / 1000) AS at FROM unnest(%s::uuid[], %s::bigint[]) AS u(id, at_ms)) AS used
        WHERE key.id = used.id AND (key.last_used_at IS NULL OR key.last_used_at < used.at - interval '30 seconds')
          AND key.id IN (SELECT id FROM workspaces_virtualkey WHERE id = ANY(%s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED)
        """,
        [[str(key) for key in used], list(used.values()), [str(key) for key in used]],
    )
