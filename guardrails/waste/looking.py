"""A look at a workspace: the days that are new or may have changed are read and summed, findings are made of the last thirty."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Greatest

from billing import overrides
from billing.domain.dimensions import Dimension
from billing.domain.usage import canonical
from billing.ledger import queries as books
from billing.ledger.queries import Days
from guardrails.domain.waste import cheaper, realised
from guardrails.domain.waste.values import Category, Choice, Promise, Subject
from guardrails.waste import days
from guardrails.waste.days import Reached
from guardrails.waste.levers import Lever
from guardrails.waste.models import Day, Finding, Look, Saving, State
from workspaces import tenancy
from workspaces.models import VirtualKey, Workspace

log = logging.getLogger(__name__)

WINDOW_DAYS: Final = 30
AGAIN_DAYS: Final = 2
"""Days before the last one looked at that are looked at again: corrections arrive late."""
LEAST_NANO: Final = 10_000_000
"""A cent in thirty days: below it nobody needs to hear of a finding."""
LEAST_ANSWERS: Final = 20
"""So many short answers are needed before a cheaper model is offered."""
IDLE_AFTER: Final = timedelta(days=30)
MOST_IDLE: Final = 200
MOST_FINDINGS: Final = 500
MOST_SAMPLES: Final = 10
MOST_NAMED: Final = 12
VERSION: Final = 1
"""Of what an unfinished look puts down; another one's is begun anew."""


def look_at(workspace: Workspace, now: datetime, *, seconds: float = 60.0) -> bool:
    """Bring a workspace's waste up to date. False when time ran out: it goes on from there."""
    stop = time.monotonic() + seconds
    with tenancy.entered(workspace):
        today = books.today(workspace, now)
        look, _ = Look.objects.get_or_create(workspace_id=workspace.pk)
        Look.objects.filter(pk=look.pk).update(tried_at=now)
        first, day, reached = _beginning(look, today)
        choose = _Chooser(workspace, now)
        promises = _promises(workspace)
        while day <= today:
            reached = days.look_at_day(workspace, day, choose.book, choose, promises, stop=stop, reached=reached)
            if reached is None:
                Look.objects.filter(pk=look.pk).update(through=Greatest(Coalesce("through", day), day))
                day += timedelta(days=1)
            if reached is not None or (time.monotonic() > stop and day <= today):
                # It did not fail: at once again, from here.
                Look.objects.filter(pk=look.pk).update(tried_at=None, unfinished=_put_down(first, day, reached))
                return False
        _measure(workspace, first, today)
        _make_findings(workspace, today, now)
        Look.objects.filter(pk=look.pk).update(looked_at=now, unfinished=None)
    return True


def _beginning(look: Look, today: date) -> tuple[date, date, Reached | None]:
    """(the first day of this look, the day it goes on with, how far that one was counted)."""
    oldest = today - timedelta(days=WINDOW_DAYS - 1)
    kept = look.unfinished
    if kept is not None and kept["version"] == VERSION and oldest <= date.fromisoformat(kept["day"]) <= today:
        reached = Reached(kept["since_ms"], kept["tally"]) if kept["tally"] is not None else None
        return max(oldest, date.fromisoformat(kept["first"])), date.fromisoformat(kept["day"]), reached
    first = oldest
    if look.through is not None:
        first = max(oldest, min(look.through, today) - timedelta(days=AGAIN_DAYS))
    return first, first, None


def _put_down(first: date, day: date, reached: Reached | None) -> dict[str, Any]:
    part = {"since_ms": reached.since_ms, "tally": reached.tally} if reached else {"since_ms": None, "tally": None}
    return {"version": VERSION, "first": first.isoformat(), "day": day.isoformat(), **part}


class _Chooser:
    """The cheaper models that a workspace allows in another one's place, as of now."""

    def __init__(self, workspace: Workspace, now: datetime) -> None:
        self.book = overrides.book_of(workspace)
        self._at_s = int(now.timestamp())
        today = books.today(workspace, now)
        recent = Days(today - timedelta(days=WINDOW_DAYS - 1), today)
        rows = books.grouped(workspace, recent, [Dimension.PROVIDER, Dimension.MODEL])
        self._used: dict[str, set[str]] = {}
        for row in rows:
            if row.totals.calls > row.totals.errors:
                self._used.setdefault(row.values[0], set()).add(row.values[1])
        alive = VirtualKey.objects.filter(workspace=workspace, revoked_at=None).exclude(allowed_models=[])
        self._pinned = [
            frozenset(one) for one in alive.filter(Q(expires_at=None) | Q(expires_at__gt=now)).values_list("allowed_models", flat=True)
        ]  # fmt: skip

    def __call__(self, provider: str, model: str) -> tuple[Choice, ...]:
        used = self._used.get(provider, set())
        every = used | set(cheaper.smaller(model))
        barred = {name for name in every if any(self._bars(allowed, provider, model, name) for allowed in self._pinned)}
        return cheaper.choices(self.book, canonical(provider), model, at_s=self._at_s, used=used, barred=barred)

    @staticmethod
    def _bars(allowed: frozenset[str], provider: str, model: str, other: str) -> bool:
        """A key that may ask the model and not the other one."""
        asks = not allowed.isdisjoint((model, f"{provider}/{model}"))
        return asks and allowed.isdisjoint((other, f"{provider}/{other}"))


# --- What levers saved ------------------------------------------------------------------------------------------------
def _promises(workspace: Workspace) -> list[Promise]:
    """The cheaper models that were put in place: what they save is counted call by call."""
    rows = Finding.objects.filter(workspace_id=workspace.pk, state=State.PULLED, lever=Lever.CHEAPER_MODEL)
    return [
        Promise(str(row.pk), row.about.provider, row.about.model, row.about.feature, int(row.decided_at.timestamp() * 1000))
        for row in rows
        if row.decided_at is not None
    ]  # fmt: skip


def _measure(workspace: Workspace, first: date, today: date) -> None:
    """The other levers: whole days after the lever, against the days before it, by the number of calls."""
    rows = Finding.objects.filter(workspace_id=workspace.pk, state=State.PULLED, before_waste_nano__gt=0)
    for row in rows.exclude(lever=Lever.CHEAPER_MODEL):
        if row.decided_at is None:
            continue
        began = books.today(workspace, row.decided_at) + timedelta(days=1)
        before = realised.Before(row.before_calls, row.before_waste_nano)
        day = max(began, first)
        while day < today:
            calls = books.totals(workspace, Days(day, day), place_of(row)).calls
            wasted = Day.objects.filter(
                workspace_id=workspace.pk, day=day, category=row.category, subject=row.subject
            ).values_list("waste_nano", flat=True)
            Saving.objects.update_or_create(
                workspace_id=workspace.pk, finding=row, day=day,
                defaults={
                    "calls": calls, "cost_nano": wasted.first() or 0, "would_have_nano": realised.expected_nano(before, calls),
                },
            )  # fmt: skip
            day += timedelta(days=1)


def place_of(row: Finding) -> dict[str, str]:
    """The filters of the books that select a finding's place, with its empty values: calls without a feature are a place, too."""
    names = ("feature", "agent") if row.category == Category.LOOPS else ("feature", "provider", "model")
    return {name: getattr(row.about, name) for name in names}


# --- Findings ---------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Month:
    calls: int = 0
    cost_nano: int = 0
    waste_nano: int = 0
    assumed_nano: int = 0
    first: date = date.max
    last: date = date.min
    samples: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, row: Day) -> None:
        self.calls += row.calls
        self.cost_nano += row.cost_nano
        self.waste_nano += row.waste_nano
        self.assumed_nano += row.assumed_nano
        self.first, self.last = min(self.first, row.day), max(self.last, row.day)
        self.samples = [*row.samples, *self.samples][:MOST_SAMPLES]
        self.facts = _merged(self.facts, row.facts) if self.facts else dict(row.facts)

    def settle(self, category: str) -> None:
        """A cheaper model is one offer for all days: the newest one, on the days' sums, where every day was asked about it."""
        proposed = self.facts.get("proposed")
        if category == Category.OVERKILL and proposed in self.facts["options"]:
            self.waste_nano = min(max(0, self.cost_nano - self.facts["options"][proposed]), self.cost_nano)

    def matters(self, category: str) -> bool:
        if category == Category.OVERKILL and self.calls < LEAST_ANSWERS:
            return False
        return self.waste_nano >= LEAST_NANO or bool(self.facts.get("storms"))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Counts are added, options only where both days have them, the rest is the newer day's."""
    merged = dict(new)
    for name, value in new.items():
        before = old.get(name)
        if name == "allowed_an_hour" or isinstance(value, bool) or before is None:
            continue
        if isinstance(value, int):
            merged[name] = before + value
        elif isinstance(value, dict) and name == "options":
            merged[name] = {model: before[model] + cost for model, cost in value.items() if model in before}
        elif isinstance(value, dict):
            sums = {key: before.get(key, 0) + value.get(key, 0) for key in before.keys() | value.keys()}
            merged[name] = dict(sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_NAMED])
    return merged


def _make_findings(workspace: Workspace, today: date, now: datetime) -> None:
    found: dict[tuple[str, str], _Month] = {}
    sums = Day.objects.filter(workspace_id=workspace.pk, day__gt=today - timedelta(days=WINDOW_DAYS), day__lte=today)
    for row in sums.order_by("day", "id").iterator(chunk_size=2_000):
        found.setdefault((row.category, row.subject), _Month()).add(row)
    for (category, _subject), month in found.items():
        month.settle(category)
    found = {name: month for name, month in found.items() if month.matters(name[0])}
    found = dict(sorted(found.items(), key=lambda pair: -pair[1].waste_nano)[:MOST_FINDINGS])
    found |= _idle_keys(workspace, today, now)
    with transaction.atomic():
        for (category, subject), month in found.items():
            _keep(workspace, category, subject, month, now)
        gone = Finding.objects.filter(workspace_id=workspace.pk, looked_at__lt=now)
        gone.filter(state=State.OPEN).update(state=State.GONE, looked_at=now)
        gone.filter(state=State.PULLED).update(waste_nano=0, cost_nano=0, calls=0, assumed_nano=0, looked_at=now)


def _keep(workspace: Workspace, category: str, subject: str, month: _Month, now: datetime) -> None:
    values = {
        "calls": month.calls, "cost_nano": month.cost_nano, "waste_nano": month.waste_nano, "assumed_nano": month.assumed_nano,
        "first_day": month.first, "last_day": month.last, "samples": month.samples, "facts": month.facts, "looked_at": now,
    }  # fmt: skip
    row, made = Finding.objects.get_or_create(
        workspace_id=workspace.pk, category=category, subject=subject, defaults={**values, "found_at": now}
    )
    if not made:
        Finding.objects.filter(pk=row.pk).update(**values)
        Finding.objects.filter(pk=row.pk, state=State.GONE).update(state=State.OPEN, found_at=now)


def _idle_keys(workspace: Workspace, today: date, now: datetime) -> dict[tuple[str, str], _Month]:
    since = now - IDLE_AFTER
    rows = VirtualKey.objects.filter(workspace=workspace, revoked_at=None, created_at__lt=since)
    rows = rows.filter(Q(expires_at=None) | Q(expires_at__gt=now)).filter(
        Q(last_used_at=None) | Q(last_used_at__lt=since)
    )
    found = {}
    for key in rows.order_by(F("last_used_at").asc(nulls_first=True), "id")[:MOST_IDLE]:
        used = key.last_used_at
        found[Category.IDLE_KEYS.value, Subject(virtual_key=str(key.pk)).key] = _Month(
            first=(used or key.created_at).astimezone(UTC).date(), last=today,
            facts={"name": key.name, "last_used_at": used.isoformat() if used else None, "made_at": key.created_at.isoformat()},
        )  # fmt: skip
    return found


def due(now: datetime, limit: int) -> Iterable[int]:
    """Workspaces to look at: those somebody asked for, then those that spent since their last look, at most once a day. No schema is walked."""
    with tenancy.every_workspace("workspaces with new calls are looked at for waste"), connection.cursor() as cursor:
        given: dict[str, Any] = {
            "since": now - timedelta(hours=23),
            "retry": now - timedelta(minutes=10),
            "first": (now - timedelta(days=WINDOW_DAYS)).date(),
            "limit": limit,
        }
        cursor.execute(_DUE, given)
        return [row[0] for row in cursor.fetchall()]


_DUE: Final = """
SELECT w.id FROM workspaces_workspace w LEFT JOIN waste_look l ON l.workspace_id = w.id
WHERE w.state <> 'deleting' AND (
    (l.asked_at IS NOT NULL AND (l.looked_at IS NULL OR l.looked_at < l.asked_at))
    OR ((l.looked_at IS NULL OR l.looked_at < %(since)s)
        AND EXISTS (SELECT 1 FROM billing_rollup_day r WHERE r.workspace_id = w.id AND r.dimension = ''
                    AND r.day >= coalesce(l.through, %(first)s)))
) AND (l.tried_at IS NULL OR l.tried_at < %(retry)s OR l.asked_at > l.tried_at)
ORDER BY l.asked_at IS NULL OR l.asked_at < l.looked_at, l.tried_at NULLS FIRST LIMIT %(limit)s
"""
