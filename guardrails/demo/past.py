"""Planned calls -> the events that admission and settlement would have written for them: priced by the book, charged to the budgets they meet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from billing.domain import keys
from billing.domain.book import PriceBook
from billing.domain.events import Basis, CallContext, Outcome, PriceStatus, encode
from billing.domain.extraction.record import Usage, UsageContext
from billing.domain.pricing import price
from guardrails.demo.story import address_of
from guardrails.demo.traffic import Planned
from guardrails.domain.budgets import Budget, Matcher, Unit
from workspaces.ids import uuid7

Fields = Mapping[str, str | bytes | int]

_HELD_FOR_OUTPUT: Final = 4
"""What a client allows itself to be answered, over what it is answered: the hold is the worst case."""
_FALLBACK: Final = ("anthropic", "claude-haiku-4-5")


@dataclass(frozen=True, slots=True)
class KeyOfDemo:
    id: str
    environment: str
    agent: str
    department: str


def cost_usd(call: Planned, book: PriceBook) -> float:
    """About what a call will cost, for scaling a month to its sum."""
    if call.fate in ("refused", "overloaded"):
        return 0.0
    rates = book.rates(call.provider, call.model, datetime.fromtimestamp(call.at_ms / 1000, UTC))
    priced = price(Usage(buckets=_buckets(call)), rates)
    return (priced.cost_nano or 0) / 1e9


def scaled(calls: Iterable[Planned], factor: float) -> None:
    """Every call's tokens by a factor, in place."""
    for call in calls:
        call.fresh = max(1, round(call.fresh * factor))
        call.cached = round(call.cached * factor)
        call.written = round(call.written * factor)
        call.output = round(call.output * factor)


class Past:
    """Writes events with the gapless numbers of one workspace."""

    def __init__(
        self,
        workspace_id: int,
        *,
        book: PriceBook,
        budgets: Iterable[tuple[Budget, int]],
        virtual_keys: Mapping[str, KeyOfDemo],
        credentials: Mapping[str, str],
        departments: Mapping[str, str],
    ) -> None:
        """`budgets` with the moment (ms) each was made: a call before it did not meet it. `departments`: person -> department."""
        self._workspace_id = workspace_id
        self._book = book
        self._since = {budget.id: since for budget, since in budgets}
        self._matcher = Matcher(budget for budget, _ in budgets)
        self._keys = virtual_keys
        self._credentials = credentials
        self._departments = departments
        self._seq = 0
        self._starts: dict[tuple[str, int], int] = {}

    def events(self, calls: Iterable[Planned]) -> Iterator[Fields]:
        """Holds and what ended them, in order of the calls."""
        for call in calls:
            call_id = str(uuid7(call.at_ms))
            if call.fate == "fallback" and call.model != _FALLBACK[1]:
                yield from self._attempt(replace(call, fate="refused"), call_id, 1)
                provider, model = _FALLBACK
                again = replace(call, fate="ok", provider=provider, model=model, at_ms=call.at_ms + 900)
                yield from self._attempt(again, call_id, 2)
            else:
                yield from self._attempt(call, call_id, 1)

    def _attempt(self, call: Planned, call_id: str, number: int) -> Iterator[Fields]:
        rid = str(uuid7(call.at_ms))
        context = self._context(call, call_id, number)
        held, priced_cost, outcome = self._outcome(call)
        counters = list(self._counters(call, context))
        yield self._event("hold", rid, call.at_ms, 0, held, _charges(counters, held, 0), context)
        ended_ms = call.at_ms + call.duration_ms
        tokens = call.fresh + call.cached + call.written + call.output
        if call.fate in ("refused", "overloaded"):
            yield self._event("void", rid, ended_ms, 0, held, _charges(counters, 0, 0, calls=0), context, outcome)
        elif call.fate in ("lost", "late"):
            yield self._event("expire", rid, call.at_ms + 90_000, held, held, _charges(counters, held, 0), context)
            if call.fate == "late":
                delta = priced_cost - held
                yield self._event(
                    "adjust", rid, call.at_ms + 240_000, delta, held, _charges(counters, delta, 0, calls=0), context, outcome
                )  # fmt: skip
        else:
            charged = _charges(counters, priced_cost, tokens)
            yield self._event("settle", rid, ended_ms, priced_cost, held, charged, context, outcome)

    def _event(
        self,
        kind: str,
        rid: str,
        at_ms: int,
        cost: int,
        held: int,
        charges: list[tuple[str, str, int]],
        context: bytes,
        outcome: bytes | None = None,
    ) -> Fields:
        self._seq += 1
        fields: dict[str, str | bytes | int] = {
            "k": kind, "w": self._workspace_id, "q": self._seq, "r": rid, "t": at_ms, "c": cost, "h": held,
            "b": json.dumps(charges, separators=(",", ":")), "x": context,
        }  # fmt: skip
        if outcome is not None:
            fields["p"] = outcome
        return fields

    def _dims(self, call: Planned) -> dict[str, str]:
        key = self._keys[call.feature.key]
        dims = {
            "feature": call.feature.name,
            "environment": key.environment,
            "agent": call.feature.agent or key.agent,
            "department": self._departments.get(call.person) or key.department,
            "customer": call.customer,
            "user": call.user,
            "session": call.session,
            "member": address_of(call.person) if call.person else "",
        }
        return {name: value for name, value in dims.items() if value}

    def _context(self, call: Planned, call_id: str, number: int) -> bytes:
        return encode(
            CallContext(
                call=call_id,
                attempt=number,
                key=self._keys[call.feature.key].id,
                provider=call.provider,
                credential=self._credentials.get(call.provider, ""),
                model=call.model,
                model_requested=call.feature.models[0][1] if number > 1 else "",
                endpoint=call.feature.endpoint,
                streamed=call.feature.streamed,
                dims=self._dims(call),
                tags={"plan": call.plan} if call.plan else {},
                price_version=self._book.version,
                fingerprint=f"{call.question:016x}",
            )
        )

    def _outcome(self, call: Planned) -> tuple[int, int, bytes]:
        """(held nano, cost nano, outcome) of an attempt."""
        rates = self._book.rates(call.provider, call.model, datetime.fromtimestamp(call.at_ms / 1000, UTC))
        buckets = _buckets(call)
        usage = Usage(
            buckets=buckets,
            context=UsageContext(prompt_total=call.fresh + call.cached + call.written),
            counted=call.fate == "hung_up",
        )
        priced = price(usage, rates)
        cost = priced.cost_nano or 0
        bound = price(
            Usage(
                buckets={
                    "input_uncached": call.fresh + call.cached + call.written + 40,
                    "output_text": call.output * _HELD_FOR_OUTPUT + 64,
                }
                if call.output
                else {"input_uncached": call.fresh + 40}
            ),
            rates,
        )
        held = max(bound.cost_nano or 0, cost)
        first_byte = int(call.duration_ms * (0.22 if call.feature.streamed else 0.97))
        overhead_us = 420 + call.at_ms % 380
        if call.fate in ("refused", "overloaded"):
            status, error = (429, "rate_limit_error") if call.fate == "refused" else (529, "overloaded_error")
            refused = Outcome(
                basis=Basis.MEASURED, price_status=PriceStatus.EXACT, http_status=status, error=error,
                duration_ms=240 + call.at_ms % 300, overhead_us=overhead_us,
            )  # fmt: skip
            return held, 0, encode(refused)
        hung_up = call.fate == "hung_up"
        outcome = Outcome(
            basis=Basis.COUNTED if hung_up else Basis.MEASURED,
            price_status=priced.status,
            http_status=200,
            error="client_closed" if hung_up else "",
            model_served=call.model,
            provider_request_id=f"req_{uuid7(call.at_ms).hex[12:]}",
            buckets=buckets,
            breakdown=priced.breakdown,
            context={"tier": "standard"},
            raw_usage=msgspec.Raw(
                json.dumps({"input": call.fresh, "cached": call.cached, "output": call.output}).encode()
            ),
            first_byte_ms=first_byte,
            duration_ms=call.duration_ms,
            overhead_us=overhead_us,
            flags=["late"] if call.fate == "late" else [],
        )
        return held, cost, encode(outcome)

    def _counters(self, call: Planned, context: bytes) -> Iterator[tuple[str, str]]:
        dims = {
            **self._dims(call),
            "model": call.model,
            "provider": call.provider,
            "virtual_key": self._keys[call.feature.key].id,
        }
        for match in self._matcher.matches(dims, {"plan": call.plan} if call.plan else {}):
            budget = match.budget
            if call.at_ms < self._since[budget.id]:
                continue
            digest = keys.value_digest(match.value) if budget.scope.each else ""
            yield keys.counter_suffix(budget.id, self._start(budget, call.at_ms), digest), budget.unit.counted_in

    def _start(self, budget: Budget, at_ms: int) -> int:
        """The beginning of the period that holds the moment. Periods of a day and longer begin at a quarter of an hour."""
        quarter = at_ms // 900_000
        start = self._starts.get((budget.id, quarter))
        if start is None:
            start = self._starts[budget.id, quarter] = budget.bounds_at(at_ms).start_ms
        return start


def _buckets(call: Planned) -> dict[str, int]:
    written = "cache_write_5m" if call.provider == "anthropic" else "input_uncached"
    buckets = {"input_uncached": call.fresh, "cache_read": call.cached, "output_text": call.output}
    if call.written:
        buckets[written] = buckets.get(written, 0) + call.written
    return {name: count for name, count in buckets.items() if count}


def _charges(counters: list[tuple[str, str]], nano: int, tokens: int, *, calls: int = 1) -> list[tuple[str, str, int]]:
    """What each counter moves by: in its own unit."""
    amounts = {Unit.USD.counted_in: nano, Unit.TOKENS.counted_in: tokens, Unit.CALLS.counted_in: calls}
    return [(counter, unit, amounts[unit]) for counter, unit in counters]
