"""What the gateways handed in, against the books: which events the money Redis lost before anybody read them, to be written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from billing.domain.events import Kind
from billing.models import Entry, OpenAttempt
from guardrails.limiter.control import LostEvent
from guardrails.limiter.wire import AdmitRequest, CounterAsk, FinishKind, FinishRequest, Handed
from workspaces.ids import made_at_ms

ENDS = (FinishKind.SETTLE, FinishKind.VOID, FinishKind.EXPIRE)
ASKED_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the books have of an attempt."""

    charged: str = ""
    """The state of its charge: settled, void or expired; empty without one"""
    corrected: bool = False
    open: bool = False


def books_of(workspace_id: int, rids: Iterable[str]) -> dict[str, Known]:
    """In the entered workspace, with the stream drained."""
    wanted, found = sorted(set(rids)), dict[str, Known]()
    second = timedelta(seconds=1)
    for first in range(0, len(wanted), ASKED_AT_ONCE):
        some = wanted[first : first + ASKED_AT_ONCE]
        moments = [datetime.fromtimestamp(made_at_ms(UUID(rid)) / 1000, UTC) for rid in some]
        lines = Entry.objects.filter(
            workspace_id=workspace_id, rid__in=some, at__gte=min(moments) - second, at__lte=max(moments) + second
        ).values_list("rid", "leg", "state")
        charged = {str(rid): str(state) for rid, leg, state in lines if leg == 0}
        corrected = {str(rid) for rid, leg, _ in lines if leg == 1}
        held = OpenAttempt.objects.filter(workspace_id=workspace_id, rid__in=some).values_list("rid", flat=True)
        open_ = {str(rid) for rid in held}
        found |= {rid: Known(charged.get(rid, ""), rid in corrected, rid in open_) for rid in some}
    return found


def lost_events(handed: Iterable[Handed], books: Mapping[str, Known]) -> list[LostEvent]:
    """The events that are in no book, in an order in which they could have happened. An attempt may have been handed in more than once."""
    by_rid: dict[str, list[Handed]] = {}
    for one in handed:
        by_rid.setdefault(one.hold.rid, []).append(one)
    events: list[LostEvent] = []
    for rid, told in by_rid.items():
        events += _lost_of(told, books.get(rid, Known()))
    return events


def _lost_of(told: Sequence[Handed], known: Known) -> list[LostEvent]:
    hold = told[0].hold
    ends = [one.end for one in told if one.end is not None and one.end.kind in ENDS]
    if not ends:
        return [] if known.charged or known.open or not any(one.sure for one in told) else [_held(hold)]
    truths = [end for end in ends if end.kind != FinishKind.EXPIRE]
    if known.charged:  # whoever expired it did not know the truth
        return [_corrected(hold, truths[0])] if truths and known.charged == "expired" and not known.corrected else []
    if not known.open and not any(one.sure for one in told):
        return []  # nobody knows that it was ever held, and it was never sent
    if ends[0].kind == FinishKind.EXPIRE and truths:
        return [_ended(hold, ends[0]), _corrected(hold, truths[0])]
    return [_ended(hold, ends[0])]


def _held(hold: AdmitRequest) -> LostEvent:
    charges = [(budget.suffix, budget.unit, budget.amount) for budget in hold.budgets]
    return LostEvent(Kind.HOLD, hold.rid, 0, hold.amount, charges, hold.ctx, "")


def _ended(hold: AdmitRequest, end: FinishRequest) -> LostEvent:
    """As release.lua would have written it."""
    if end.kind == FinishKind.EXPIRE:
        charges = [(budget.suffix, budget.unit, budget.amount) for budget in hold.budgets]
        return LostEvent(Kind.EXPIRE, hold.rid, hold.amount, hold.amount, charges, hold.ctx, end.payload)
    charges = [(budget.suffix, budget.unit, _used(budget, end)) for budget in hold.budgets]
    cost = end.cost if end.kind == FinishKind.SETTLE else 0
    return LostEvent(Kind(end.kind), hold.rid, cost, hold.amount, charges, hold.ctx, end.payload)


def _corrected(hold: AdmitRequest, end: FinishRequest) -> LostEvent:
    cost = end.cost if end.kind == FinishKind.SETTLE else 0
    charges = [(budget.suffix, budget.unit, _used(budget, end) - budget.amount) for budget in hold.budgets]
    return LostEvent(Kind.ADJUST, hold.rid, cost - hold.amount, hold.amount, charges, hold.ctx, end.payload)


def _used(budget: CounterAsk, end: FinishRequest) -> int:
    if end.kind != FinishKind.SETTLE:
        return 0
    return end.cost if budget.unit == "nano" else end.tokens if budget.unit == "tokens" else end.calls
