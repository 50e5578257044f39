"""Re-rating a workspace's history: what a price that arrived or changed makes of past calls, booked as corrections (leg 2 and above).

Entries are never edited. A correction takes the way of every other money: the money Redis moves the counters and writes the event in one
step, the ledger's writer books it. So rollups, budget totals and counters stay equal, and a run that was cut off is simply run again:
before it reads the books it books what the stream has, and Redis writes each leg of an attempt once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing import overrides
from billing.actions import OLDEST
from billing.domain import keys
from billing.domain import rerating as rules
from billing.domain.dimensions import OTHER
from billing.domain.events import Basis, CallContext, Outcome, PriceStatus
from billing.domain.events import encode as encode_event
from billing.domain.pricing import PriceBook
from billing.domain.rerating import Charged, Corrected, Left
from billing.ledger.kept import together
from billing.ledger.lines import MOST_LEGS, NAMED
from billing.ledger.stream import money_stream
from billing.ledger.writer import drain_now
from billing.models import Entry, EntryState, Leg
from guardrails import recovery
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.rerating import BATCH, Answer, Rerating
from guardrails.limiter.rerating import rerate as write
from guardrails.policy import budget_rules
from workspaces import audit, tenancy
from workspaces.audit import SYSTEM, Actor
from workspaces.models import Workspace

log = logging.getLogger(__name__)

ADVISORY_CLASS = 0x51_0C_E2
"""First key of the advisory locks (writer and rebuilds have the two before); the second is the workspace."""
PAGE = 500


class NotNow(Exception):
    """Somebody else is re-rating this workspace, or it is being rebuilt. Run it again."""


@dataclass(slots=True)
class Report:
    """What a run found and wrote."""

    workspace: str
    dry_run: bool
    seen: int = 0
    corrected: list[tuple[Charged, Corrected]] = field(default_factory=list, repr=False)
    left: Counter[str] = field(default_factory=Counter)
    """Reason -> attempts that stay as they are"""

    @property
    def delta_nano(self) -> int:
        return sum(corrected.cost_nano - attempt.cost_nano for attempt, corrected in self.corrected)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The lines of one attempt: its charge, the one that its answer told, and the last."""

    lines: tuple[Entry, ...]

    @property
    def charge(self) -> Entry:
        return self.lines[0]

    @property
    def told(self) -> Entry:
        return next((line for line in self.lines if line.leg == Leg.CORRECTION), self.charge)

    @property
    def last(self) -> Entry:
        return self.lines[-1]

    def charged(self) -> Charged:
        told = self.told.unpacked()
        charge, last = self.charge, self.last
        return Charged(
            provider=charge.provider,
            endpoint=charge.endpoint,
            model=charge.model,
            model_served=self.told.model_served,
            streamed=charge.streamed,
            at_s=int(charge.at.timestamp()),
            basis=last.basis,
            price_status=last.price_status,
            price_version=last.price_version,
            cost_nano=sum(line.cost_nano for line in self.lines),
            hold_nano=charge.hold_nano,
            buckets=told.get("usage", {}),
            fees=told.get("fees", {}),
            context=told.get("context", {}),
            breakdown=last.unpacked().get("breakdown", ()),
            raw_usage=told.get("raw_usage", ""),
            flags=last.flags,
        )


def rerate(workspace: Workspace, *, since: datetime | None = None, dry_run: bool = False, by: Actor = SYSTEM) -> Report:
    """Price what has no price yet, and what was priced by another price book, again; book the differences. Raises NotNow, RedisError."""
    report = Report(workspace.slug, dry_run)
    with _only_rerater(workspace.pk):
        store = sync_store()
        if control.read_meta(store, workspace.pk) is None:  # this Redis never saw it: nothing could be moved
            recovery.rebuild(workspace.pk)
        partition = keys.partition_of(workspace.pk)
        drain_now(money_stream(), [partition])
        with tenancy.entered(workspace):
            book = overrides.book_of(workspace)
            budgets = {rule.id: rule for rule in budget_rules(workspace)}
        waiting: list[tuple[_Attempt, Charged, Corrected]] = []
        for attempt in _attempts(workspace, since):
            report.seen += 1
            found = _decide(attempt, book)
            if isinstance(found, tuple):
                waiting.append((attempt, *found))
            else:
                report.left[found] += 1
            if len(waiting) >= BATCH:
                _book(workspace, book, budgets, waiting, report)
                waiting = []
        _book(workspace, book, budgets, waiting, report)
        if not dry_run:
            drain_now(money_stream(), [partition])
            _remember(workspace, by, report, book)
    return report


def _decide(attempt: _Attempt, book: PriceBook) -> tuple[Charged, Corrected] | str:
    if attempt.last.leg >= MOST_LEGS:
        return "it was corrected too often"
    charged = attempt.charged()
    found = rules.rerate(charged, book)
    return found.value if isinstance(found, Left) else (charged, found)


def _attempts(workspace: Workspace, since: datetime | None) -> Iterator[_Attempt]:
    """Ended attempts, oldest first, a page at a time, each read when the one before was dealt with. Expired ones only after their truth
    came: until then they are charged at a hold that says nothing of a price."""
    begin = max(since, _oldest()) if since else _oldest()
    after: tuple[datetime, UUID | None] = (begin, None)
    while page := _page(workspace, *after):
        yield from page
        after = (page[-1].charge.at, page[-1].charge.rid)


def _page(workspace: Workspace, at: datetime, rid: UUID | None) -> list[_Attempt]:
    with tenancy.entered(workspace):
        own = Entry.objects.filter(workspace_id=workspace.pk, at__gte=at)
        if rid is not None:
            own = own.filter(Q(at__gt=at) | Q(rid__gt=rid))
        charges = together(
            own.filter(leg=Leg.CHARGE, call_id__isnull=False)
            .exclude(state=EntryState.VOID)
            .order_by("at", "rid")[:PAGE]
        )
        if not charges:
            return []
        others: dict[UUID, list[Entry]] = {}
        for line in Entry.objects.filter(
            workspace_id=workspace.pk,
            leg__gt=0,
            at__range=(charges[0].at, charges[-1].at),
            rid__in=[charge.rid for charge in charges],
        ).order_by("leg"):
            others.setdefault(line.rid, []).append(line)
    return [_Attempt((charge, *others.get(charge.rid, ()))) for charge in charges]


def _oldest() -> datetime:
    return datetime.now(UTC) - OLDEST


def _book(
    workspace: Workspace,
    book: PriceBook,
    budgets: Mapping[str, BudgetRule],
    waiting: Sequence[tuple[_Attempt, Charged, Corrected]],
    report: Report,
) -> None:
    if not waiting:
        return
    answers = [Answer.OK] * len(waiting)
    if not report.dry_run:
        items = [_rerating(attempt, charged, corrected, book, budgets) for attempt, charged, corrected in waiting]
        try:
            answers = write(sync_store(), workspace.pk, items)
        except control.Refused as refused:
            raise NotNow(f"{workspace.slug}: the money Redis answers {refused}; run it again") from refused
    for answer, (_, charged, corrected) in zip(answers, waiting, strict=True):
        if answer is Answer.OK:
            report.corrected.append((charged, corrected))
        else:
            report.left[_REASONS[answer]] += 1


_REASONS = {
    Answer.ALREADY: "it was just corrected: run it again",
    Answer.OPEN: "it is not over yet",
}


def _rerating(
    attempt: _Attempt, charged: Charged, corrected: Corrected, book: PriceBook, budgets: Mapping[str, BudgetRule]
) -> Rerating:
    delta = corrected.cost_nano - charged.cost_nano
    outcome = Outcome(
        basis=Basis(charged.basis),
        price_status=corrected.status,
        price_status_before=PriceStatus(charged.price_status),
        http_status=attempt.told.http_status,
        error=attempt.told.error,
        model_served=attempt.told.model_served,
        provider_request_id=str(attempt.told.unpacked().get("provider_request_id", "")),
        buckets=dict(charged.buckets),
        fees=dict(charged.fees),
        breakdown=corrected.breakdown,
        context=dict(charged.context),
        first_byte_ms=_or_unknown(attempt.told.first_byte_ms),
        duration_ms=_or_unknown(attempt.told.duration_ms),
        overhead_us=_or_unknown(attempt.told.overhead_us),
        flags=corrected.flags,
    )
    return Rerating(
        rid=str(attempt.charge.rid),
        leg=max(attempt.last.leg + 1, Leg.FIRST_RERATING),
        delta_nano=delta,
        charges=_charges(attempt.charge, delta, budgets),
        ctx=encode_event(_context(attempt.charge, book.version)).decode(),
        payload=encode_event(outcome).decode(),
    )


def _charges(charge: Entry, delta: int, budgets: Mapping[str, BudgetRule]) -> list[tuple[str, str, int, int, str]]:
    """The money counters that the attempt was charged to, and how long they live: only a price changed, no calls and no tokens."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    found = []
    for counter, unit, _ in charge.counters if delta else ():
        if unit != "nano":
            continue
        budget_id, start_ms, digest = keys.budget_of(counter)
        rule = budgets.get(str(budget_id))
        end_ms = rule.bounds_at(start_ms).end_ms if rule else 0
        lives = end_ms + recovery.RETIRED_AFTER_MS > now_ms
        found.append((counter, unit, delta, end_ms if lives else 0, _value_of(charge, digest)))
    return found


def _value_of(charge: Entry, digest: str) -> str:
    values = (OTHER, *(getattr(charge, name) for name in NAMED), *charge.tags.values())
    return next((value for value in values if digest and value and keys.value_digest(value) == digest), "")


def _or_unknown(value: int | None) -> int:
    return -1 if value is None else value


def _context(charge: Entry, price_version: str) -> CallContext:
    """As it travelled with the attempt, from its charge's columns; priced by the book of now."""
    dims = {
        name: value
        for name in ("member", "agent", "department", "customer", "feature", "user", "session", "environment")
        if (value := getattr(charge, name))
    }
    return CallContext(
        call=str(charge.call_id),
        attempt=charge.attempt,
        key=charge.virtual_key,
        provider=charge.provider,
        credential=str(charge.credential_id or ""),
        model=charge.model,
        model_requested=charge.model_requested,
        endpoint=charge.endpoint,
        streamed=charge.streamed,
        dims=dims,
        tags=charge.tags,
        price_version=price_version,
    )


def _remember(workspace: Workspace, by: Actor, report: Report, book: PriceBook) -> None:
    if report.corrected:
        after = {"attempts": len(report.corrected), "delta_nano": str(report.delta_nano), "price_version": book.version}
        audit.record(workspace=workspace, by=by, action="price.rerate", target=workspace.slug, after=after)
        log.warning("workspace %d re-rated: %s", workspace.pk, after)


@contextmanager
def _only_rerater(workspace_id: int) -> Iterator[None]:
    """An advisory lock of this connection; it ends with the process. Raises NotNow when another has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [ADVISORY_CLASS, workspace_id % 2**31])
        if not cursor.fetchone()[0]:
            raise NotNow("another process is re-rating this workspace")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [ADVISORY_CLASS, workspace_id % 2**31])
