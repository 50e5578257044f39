"""The holds of one session: those that wait for a response to begin, and those of responses under way. Each ends exactly once.

A hold is for any response: whichever the provider creates next takes the first that waits. What a response cost is booked before the next
hold is asked for, so that a budget with room for one response at a time has room for many after another. What the provider does without a hold
is held beside every cap (`beside`): it is billed, so it is booked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial

import msgspec

from billing.domain import realtime
from billing.domain.attribution import Attribution
from billing.domain.dimensions import Dimension
from billing.domain.events import CallContext
from billing.domain.quote import Quote
from billing.domain.realtime import Ahead
from gateway import routing
from gateway.attempt import Attempt, Settlement, Terms
from gateway.errors import NotAllowed
from gateway.providers.dialect import Reading
from gateway.routing import Route
from gateway.runtime import Runtime
from guardrails.admitted import Admitted
from guardrails.domain.refusals import BudgetStoreUnavailable
from guardrails.policy import Grant, PolicyChanged
from workspaces.ids import uuid7_text

BOOKED_WITHIN_S = 2.0
UNHELD = "unheld"
"""The flag of a line that no budget was asked for beforehand."""
MOST_TRIES = 8


@dataclass(slots=True)
class Party:
    """Whom a session is for and where it goes. Moves on with the workspace's policy."""

    runtime: Runtime
    grant: Grant
    who: Attribution
    asked: str
    """The model as the client named it"""
    route: Route

    @property
    def dimensions(self) -> dict[str, str]:
        return {
            **self.who.dims,
            Dimension.MODEL.value: self.route.model,
            Dimension.PROVIDER.value: self.route.provider.name,
            Dimension.VIRTUAL_KEY.value: self.grant.key.id,
        }

    @property
    def bounded(self) -> bool:
        """A hard budget applies: nothing without a bound may leave, and an output limit is always in force."""
        now_ms = time.time_ns() // 1_000_000
        return self.grant.policy.meetings.of(self.dimensions, self.who.tags, now_ms).binding is not None

    @property
    def most_output(self) -> int:
        """The output limit that is in force under a hard budget where the client sets none or a higher one."""
        rates, own = self.route.rates, self.grant.key.output_limit
        most = (rates.meta.max_output_tokens if rates is not None else 0) or realtime.MOST_LIMIT
        return min(most, realtime.MOST_LIMIT, own or realtime.MOST_LIMIT)

    def hear(self, model: str) -> None:
        """From here on a transcription session is heard by this model of the same provider. Raises NotAllowed."""
        route, allowed = self.route, self.grant.key.allowed_models
        if model == route.model:
            return
        if allowed and allowed.isdisjoint((model, f"{route.provider.name}/{model}")):
            raise NotAllowed(f"This key may not use the model '{model[:80]}'.", param="model", code="model_not_allowed")
        rates = self.grant.policy.book.rates_at(route.provider.name, model, int(time.time()))
        self.route, self.asked = Route(route.provider, route.credential, model, rates), model

    def quote(self, ahead: Ahead) -> Quote:
        route = self.route
        return realtime.quote(route.rates, route.provider.name, route.model, ahead, routing.base_url_of(route))

    async def admit(self, ahead: Ahead) -> Held:
        """Holds the worst case of one response. Raises Refusal, NotAllowed."""
        for _ in range(MOST_TRIES):
            route, quote = self.route, self.quote(ahead)
            try:
                admitted = await self.runtime.gate.admission.admit(
                    self.grant, self.dimensions, self.who.tags, quote, self._context(), rid=uuid7_text()
                )
            except PolicyChanged as changed:
                self._move(changed.grant)
                continue
            self.grant = admitted.grant
            if admitted.clamped:  # the budget has room for a shorter answer: that is what is held for
                ahead = replace_limit(ahead, admitted.output_limit)
            return Held(self._attempt(route, admitted), admitted, ahead)
        raise BudgetStoreUnavailable("recovering", retry_after_s=1)

    def beside(self, ahead: Ahead) -> Held:
        """Holds for what runs already, whatever the budgets say: it is on the provider's bill. Raises nothing."""
        admitted = self.runtime.gate.admission.adopt(
            self.grant, self.dimensions, self.who.tags, self.quote(ahead), self._context(), rid=uuid7_text()
        )
        held = Held(self._attempt(self.route, admitted), admitted, ahead)
        held.begin()
        return held

    def _context(self) -> CallContext:
        """Each response is a call of its own."""
        route = self.route
        return CallContext(
            call=uuid7_text(),
            attempt=1,
            key=self.grant.key.id,
            provider=route.provider.name,
            credential=route.credential.id,
            model=route.model,
            model_requested=self.asked if self.asked != route.model else "",
            endpoint=realtime.ENDPOINT,
            streamed=True,
            dims=self.who.dims,
            tags=self.who.tags,
            price_version=self.grant.policy.book.version if route.rates is not None else "",
        )

    def _move(self, grant: Grant) -> None:
        """The same model by the same credential under a newer policy: the provider's side of the session cannot move."""
        route = self.route
        credentials = grant.policy.credentials.get(route.provider.name, ())
        credential = next((one for one in credentials if one.id == route.credential.id), None)
        allowed = grant.key.allowed_models
        if credential is None or (
            allowed and allowed.isdisjoint((self.asked, route.model, f"{route.provider.name}/{route.model}"))
        ):
            raise NotAllowed("The model or the credential of this session may not be used any more.")
        rates = grant.policy.book.rates_at(route.provider.name, route.model, int(time.time()))
        self.grant, self.route = grant, Route(route.provider, credential, route.model, rates)

    def _attempt(self, route: Route, admitted: Admitted) -> Attempt:
        terms = Terms(
            provider=route.provider.name,
            endpoint=realtime.ENDPOINT,
            fields={"model": route.model},
            body_bytes=0,
            streamed=True,
            base_url=routing.base_url_of(route),
            rates=route.rates,
            quote=admitted.quote,
            output_limit=admitted.output_limit,
            held_nano=admitted.hold_nano,
            clamped=admitted.clamped,
        )
        return Attempt(terms, time.perf_counter(), partial(_carry, self.runtime, admitted))


@dataclass(slots=True)
class Held:
    attempt: Attempt
    admitted: Admitted
    ahead: Ahead
    said: bool = False
    """Something was generated."""

    def begin(self) -> None:
        """From here on the provider may bill it."""
        self.attempt.started = time.perf_counter()
        self.attempt.sending()


@dataclass(frozen=True, slots=True)
class Told:
    """The bill of what is no response's, and the most that it can be."""

    reading: Reading
    most: Ahead


class Holds:
    """`ensure` before what may cost something, `take` when a response begins, `settle` at its end, `end` at the session's."""

    def __init__(self, party: Party, first: Held | None) -> None:
        self._party = party
        self.ready: list[Held] = [first] if first is not None else []
        self.running: dict[str, Held] = {}

    @property
    def clamped_to(self) -> list[int]:
        """The output limits of the holds that wait and that the budget had no room for whole."""
        return [held.admitted.output_limit or 1 for held in self.ready if held.admitted.clamped]

    async def ensure(self, count: int, ahead: Ahead) -> Held | None:
        """At least `count` holds wait, each enough for `ahead`. Returns the newest that had to be taken. Raises Refusal, NotAllowed."""
        small = [held for held in self.ready if not held.ahead.covers(ahead)]
        for held in small:
            self.ready.remove(held)
            held.attempt.void("realtime_rehold")
            await booked(held.attempt)
        taken = None
        while len(self.ready) < count:
            taken = await self._party.admit(ahead)
            self.ready.append(taken)
        return taken

    def take(self, response: str) -> bool:
        """The response has begun on the first hold that waits; False when none does."""
        if not self.ready:
            return False
        self._run(response, self.ready.pop(0))
        return True

    def take_beside(self, response: str, ahead: Ahead) -> None:
        """The response has begun although nothing could be held for it."""
        self._run(response, self._unheld(ahead))

    def _unheld(self, ahead: Ahead) -> Held:
        held = self._party.beside(ahead)
        held.attempt.flags.append(UNHELD)
        return held

    def _run(self, response: str, held: Held) -> None:
        if held.attempt.sent_at == 0.0:
            held.begin()
        held.attempt.request_id = response[:128]
        self.running[response] = held

    def shrink(self, response: str, most: Ahead) -> None:
        """What runs cannot cost more than this: a smaller hold takes the place of its own."""
        large = self.running[response]
        self._run(response, self._party.beside(most))
        large.attempt.void("realtime_rehold")

    async def give_back(self, held: Held) -> None:
        """A hold that was just taken is not wanted."""
        self.ready.remove(held)
        held.attempt.void("realtime_rehold")
        await booked(held.attempt)

    def release(self) -> None:
        """One hold that waits is not needed: what it was for was declined."""
        if self.ready:
            self.ready.pop().attempt.void("realtime_declined")

    async def settle(self, response: str, reading: Reading | None, error: str, *, unbilled: bool) -> None:
        """The response has ended. No reading: the provider did not say what it cost."""
        held = self.running.pop(response, None)
        if held is None:
            return
        if reading is not None:
            held.attempt.settle(reading, 200, error)
        elif unbilled:
            held.attempt.void(error or "provider_error", 200)
        else:
            held.attempt.assume(error or "usage_missing", 200)
        await booked(held.attempt)

    def end(self, told: Told | None, claimed: int, untold: Ahead | None, *, hears_only: bool) -> None:
        """Nothing more comes. `told`: the bill of transcripts that no response carries; `claimed`: responses that were asked for and never began;
        `untold`: sound that was being transcribed and of which nobody will say what that cost. In a session that `hears_only` it is all that
        runs."""
        spare = list(self.running.values()) if hears_only else []
        for held in () if hears_only else self.running.values():
            held.attempt.assume("session_ended")
        self.running.clear()
        asked = self.ready[:claimed]
        spare += self.ready[claimed:]
        self.ready.clear()
        for held in asked:
            if held.attempt.sent_at == 0.0:
                held.begin()
            held.attempt.assume("session_ended")
        if told is not None:
            own = spare.pop(0) if spare else self._unheld(told.most)
            if own.attempt.sent_at == 0.0:
                own.begin()
            own.attempt.settle(told.reading)
        if untold is not None:  # at what the sound itself can cost; the holds that go back make the room
            self._party.beside(untold).attempt.assume("session_ended")
        for held in spare:
            held.attempt.void("session_ended")


def replace_limit(ahead: Ahead, limit: int | None) -> Ahead:
    return msgspec.structs.replace(ahead, output_limit=limit, limit_is_clients=True)


async def booked(attempt: Attempt) -> None:
    """Until the end of an attempt is on the books: its hold no longer stands in the way of the next."""
    if attempt.finished is None:
        return
    try:
        async with asyncio.timeout(BOOKED_WITHIN_S):
            await asyncio.shield(_finished(attempt.finished))
    except TimeoutError:
        raise BudgetStoreUnavailable("unreachable", retry_after_s=1) from None


async def _finished(end: Awaitable[str]) -> str:
    return await end


def _carry(runtime: Runtime, admitted: Admitted, settlement: Settlement) -> Awaitable[str]:
    if settlement.void:
        return runtime.gate.admission.void(admitted, settlement.outcome)
    return runtime.gate.admission.settle(admitted, settlement.cost_nano, settlement.tokens, settlement.outcome)
