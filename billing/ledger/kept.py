"""A kept ledger line, unfolded: what its row, its caller and its patterns say together. And what many lines charged, by counter.

A line's caller and patterns are read with it (`Entry.objects`), or for many lines at once (`together`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from billing.domain.dimensions import Dimension
from billing.ledger import folding
from billing.ledger.lines import NAMED, tokens_of

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from billing.models import Entry, Pattern

OWN: Final = (Dimension.CUSTOMER, Dimension.USER, Dimension.SESSION)
"""Dimensions that stand in the line itself; the others in its caller."""
OF_CALLER: Final = tuple([name for name in NAMED if name not in OWN])
TOKENS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


def lookup(name: str) -> str:
    """How `Entry.objects.filter` names a dimension, or "tags__<key>"."""
    return name if name in OWN else f"caller__{name}"


def together(rows: QuerySet[Entry]) -> list[Entry]:
    """Many lines, with what they have in common read once for all of them: three statements."""
    from billing.models import Caller, Pattern  # models know this module

    entries = list(rows.select_related(None))
    callers = Caller.objects.in_bulk({entry.caller_id for entry in entries})
    numbers = {number for entry in entries for number in (entry.shape_id, entry.plan_id)}
    patterns = Pattern.objects.in_bulk(numbers - {None})
    for entry in entries:
        entry.caller = callers[entry.caller_id]
        entry.shape = None if entry.shape_id is None else patterns[entry.shape_id]
        entry.plan = None if entry.plan_id is None else patterns[entry.plan_id]
    return entries


def unfold_entry(entry: Entry) -> dict[str, Any]:
    """All that is folded into an entry, by the names of its attributes; "told" is what its answer said."""
    shape, plan, reader = folding.opened(bytes(entry.detail), _body(entry.shape), _body(entry.plan))
    dims = [getattr(entry, name) for name in NAMED]
    charges = folding.unfold_charges(plan, reader, cost_nano=entry.cost_nano, dims=dims, tags=entry.tags)
    found = folding.unfold(shape, reader.rest())
    usage: Mapping[str, int] = found["told"].get("usage", {})
    found["ended_at"] = entry.at + timedelta(milliseconds=found["later_ms"])
    found["counters"] = folding.with_usage(charges, usage)
    found["credential_id"] = UUID(found["credential_id"]) if found["credential_id"] else None
    found |= zip(TOKENS, tokens_of(usage) if entry.leg < 2 else (0, 0, 0, 0), strict=True)
    return found


def _body(pattern: Pattern | None) -> bytes | None:
    return None if pattern is None else bytes(pattern.body)


class Charged:
    """Adds up what lines of one workspace charged to their counters."""

    COLUMNS: Final = "cost_nano, caller_id, shape_id, plan_id, customer, end_user, session, detail"
    """What `add` needs of a line of `billing_entry`."""
    WHERE: Final = "(plan_id IS NOT NULL OR shape_id IS NULL)"
    """Other lines charged nothing."""

    def __init__(self, cursor: Any, workspace_id: int) -> None:
        self._cursor, self._workspace = cursor, workspace_id
        self._callers: dict[int, tuple[dict[str, str], dict[str, str]]] = {}
        self._patterns: dict[int, bytes] = {}
        self.sums: dict[str, int] = {}

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows of `COLUMNS`."""
        self._learn(rows)
        sums = self.sums
        for cost_nano, caller_id, shape_id, plan_id, customer, user, session, detail in rows:
            if plan_id is None and shape_id is not None:
                continue
            shape, plan, reader = folding.opened(
                bytes(detail), self._patterns.get(shape_id), self._patterns.get(plan_id)
            )
            values, tags = self._callers[caller_id]
            values |= {"customer": customer, "user": user, "session": session}
            dims = [values[name] for name in NAMED]
            charges = folding.unfold_charges(plan, reader, cost_nano=cost_nano, dims=dims, tags=tags)
            if any(amount is None for _, _, amount in charges):
                told = folding.unfold(shape, reader.rest())["told"]
                folding.with_usage(charges, told.get("usage", {}))
            for counter, _, amount in charges:
                sums[counter] = sums.get(counter, 0) + amount

    def _learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Read the callers and patterns that these lines have and earlier ones had not."""
        if len(self._callers) > 100_000:
            self._callers.clear()
        callers = {row[1] for row in rows} - self._callers.keys()
        patterns = {number for row in rows for number in row[2:4] if number is not None} - self._patterns.keys()
        if callers:
            self._cursor.execute(
                f"SELECT id, tags, {', '.join(OF_CALLER)} FROM billing_caller WHERE workspace_id = %s AND id = ANY(%s)",  # noqa: S608 - names of ours
                [self._workspace, sorted(callers)],
            )
            for number, tags, *values in self._cursor.fetchall():
                plain = msgspec.json.decode(tags) if isinstance(tags, str | bytes) else tags
                self._callers[number] = (dict(zip(OF_CALLER, values, strict=True)), plain)
        if patterns:
            self._cursor.execute(
                "SELECT id, body FROM billing_pattern WHERE workspace_id = %s AND id = ANY(%s)",
                [self._workspace, sorted(patterns)],
            )
            self._patterns |= {number: bytes(body) for number, body in self._cursor.fetchall()}
