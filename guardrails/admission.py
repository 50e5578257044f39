"""Admission and settlement as the gateway sees them: `admit` before an attempt is sent, `finish` after it ended.

`admit` asks the money Redis once for everything; what it can answer besides yes and no (an old policy, another period, a lost counter, a
value too many) is dealt with here, in a bounded number of further tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import cast

import msgspec

from billing.domain.events import CallContext, Outcome
from billing.domain.events import encode as encode_event
from billing.domain.quote import Quote
from guardrails.admitted import Admitted
from guardrails.domain import refusals
from guardrails.domain.budgets import Budget, Kind, Match, OnTight, Unit
from guardrails.domain.periods import Bounds, Period
from guardrails.domain.rates import RateMatch
from guardrails.domain.refusals import BudgetStoreUnavailable, ModelNotPriced, Standing, WorkspaceClosed
from guardrails.limiter.limiter import BudgetStoreUnavailable as NoAnswer
from guardrails.limiter.limiter import Limiter
from guardrails.limiter.wire import (
    NO_LIMIT,
    Asking,
    ClockSkew,
    Closed,
    CounterAsk,
    Denied,
    Duplicate,
    FinishKind,
    Full,
    Limited,
    Lost,
    Ok,
    OtherPeriod,
    ShortRequest,
    StalePolicy,
    Throttled,
    TooManyValues,
    amount_in,
)
from guardrails.met import Met, counter_ask
from guardrails.policy import Grant, Policy, PolicyChanged, PolicyStore
from guardrails.spent import Evidence, Spent
from workspaces.ids import uuid7_text
from workspaces.models import WorkspaceState

OUTPUT_FLOOR = 256
"""An output limit is never lowered below this to make a call fit."""
MOST_TRIES = 8
MOST_LOWERINGS = 3

Heal = Callable[[int, str], Awaitable[bool]]
"""(workspace, reason) -> whether a rebuild was done in time to try once more"""


_REASONS: dict[type, str] = {ClockSkew: "clock_skew", Full: "full", Duplicate: "unreachable"}


class _Attempt(msgspec.Struct):
    """An admission under way: what changes between its tries."""

    grant: Grant
    dims: Mapping[str, str]
    tags: Mapping[str, str]
    quote: Quote
    exact: Callable[[], Quote] | None
    describe: Callable[[], CallContext]
    now_ms: int
    limit: int | None = None
    """The output limit it is clamped to"""
    overflowing: frozenset[str] = frozenset()
    """Budgets whose new values count as `__other__`"""
    met: Met = cast("Met", None)
    """Known from the first look at its budgets on"""
    healed: bool = False
    lowered: int = 0
    lease_ms: int | None = None
    rid: str = ""
    known_context: CallContext | None = None

    @property
    def context(self) -> CallContext:
        """Made when it is first needed: a refusal often does without."""
        if self.known_context is None:
            self.known_context = self.describe()
        return self.known_context

    @property
    def matches(self) -> list[Match]:
        return self.met.matches

    @property
    def bounds(self) -> list[Bounds]:
        return self.met.bounds

    @property
    def rates(self) -> list[RateMatch]:
        return self.met.rates

    def holds(self) -> tuple[int, int]:
        """The worst case at its output limit, in nano-USD (0 where there is no bound) and in tokens."""
        quote, limit = self.quote, self.limit
        if limit is None:
            return quote.amount_nano or 0, quote.tokens_bound
        nano = 0 if quote.amount_nano is None else quote.at_limit(limit)
        return nano, quote.tokens_bound - (quote.output_tokens_cap - limit) * quote.outputs

    def amount(self, unit: Unit) -> int:
        return amount_in(unit.counted_in, *self.holds())


HearsOfRefusals = Callable[[Policy, CounterAsk, int, int], None]
"""(policy, the counter, what is settled on it, when in ms)"""


class Admission:
    def __init__(
        self,
        limiter: Limiter,
        policies: PolicyStore,
        *,
        heal: Heal,
        over: Callable[[Admitted, int], None] = lambda admitted, cost_nano: None,
        refused: HearsOfRefusals = lambda policy, counter, settled, now_ms: None,
        public_url: str = "",
    ) -> None:
        """`heal` rebuilds what the money Redis lost; `over` hears of a call that cost more than its bound, `refused` of the counter that a call
        did not fit on."""
        self.limiter, self.policies = limiter, policies
        self._heal, self._over, self._refused = heal, over, refused
        self._public_url = public_url
        self._fenced: dict[int, float] = {}
        self._spent = Spent()

    # --- Admit --------------------------------------------------------------------------------------------------------

    async def admit(
        self,
        grant: Grant,
        dims: Mapping[str, str],
        tags: Mapping[str, str],
        quote: Quote,
        context: CallContext | Callable[[], CallContext],
        *,
        rid: str = "",
        exact: Callable[[], Quote] | None = None,
        now_ms: int | None = None,
        lease_ms: int | None = None,
    ) -> Admitted:
        """Hold the worst case of one attempt on every budget it meets, or raise a `refusals.Refusal` that says why not, or PolicyChanged
        when the call must be planned again (its key or a credential was edited meanwhile).

        `dims` are the call's dimensions, model, provider and virtual_key among them. `context`, or what makes it, is kept with the hold.
        `exact` computes the quote by counting tokens; it is only asked when the bound by bytes did not fit. `rid` is the attempt's own new
        UUIDv7, made here where none is given. `lease_ms`: of a hold that outlives its call (a batch); it takes no slot of a limit on
        concurrent calls, and nobody renews it.
        """
        describe = context if callable(context) else lambda: context
        attempt = _Attempt(
            grant, dims, tags, quote, exact, describe, time.time_ns() // 1_000_000 if now_ms is None else now_ms
        )
        attempt.lease_ms, attempt.rid = lease_ms, rid
        try:
            self._compile(attempt)
        except (ModelNotPriced, WorkspaceClosed):
            # A refusal that is made here, without asking the money Redis, is only made under a policy that was just read.
            if self.policies.is_new(grant.policy):
                raise
            await self._renew(attempt)
        spent = self._spent
        for _ in range(MOST_TRIES):
            place = spent.met_by(attempt.met) if spent.known and not attempt.overflowing else None
            reply = await (self._answer(attempt) if place is None else self._ask_together(attempt, place))
            if isinstance(reply, Ok):
                return self._admitted(attempt, reply)
            await self._deal_with(attempt, reply)
        raise BudgetStoreUnavailable("recovering", retry_after_s=1)

    async def _ask_together(self, attempt: _Attempt, place: int) -> object:
        """The money Redis's answer to a call that meets a counter that is known to be spent: calls that wait together share one
        (`guardrails.spent`)."""
        policy = attempt.grant.policy
        suffix = attempt.met.suffixes[place]
        group = self._spent.group(policy.workspace_id, policy.ver, suffix)
        if group is not None:
            evidence = await group.follow()
            if evidence is None or not self._cannot_fit(attempt, place, *evidence):
                return await self._answer(attempt)
            raise self._no_room(attempt, place, *evidence, fit=None)
        group = self._spent.lead(policy.workspace_id, policy.ver, suffix, place)
        evidence = None
        try:
            reply = await self._answer(attempt, group.leave)
            if isinstance(reply, Denied):
                evidence = Evidence(reply.settled[place], reply.held[place])
            return reply
        finally:
            self._spent.over(group, evidence)

    async def _answer(self, attempt: _Attempt, leaving: Callable[[], None] | None = None) -> object:
        if not attempt.rid:
            attempt.rid = uuid7_text()
        try:
            return await self.limiter.admit(attempt.grant.policy.workspace_id, self._request(attempt), leaving)
        except NoAnswer as none:
            raise BudgetStoreUnavailable(none.reason) from None

    def adopt(
        self,
        grant: Grant,
        dims: Mapping[str, str],
        tags: Mapping[str, str],
        quote: Quote,
        context: CallContext,
        *,
        rid: str,
    ) -> Admitted:
        """Hold for an attempt that runs already and that nothing refuses any more: beside every cap, for a revoked key and a closed workspace too,
        because the provider bills it. Openly: what it holds and costs counts on every budget it meets. Returns at once, raises nothing."""
        attempt = _Attempt(grant, dims, tags, quote, None, lambda: context, time.time_ns() // 1_000_000)
        attempt.met, attempt.rid = grant.policy.meetings.of(dims, tags, attempt.now_ms), rid
        request = self._request(attempt)
        self.limiter.present(grant.policy.workspace_id, request)
        return self._admitted(attempt, Ok(0, 0, [ask.amount for ask in request.whole().budgets], []))

    async def _deal_with(self, attempt: _Attempt, reply: object) -> None:
        """Change the attempt so that another try can succeed, or raise the refusal."""
        match reply:
            case Denied():
                self._make_it_fit(attempt, reply)
            case Limited(index, retry_ms):
                rate = attempt.rates[index]
                if retry_ms < 0 and self._counted(attempt):
                    return
                raise refusals.rate_limited(rate.rate, rate.value, retry_ms)
            case Throttled(index, retry_ms):
                standing = self._standing(attempt, index, reply.settled[index], reply.held[index])
                raise refusals.throttled(standing, max(1, -(-retry_ms // 1000)))
            case StalePolicy():
                await self._renew(attempt)
            case OtherPeriod(_, at_ms):
                attempt.now_ms = at_ms
                self._compile(attempt)
            case TooManyValues(index):
                attempt.overflowing |= {attempt.matches[index].budget.id}
            case Lost(reason):
                if attempt.healed or not await self._heal(attempt.grant.policy.workspace_id, reason):
                    raise BudgetStoreUnavailable("recovering")
                attempt.healed = True
            case Closed(state):
                raise WorkspaceClosed(state)
            case _:
                raise BudgetStoreUnavailable(_REASONS.get(type(reply), "unreachable"))

    async def _renew(self, attempt: _Attempt) -> None:
        before, after = attempt.grant, await self.policies.renew(attempt.grant)
        old, new = before.policy, after.policy
        was = (before.key, old.credentials, old.routes, old.book, old.fingerprint_key)
        if was != (after.key, new.credentials, new.routes, new.book, new.fingerprint_key):
            raise PolicyChanged(after)
        attempt.grant = after
        self._compile(attempt)

    def _compile(self, attempt: _Attempt) -> None:
        policy = attempt.grant.policy
        if policy.state != WorkspaceState.ACTIVE:
            raise WorkspaceClosed(policy.state)
        if self._fenced.get(policy.workspace_id) != policy.loaded_at:
            self.limiter.fence(policy.workspace_id, policy.epoch, policy.seq)
            self._fenced[policy.workspace_id] = policy.loaded_at
        attempt.met = policy.meetings.of(
            attempt.dims, attempt.tags, attempt.now_ms, lasting=attempt.lease_ms is not None
        )
        binding = attempt.met.binding
        if binding is not None and (policy.barred or attempt.quote.amount_nano is None):
            self._must_be_bounded(attempt, binding)

    def _must_be_bounded(self, attempt: _Attempt, match: Match) -> None:
        barred = attempt.grant.policy.barred
        if attempt.quote.amount_nano is None:
            raise ModelNotPriced(f"The cost of this call has no known bound ({attempt.quote.refusal}).", match.budget)
        if barred and (attempt.context.provider, attempt.context.model) in barred:
            raise ModelNotPriced(
                f"{attempt.context.model!r} has cost more than its proven bound before and waits for review.",
                match.budget,
            )

    def _request(self, attempt: _Attempt) -> Asking:
        policy, met, context = attempt.grant.policy, attempt.met, attempt.known_context or attempt.context
        if attempt.lease_ms is not None:
            context = msgspec.structs.replace(context, lease_ms=attempt.lease_ms)
        nano, tokens = attempt.holds()
        request = ShortRequest(
            policy.prefix,
            policy.workspace_text,
            attempt.rid,
            0,  # epoch and the least event number are the limiter's to say
            policy.ver,
            0,
            nano,
            attempt.lease_ms or self.limiter.lease_ms,
            encode_event(context).decode(),
            met.packed,
            met.rates_for(self._tokens_at_once(attempt)) if met.rate_asks else [],
            tokens,
        )
        if not attempt.overflowing:
            return request
        whole = request.whole()
        whole.budgets = [self._counter(attempt, place) for place in range(len(met.asks))]
        return whole

    def _counter(self, attempt: _Attempt, place: int) -> CounterAsk:
        match, bounds = attempt.matches[place], attempt.bounds[place]
        ask = counter_ask(match, bounds, attempt.now_ms, overflows=match.budget.id in attempt.overflowing)
        ask.amount = attempt.amount(match.budget.unit)
        return ask

    @staticmethod
    def _tokens_at_once(attempt: _Attempt) -> int:
        """What a call counts against tokens a minute until its end tells the truth: its input, and the output it asked for itself. A
        model's maximum that nobody asked for would refuse nearly every call."""
        quote = attempt.quote
        asked = quote.output_tokens_cap * quote.outputs if quote.output_limit_source == "client" else 0
        return max(1, quote.input_tokens_bound + asked)

    # --- When it does not fit -----------------------------------------------------------------------------------------

    def _counted(self, attempt: _Attempt) -> bool:
        """Replace the bound by bytes with the one by counting, once. True when it is lower."""
        if attempt.exact is None:
            return False
        exact, attempt.exact = attempt.exact(), None
        if exact.amount_nano is None or exact.tokens_bound >= attempt.quote.tokens_bound:
            return False
        attempt.quote = exact
        return True

    def _make_it_fit(self, attempt: _Attempt, denied: Denied) -> None:
        """Count exactly; then lower the output limit to what the tightest budget affords, where that is allowed; else refuse."""
        index = denied.index
        if self._cannot_fit(attempt, index, denied.settled[index], denied.held[index]):
            raise self._no_room(attempt, index, denied.settled[index], denied.held[index], fit=None)
        if self._counted(attempt) and self._fits(attempt, denied):
            return
        fit, tight = self._largest_limit(attempt, denied)
        most = attempt.quote.output_tokens_cap
        may_lower = attempt.quote.output_limit_source != "client" or all(
            match.budget.on_tight is OnTight.CLAMP for match in tight
        )
        room = fit is not None and min(OUTPUT_FLOOR, most) <= fit < (attempt.limit or most)
        if may_lower and room and attempt.lowered < MOST_LOWERINGS:
            attempt.limit, attempt.lowered = fit, attempt.lowered + 1
            return
        raise self._no_room(attempt, index, denied.settled[index], denied.held[index], fit=fit)

    @staticmethod
    def _cannot_fit(attempt: _Attempt, place: int, settled: int, held: int) -> bool:
        """Whether a counter has no room for it, not even with its input counted and an output limit of one token."""
        (unit, ask), quote = attempt.met.asks[place], attempt.quote
        if ask.limit == NO_LIMIT:
            return False
        left = ask.limit - settled - held
        if unit is Unit.CALLS:
            return left < 1
        return left < (quote.least(1) if unit is Unit.USD else quote.outputs)

    def _no_room(
        self, attempt: _Attempt, place: int, settled: int, held: int, *, fit: int | None
    ) -> refusals.OverBudget:
        """The refusal of a call by one of its budgets; `fit`: the output limit it would pass with."""
        unit, counter = attempt.met.asks[place]
        if attempt.overflowing:
            counter = self._counter(attempt, place)
        self._spent.denied(counter.suffix)
        self._refused(attempt.grant.policy, counter, settled, attempt.now_ms)
        facts = (attempt.grant.policy.ver, counter.limit, settled, held, attempt.amount(unit), fit)
        said = self._spent.said(counter.suffix, facts)
        if said is None:
            standing = self._standing(attempt, place, settled, held)
            fit = None if unit is Unit.CALLS else (fit or 0)
            said = refusals.over_budget(standing, needed=attempt.amount(unit), would_fit=fit)
            self._spent.say(counter.suffix, facts, said)
        return said.again()

    def _fits(self, attempt: _Attempt, denied: Denied) -> bool:
        """Whether it would have passed at its present amount: else the money Redis need not be asked again to say no."""
        for (unit, ask), settled, held in zip(attempt.met.asks, denied.settled, denied.held, strict=True):
            if ask.limit != NO_LIMIT and settled + held + attempt.amount(unit) > ask.limit:
                return False
        return True

    def _largest_limit(self, attempt: _Attempt, denied: Denied) -> tuple[int | None, list[Match]]:
        """The largest output limit that fits every budget (None: not even one token), and the budgets that are too tight for the present one."""
        quote = attempt.quote
        fits: int | None = quote.output_tokens_cap
        tight = []
        nano, tokens = attempt.holds()
        amounts = {Unit.USD: nano, Unit.TOKENS: tokens, Unit.CALLS: 1}
        for match, (unit, ask), settled, held in zip(
            attempt.matches, attempt.met.asks, denied.settled, denied.held, strict=True
        ):
            left = ask.limit - settled - held
            if ask.limit == NO_LIMIT or left >= amounts[unit]:
                continue
            tight.append(match)
            if unit is Unit.USD:
                one = quote.fits(left)
            elif unit is Unit.TOKENS and quote.output_tokens_cap:
                one = (left - quote.tokens_bound) // quote.outputs + quote.output_tokens_cap
            else:
                one = None
            fits = None if fits is None or one is None or one < 1 else min(fits, one)
        return fits, tight

    def _standing(self, attempt: _Attempt, index: int, settled: int, held: int) -> Standing:
        match, bounds = attempt.matches[index], attempt.bounds[index]
        budget = match.budget
        limit = budget.limit_at(attempt.now_ms)
        slug = attempt.grant.policy.slug
        return Standing(
            budget=budget,
            value=match.value,
            settled=settled,
            held=held,
            cap=budget.cap_at(attempt.now_ms) if limit is None else limit,
            resets_at=_iso(bounds.end_ms) if budget.period is not Period.TOTAL else "",
            url=self._page_of(slug, budget),
        )

    def _page_of(self, slug: str, budget: Budget) -> str:
        """Where to ask for more: the budget's own form for that; for a plan's quota the page of all budgets."""
        if not self._public_url:
            return ""
        place = "" if budget.kind is Kind.PLAN_QUOTA else f"budgets/{budget.id}/raise/"
        return f"{self._public_url}/w/{slug}/guardrails/{place}"

    def _admitted(self, attempt: _Attempt, ok: Ok) -> Admitted:
        quote, limit = attempt.quote, attempt.limit
        source = quote.output_limit_source
        return Admitted(
            rid=attempt.rid,
            grant=attempt.grant,
            hold_nano=attempt.holds()[0],
            quote=quote,
            output_limit=limit
            if limit is not None
            else quote.output_tokens_cap
            if source in ("client", "default", "model")
            else None,
            clamped=limit is not None,
            unpriced=quote.amount_nano is None,
            met=attempt.met,
            used=ok.used,
            rates_left=ok.rates,
            at_ms=attempt.now_ms,
            context=attempt.known_context or attempt.context,
        )

    # --- Finish -------------------------------------------------------------------------------------------------------

    def settle(self, admitted: Admitted, cost_nano: int, tokens: int, outcome: Outcome) -> asyncio.Future[str]:
        """Charge what an attempt cost. Returns at once; repeated until the money Redis answers. More than the hold is recorded in full."""
        if cost_nano > admitted.hold_nano and not admitted.unpriced:
            self._over(admitted, cost_nano)
            if "over" not in outcome.flags:
                outcome = msgspec.structs.replace(outcome, flags=[*outcome.flags, "over"])
        return self._finish(admitted, FinishKind.SETTLE, cost_nano, tokens, outcome)

    def void(self, admitted: Admitted, outcome: Outcome) -> asyncio.Future[str]:
        """Release the hold of an attempt that was never sent, or that the provider does not bill."""
        return self._finish(admitted, FinishKind.VOID, 0, 0, outcome)

    def correct(self, admitted: Admitted, cost_nano: int, tokens: int, outcome: Outcome) -> asyncio.Future[str]:
        """The truth about an attempt that may have been charged as assumed; changes nothing while it still runs."""
        return self._finish(admitted, FinishKind.LATE, cost_nano, tokens, outcome)

    def _finish(
        self, admitted: Admitted, kind: FinishKind, cost_nano: int, tokens: int, outcome: Outcome
    ) -> asyncio.Future[str]:
        return self.limiter.finish(
            admitted.grant.policy.workspace_id,
            admitted.rid,
            kind,
            cost_nano=cost_nano,
            tokens=tokens,
            payload=encode_event(outcome),
        )


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
