"""What has no price, or not all of one: for people to see and be alarmed by, with the most that its tokens can have cost.

The charge of such a call is what was held for it, which is nothing where nobody knew a price. So a bound is made here: its tokens at the
dearest rate that the list has for the provider (for a provider without a list: at all). `manage.py rerate` books the truth when a price arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from django.db import connection

from billing import overrides
from billing.domain.money import ceil_nano
from billing.domain.pricing import PriceBook
from billing.domain.rates import PER_MILLION
from billing.ledger import queries
from billing.ledger.queries import Days
from billing.models import Entry
from workspaces.models import Workspace

MOST: Final = 100
_KINDS: Final = (
    ("input_tokens", ("input_", "tool_input")),
    ("cache_read_tokens", ("cache_read", "input_")),
    ("cache_write_tokens", ("cache_write", "input_")),
    ("output_tokens", ("output_",)),
)
"""A column of tokens, and how the units begin that its tokens can be billed as."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """The calls of one model in a range of days whose price is not known, or not wholly."""

    provider: str
    model: str
    status: str
    """unpriced or partial"""
    calls: int
    """Attempts that were sent."""
    tokens: int
    charged_nano: int
    """What the books say: what was held, or the part that is known."""
    at_most_nano: int | None
    """Their tokens at the dearest rates listed, or what was charged if that is more. None where there are no tokens to tell by: fees,
    pictures, pages and time are in no bound."""
    first_at: datetime
    last_at: datetime
    why: tuple[str, ...]
    """Flags of the newest of them: "model_not_priced:...", "tier_not_priced:...", "unread:...", ..."""


def unsure(workspace: Workspace, days: Days, *, limit: int = MOST) -> list[Unsure]:
    """Models with calls that have no price, or not all of one; unpriced first, most calls first. Inside the workspace. Nothing there: no alarm."""
    first, end = queries.moments(workspace, days)
    with connection.cursor() as cursor:
        cursor.execute(_UNSURE, [workspace.pk, first, end, limit])
        rows = cursor.fetchall()
    if not rows:
        return []
    book, now = overrides.book_of(workspace), datetime.now(UTC)
    flags = _flags(workspace, [row[6:9] for row in rows])
    return [_made(row, flags.get(row[7], ()), book, now) for row in rows]


def _made(row: tuple[Any, ...], flags: tuple[str, ...], book: PriceBook, now: datetime) -> Unsure:
    provider, model, status, calls, charged, first_at, last_at, _, _, *counts = row
    tokens = sum(int(count) for count in counts)
    bound = _bound(book, provider, [int(count) for count in counts], now) if tokens else None
    return Unsure(
        provider=provider,
        model=model,
        status=status,
        calls=calls,
        tokens=tokens,
        charged_nano=int(charged),
        at_most_nano=None if bound is None else max(bound, int(charged)),
        first_at=first_at,
        last_at=last_at,
        why=flags,
    )


def _bound(book: PriceBook, provider: str, counts: list[int], now: datetime) -> int:
    dearest = book.dearest(provider, int(now.timestamp()))
    usd = Fraction(0)
    for count, (_, beginnings) in zip(counts, _KINDS, strict=True):
        rates = [rate for unit, rate in dearest.items() if unit.startswith(beginnings)]
        usd += count * max(rates, default=Fraction(0)) / PER_MILLION
    return ceil_nano(usd)


def _flags(workspace: Workspace, newest: list[tuple[datetime, UUID, int]]) -> dict[UUID, tuple[str, ...]]:
    """Of these lines (at, rid, leg): rid -> flags."""
    lines = Entry.objects.filter(
        workspace_id=workspace.pk, at__in=[at for at, _, _ in newest], rid__in=[rid for _, rid, _ in newest]
    )
    wanted = {(rid, leg) for _, rid, leg in newest}
    return {line.rid: tuple(line.flags) for line in lines if (line.rid, line.leg) in wanted}


# The last line of an attempt says how sure its price is; its answer's tokens stand in it once more where the price is not known.
_UNSURE: Final = f"""
SELECT c.provider, c.model, e.price_status, count(*), sum(whole.cost_nano)::bigint, min(e.at), max(e.at),
    (array_agg(e.rid ORDER BY e.at DESC))[1], (array_agg(e.leg ORDER BY e.at DESC))[1],
    {", ".join(f"coalesce(sum(nullif(split_part(e.unsure_tokens, ',', {place}), '')::bigint), 0)::bigint" for place in range(1, len(_KINDS) + 1))}
FROM billing_entry e
JOIN billing_caller c ON c.id = e.caller_id
CROSS JOIN LATERAL (
    SELECT sum(cost_nano) AS cost_nano, max(leg) AS leg
    FROM billing_entry line WHERE line.rid = e.rid AND line.at = e.at AND line.workspace_id = e.workspace_id
) AS whole
WHERE e.workspace_id = %s AND e.at >= %s AND e.at < %s AND e.price_status IN ('unpriced', 'partial')
    AND e.state <> 'void' AND e.leg = whole.leg
GROUP BY 1, 2, 3 ORDER BY e.price_status DESC, 4 DESC, 1, 2 LIMIT %s
"""  # noqa: S608 - made of literals
