"""One try of a call at one provider, from its hold to its one finish. Turns what the meter read into money.

The rules are PROTOCOL.md's "Finish": usage that the provider stated is *measured*; an answer that ended without one is *counted*, at a bound;
an answer that broke off is *assumed* at the whole hold, because nobody knows what was generated; what never left costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from billing.domain import quote as quoting
from billing.domain import sound
from billing.domain.events import NO_USAGE, Basis, Outcome, PriceStatus
from billing.domain.pricing import Priced, Rates, price
from billing.domain.quote import Quote
from billing.domain.tokens import count_tokens
from billing.domain.usage import Usage, UsageContext, extract, is_believed, plainly
from gateway.providers.dialect import Reading


class State(StrEnum):
    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    VOIDED = "voided"
    ENTRUSTED = "entrusted"
    """Its answer comes after its call: `gateway.afterwards` ends it."""


NEXT: dict[State, frozenset[State]] = {
    State.HELD: frozenset({State.SENT, State.VOIDED}),
    State.SENT: frozenset({State.SETTLED, State.VOIDED, State.ENTRUSTED}),
    State.SETTLED: frozenset(),
    State.VOIDED: frozenset(),
    State.ENTRUSTED: frozenset(),
}


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended, for whoever carries it to the budget store."""

    void: bool
    cost_nano: int
    tokens: int
    outcome: Outcome


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What was agreed at admission: everything that a price needs later, pinned."""

    provider: str
    """As the price book names it."""
    endpoint: str
    fields: dict[str, Any]
    """The body that is sent."""
    body_bytes: int
    streamed: bool
    base_url: str
    rates: Rates | None
    quote: Quote
    output_limit: int | None
    """Per answer, as sent; None where nothing bounds it."""
    held_nano: int
    clamped: bool = False

    @property
    def most_output(self) -> int:
        """The most output tokens that can have been generated."""
        limit = self.quote.output_tokens_cap if self.output_limit is None else self.output_limit
        return limit * self.quote.outputs


_DECIMALS = msgspec.json.Decoder(float_hook=Decimal)


class Attempt:
    """Must end in `settle`, `assume` or `void`; the first of them counts, `close` ends what nobody ended."""

    __slots__ = ("_carry", "finished", "first_byte_at", "flags", "request_id", "sent_at", "started", "state", "terms")

    def __init__(self, terms: Terms, started: float, carry: Callable[[Settlement], Awaitable[str] | None]) -> None:
        """`carry` hands a settlement to the budget store; it returns at once and does not fail. What it returns is kept as `finished`: who
        needs the hold to be given back can wait for it."""
        self.terms = terms
        self.finished: Awaitable[str] | None = None
        self.started = started
        self.state = State.HELD
        self.sent_at = 0.0
        self.first_byte_at = 0.0
        self.request_id = ""
        self.flags: list[str] = ["clamped"] if terms.clamped else []
        self._carry = carry

    def sending(self) -> None:
        """From here on an end that nobody can explain is assumed, not void."""
        self._move(State.SENT)
        self.sent_at = time.perf_counter()

    def void(self, error: str, http_status: int = 0) -> None:
        """Nothing was sent, or the provider does not bill what it answered."""
        self._end(
            State.VOIDED,
            0,
            0,
            self._outcome(http_status, error, None, Basis.MEASURED, PriceStatus.EXACT, {}),
        )

    def assume(self, error: str, http_status: int = 0, reading: Reading | None = None) -> None:
        """Sent, and nobody knows what it cost: the hold becomes the charge until the truth arrives."""
        terms = self.terms
        status = (
            PriceStatus.ESTIMATED
            if terms.rates is not None and terms.quote.amount_nano is not None
            else PriceStatus.UNPRICED
        )
        buckets = {
            "input_uncached": terms.quote.input_tokens_bound,
            "output_text": terms.quote.output_tokens_cap * terms.quote.outputs,
        }
        known = {name: count for name, count in buckets.items() if count}
        outcome = self._outcome(http_status, error, reading, Basis.ASSUMED, status, known)
        self._end(State.SETTLED, terms.held_nano, terms.quote.input_tokens_bound + terms.most_output, outcome)

    def settle(self, reading: Reading, http_status: int = 200, error: str = "") -> int | None:
        """The answer came to its end (or stated its usage). Returns the cost in nano-USD, None when it has no price."""
        usage = self._usage(reading)
        basis = Basis.MEASURED
        # Usage in the middle of a stream that broke off is what it had come to, not what it came to.
        settled = usage is not None and usage.measured and reading.ended
        # What counts something is believed: only of the others it matters what was generated.
        if usage is None or not settled or not (usage.buckets or is_believed(usage, answered=reading.answered)):
            if usage is not None:
                self.flags.extend(usage.flags or ("zero_usage",))
            if not reading.ended:
                self.assume(error or "answer_incomplete", http_status, reading)
                return self.terms.held_nano
            usage, basis = self._counted(reading), Basis.COUNTED
        priced = price(usage, self.terms.rates)
        cost = priced.cost_nano
        if cost is None or basis is Basis.COUNTED:
            cost = self._charged(priced, basis)
        if priced.flags:
            self.flags.extend(flag for flag in priced.flags if flag not in self.flags)
        if cost > self.terms.held_nano and self.terms.quote.amount_nano is not None:
            self.flags.append("over")
        outcome = self._outcome(
            http_status,
            error,
            reading,
            basis,
            priced.status,
            usage.all_buckets if usage.parts else usage.buckets,
            usage.all_fees if usage.parts else usage.fees,
            priced.breakdown,
            usage.context.as_plain(),
        )
        self._end(State.SETTLED, cost, usage.total_tokens, outcome)
        return cost if priced.cost_nano is not None else None

    def believes(self, reading: Reading) -> bool:
        """Whether a bill can be made of what the provider states."""
        usage = self._usage(reading)
        return usage is not None and usage.measured and is_believed(usage, answered=reading.answered)

    def entrust(self) -> None:
        """The provider works on: somebody else will learn what it cost."""
        self._move(State.ENTRUSTED)

    def close(self, error: str) -> None:
        """Ends an attempt that something unexpected left open: void before sending, assumed after."""
        if self.state is State.HELD:
            self.void(error)
        elif self.state is State.SENT:
            self.assume(error)

    # --- Inside -------------------------------------------------------------------------------------------------------

    def _usage(self, reading: Reading) -> Usage | None:
        """What the answer itself says it consumed, or None when it says nothing usable."""
        terms, payload, raw = self.terms, reading.said, reading.raw_usage
        if raw:
            if reading.usage_key == "usage":  # of nearly every call: read at once, without a dictionary of it
                usage = plainly(terms.provider, terms.endpoint, payload, raw, terms.fields, terms.base_url)
                if usage is not None:
                    return usage
            try:
                stated = _DECIMALS.decode(raw)
            except (msgspec.DecodeError, ArithmeticError):
                return None
            payload = {**payload, reading.usage_key: stated}
        elif not reading.by_request:
            return None
        return extract(
            terms.provider,
            terms.endpoint,
            payload or None,
            request=terms.fields,
            streamed=terms.streamed,
            base_url=terms.base_url,
        )

    def _counted(self, reading: Reading) -> Usage:
        """A bound on an answer that ended without usage: the input counted, every byte of text a token unless a vocabulary counts it.

        A model that thinks unseen may have generated up to its limit, hence the limit is what counts for it.
        """
        terms = self.terms
        heard = sound.counted(terms.endpoint, terms.fields, terms.rates, reading.output_bytes)
        if heard is not None:
            return heard
        quote = terms.quote
        most = terms.most_output
        output = reading.output_bytes + 8 * quote.outputs
        bound_in = quote.input_tokens_bound
        if terms.rates is not None:
            family = terms.rates.meta.tokenizer
            counted, exact = count_tokens("".join(reading.texts), family) if reading.texts else (0, False)
            if exact:
                output = counted + 8 * quote.outputs
                bound_in = min(bound_in, self._counted_input())
            if terms.rates.meta.reasoning:
                output = most
        if most:
            output = min(output, most)
        buckets = {"input_uncached": bound_in, "output_text": output}
        context = UsageContext(prompt_total=bound_in, model_served=str(reading.said.get("model", "")))
        return Usage(buckets={name: count for name, count in buckets.items() if count}, context=context, counted=True)

    def _counted_input(self) -> int:
        terms = self.terms
        exact = quoting.quote(
            terms.provider,
            terms.endpoint,
            terms.fields,
            terms.body_bytes,
            terms.rates,
            exact=True,
            base_url=terms.base_url,
        )
        return exact.input_tokens_bound

    def _charged(self, priced: Priced, basis: Basis) -> int:
        """What goes on the books. A price that cannot be known is charged as held, never as zero; a count never above the hold."""
        held = self.terms.held_nano
        if priced.cost_nano is None:
            return max(priced.known_nano, held)
        if basis is Basis.COUNTED and self.terms.quote.amount_nano is not None:
            return min(priced.cost_nano, held)
        return priced.cost_nano

    def _outcome(
        self,
        http_status: int,
        error: str,
        reading: Reading | None,
        basis: Basis,
        price_status: PriceStatus,
        buckets: Mapping[str, int],
        fees: Mapping[str, int] | None = None,
        breakdown: list[dict[str, str | int]] | None = None,
        context: dict[str, str] | None = None,
    ) -> Outcome:
        """The end of the attempt as it is now, with its times and flags."""
        now, sent_at, first_byte_at = time.perf_counter(), self.sent_at, self.first_byte_at
        return Outcome(
            basis=basis,
            price_status=price_status,
            http_status=http_status,
            error=error or (reading.error if reading is not None else ""),
            model_served=str(reading.said.get("model", "")) if reading is not None else "",
            provider_request_id=self.request_id,
            buckets=buckets,
            fees=fees or {},
            breakdown=breakdown or [],
            context=context or {},
            raw_usage=msgspec.Raw(reading.raw_usage) if reading is not None and reading.raw_usage else NO_USAGE,
            first_byte_ms=round((first_byte_at - sent_at) * 1000) if first_byte_at else -1,
            duration_ms=round((now - sent_at) * 1000) if sent_at else -1,
            overhead_us=round((sent_at - self.started) * 1e6) if sent_at else -1,
            flags=self.flags if reading is None else [*self.flags, *reading.flags],
        )

    def _end(self, state: State, cost_nano: int, tokens: int, outcome: Outcome) -> None:
        follow = NEXT[self.state]
        if not follow:
            return  # already ended: the first end counts
        if state not in follow:
            raise RuntimeError(f"an attempt cannot go from {self.state} to {state}")
        self.state = state
        self.finished = self._carry(Settlement(state is State.VOIDED, cost_nano, tokens, outcome))

    def _move(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise RuntimeError(f"an attempt cannot go from {self.state} to {state}")
        self.state = state
