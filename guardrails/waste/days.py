"""A day of the ledger looked at for waste. One of millions of calls is looked at in parts: each goes on where the one before ran out of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import transaction

from billing.domain.book import PriceBook
from billing.domain.dimensions import Dimension
from billing.ledger import queries as books
from billing.ledger import values as kept
from billing.ledger.queries import Days
from billing.models import RollupDay
from guardrails.domain.waste.sorter import LOOP_CALLS, WINDOW_MS, Sorter
from guardrails.domain.waste.tally import tally_of
from guardrails.domain.waste.values import Choice, Found, Promise, Saved
from guardrails.waste import reading
from guardrails.waste.models import Day, Saving
from workspaces.models import Workspace

HABIT_DAYS: Final = 14
LEAST_AT_ONCE: Final = 1_000
"""Calls that are looked at however late it is: every part gets on."""

Chooser = Callable[[str, str], tuple[Choice, ...]]


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a day was counted when time ran out."""

    since_ms: int
    """The first moment that was not."""
    tally: dict[str, Any]


def look_at_day(
    workspace: Workspace, day: date, book: PriceBook, choose: Chooser, promises: Sequence[Promise], *, stop: float, reached: Reached | None,
) -> Reached | None:  # fmt: skip
    """Count the day and keep its sums: None. Or where time (`stop`, of the monotonic clock) ran out: nothing is kept, go on from there."""
    found: list[Found] = []
    saved: dict[str, Saved] = {}
    if RollupDay.objects.filter(workspace_id=workspace.pk, dimension="", day=day).exists():
        first, end = books.moments(workspace, Days(day, day))
        since = first if reached is None else datetime.fromtimestamp(reached.since_ms / 1000, UTC)
        since_ms = int(first.timestamp() * 1000) if reached is None else reached.since_ms
        sorter = Sorter(
            book, choose, since_ms=since_ms, promises=promises, session_calls_an_hour=_session_limit(workspace, day),
            tally=tally_of(reached.tally) if reached else None,
        )  # fmt: skip
        begun, last_ms, began = sorter.tally.calls, since_ms - 1, time.monotonic()
        ready = began
        for call in reading.calls(workspace, reading.run_up(workspace, since, timedelta(milliseconds=WINDOW_MS)), end):
            if call.at_ms > last_ms:  # a moment is counted whole, or not at all: its calls have no other order
                now, counted = time.monotonic(), sorter.tally.calls - begun
                if not counted:
                    ready = now
                # As much time for counting as for the hour before it, which every part reads again.
                if counted >= LEAST_AT_ONCE and now > max(stop, 2 * ready - began):
                    return Reached(last_ms + 1, sorter.tally.plain())
                last_ms = call.at_ms
            sorter.take(call)
        found, saved = sorter.found(), sorter.tally.saved
    with transaction.atomic():
        Day.objects.filter(workspace_id=workspace.pk, day=day).delete()
        Day.objects.bulk_create(_row(workspace, day, one) for one in found)
        kept = Saving.objects.filter(workspace_id=workspace.pk, day=day)
        kept.filter(finding_id__in=[promise.finding for promise in promises]).delete()
        Saving.objects.bulk_create(
            Saving(
                workspace_id=workspace.pk, finding_id=finding, day=day, calls=one.calls, cost_nano=one.cost_nano,
                would_have_nano=one.would_have_nano,
            )
            for finding, one in saved.items()
        )  # fmt: skip
    return None


def _row(workspace: Workspace, day: date, one: Found) -> Day:
    return Day(
        workspace_id=workspace.pk, day=day, category=one.category.value, subject=one.subject.key, calls=one.calls, cost_nano=one.cost_nano,
        waste_nano=one.waste_nano, assumed_nano=one.assumed_nano, samples=list(one.samples), facts=dict(one.facts),
    )  # fmt: skip


def _session_limit(workspace: Workspace, day: date) -> int:
    """Calls an hour beyond which a session is a loop: far more than sessions of this workspace have in a whole day."""
    first, last = day - timedelta(days=HABIT_DAYS), day - timedelta(days=1)
    rows = kept.over_time(workspace.pk, kept.DAY, Dimension.SESSION, first, last, ("calls",))
    calls = sorted(calls for _, value, calls in rows if value)
    usual = calls[-(-99 * len(calls) // 100) - 1] if calls else 0
    return max(LOOP_CALLS, 2 * usual)
