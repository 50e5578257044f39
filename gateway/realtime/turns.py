"""What both directions of a session share: who may answer next, and the holds for it.

One hold always stands where the provider answers by itself, also while it answers: the next turn can begin at any moment. Where the budget has
no room for two, the client's next events wait until the answer under way is booked (`hold_or_wait`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.realtime.beliefs import Beliefs
from gateway.realtime.bursts import MOST_AHEAD, Bursts
from gateway.realtime.closing import Ended, closing_of
from gateway.realtime.conversation import Conversation
from gateway.realtime.holds import Held, Holds, Party
from gateway.upstream import Socket, UpstreamFailure
from guardrails.domain.refusals import RateLimited, Refusal, Throttled

LONGEST_WAIT_S = 20.0
"""A rate limit that lets a hold pass within this holds the client back instead of ending the session."""
OUR_LIMIT = "sluice_output_limit"
OUR_TURNS = "sluice_turns"
OUR_SILENCE = "sluice_no_more_turns"


class NoRoomYet(GatewayError):
    """The next hold would have to be smaller than it could be once the response under way is booked."""


class Turns:
    def __init__(self, party: Party, first: Held | None, talk: Conversation, socket: Socket) -> None:
        self.party, self.talk = party, talk
        self.holds = Holds(party, first)
        self._socket = socket
        self.lock = asyncio.Lock()
        """Of the holds. Whoever has it never waits for a peer to read."""
        self.claims: dict[str, bool] = {}
        """`response.create`s that the provider has not answered: event id -> out of band."""
        self.updates: deque[str] = deque(maxlen=1_000)
        """`session.update`s that may still be declined: event ids."""
        self.begun = 0
        """Responses so far"""
        self.ending = False
        """Nothing new is held for."""
        self.over: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.waiting = False
        """An event of the client's waits for its hold"""
        self.bursts = Bursts()
        self.beliefs = Beliefs()
        self._conversing: set[str] = set()
        """Responses under way that are part of the conversation: there is one at a time."""
        self._bookings = 0
        self._booked = asyncio.Event()

    @property
    def quiet(self) -> bool:
        """Nothing is generated, asked for or being transcribed."""
        return not (self.holds.running or self.claims or self.talk.untranscribed)

    def finish(self, ended: Ended) -> None:
        """The session ends, for the first reason that there is."""
        if not self.over.done():
            self.over.set_result(ended)

    # --- Holding ------------------------------------------------------------------------------------------------------

    async def hold(self, *, limit: int | None = None, own_limit: bool = False) -> Held | None:
        """As many holds wait as responses may begin from here on. Returns the newest that had to be taken. Raises Refusal, NotAllowed, NoRoomYet.
        The caller has the lock."""
        alone = self.talk.automatic
        asked = any(not apart for apart in self.claims.values())
        count = sum(self.claims.values()) + (1 if asked or alone else 0)
        if not count:
            return None
        taken = await self.holds.ensure(count, self.talk.ahead(room=alone, limit=limit, own_limit=own_limit))
        if taken is None or not taken.admitted.clamped or not alone:
            return taken
        if self.holds.running and not self.claims:
            await self.holds.give_back(taken)
            raise NoRoomYet("The budget has room for a whole response only when the one under way has ended.")
        self.impose(taken.admitted.output_limit or 1)
        return taken

    async def hold_or_wait(
        self, *, limit: int | None = None, own_limit: bool = False, patient: bool = False
    ) -> Held | None:
        """The same, for a client who can wait (or `patient` who asks in its place): until a response under way is booked, and for a rate limit that
        passes soon. Raises what it is refused with where waiting does not help."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_WAIT_S
        while True:
            seen = self._bookings
            self.waiting = True
            try:
                async with self.lock:
                    return await self.hold(limit=limit, own_limit=own_limit)
            except (Refusal, GatewayError) as refused:
                if not (patient or self.talk.automatic):
                    raise
                if self._bookings == seen and self.holds.running:
                    await self._next_booking()
                elif self._bookings == seen:
                    wait_s = refused.retry_after_s or 1
                    if not isinstance(refused, RateLimited | Throttled) or loop.time() + wait_s > until:
                        raise
                    await asyncio.sleep(wait_s)
            finally:
                self.waiting = False

    async def claim(
        self, name: str, *, apart: bool, limit: int | None = None, own_limit: bool = False, patient: bool = False
    ) -> Held | None:
        """A hold for a response that is about to be asked for by the event `name`. Returns the newest that had to be taken. Raises Refusal,
        GatewayError."""
        self.claims[name] = apart
        try:
            taken = await self.hold_or_wait(limit=limit, own_limit=own_limit, patient=patient)
        except BaseException:
            del self.claims[name]
            raise
        ready = self.holds.ready
        if ready and ready[-1].attempt.sent_at == 0.0:
            ready[-1].begin()
        return taken

    def unclaim(self, name: str) -> None:
        """What was claimed does not begin."""
        del self.claims[name]
        self.holds.release()

    @property
    def free_to_ask(self) -> bool:
        """The conversation has no response under way or asked for, and goes on."""
        asked = any(not apart for apart in self.claims.values())
        return not (self._conversing or asked or self.ending or self.over.done())

    async def hold_for(self, turns: int) -> bool:
        """Whether so many holds wait, where the budget has room for them whole. Raises nothing: who has no room waits until fewer are needed."""
        async with self.lock:
            ready = self.holds.ready
            if turns > MOST_AHEAD:
                return False
            try:
                while len(ready) < turns:
                    taken = await self.holds.ensure(len(ready) + 1, self.talk.ahead(room=True))
                    if taken is not None and taken.admitted.clamped:
                        await self.holds.give_back(taken)
                        return False
            except (Refusal, GatewayError):
                return False
            return True

    async def hold_no_more_than(self, turns: int) -> None:
        """Gives back what was held for turns that have not come."""
        if self.claims or len(self.holds.ready) <= turns:
            return
        async with self.lock:
            while not self.claims and len(self.holds.ready) > turns:
                await self.holds.give_back(self.holds.ready[-1])

    async def _next_booking(self) -> None:
        self._booked.clear()
        await self._booked.wait()

    # --- What the provider does ---------------------------------------------------------------------------------------

    async def began(self, name: str, *, apart: bool = False) -> None:
        """A response, or in a transcription session a transcript, is on its way: it takes the hold that stands, and the next is taken."""
        self.bursts.answered()
        if not apart:
            self._conversing.add(name)
        async with self.lock:
            self.begun += 1
            if not self.holds.take(name):
                await self._late(name)
            elif self.ending:
                self.cancel(name)
            elif self.talk.automatic and not self.over.done():
                try:
                    await self.hold()
                except (Refusal, GatewayError):
                    return  # the client waits; what becomes of it is decided when this one is booked

    async def _late(self, name: str) -> None:
        """Nothing stood for it (several turns in one burst of sound, and no room for two). It is on the provider's bill: it is held late, or,
        where that is refused, beside the cap; then it is stopped, and the session ends."""
        ahead = self.talk.ahead(room=False)
        if not self.ending and not self.over.done():
            try:
                await self.holds.ensure(1, ahead)
            except (Refusal, GatewayError) as refused:
                self.finish(closing_of(refused))
            else:
                self.holds.take(name)
                return
        self.holds.take_beside(name, ahead)
        self.cancel(name)

    async def ended(self, name: str, settle: Callable[[], Awaitable[None]]) -> None:
        """`settle` books what ended; then the next hold is taken, with the room that this has left."""
        self._conversing.discard(name)
        async with self.lock:
            try:
                await settle()
                if self.talk.automatic and not self.ending and not self.over.done():
                    await self.hold()
            except (RateLimited, Throttled) as refused:
                if (refused.retry_after_s or 1) > LONGEST_WAIT_S and not self.holds.running:
                    self.finish(closing_of(refused))
            except (Refusal, GatewayError) as refused:
                if not self.holds.running:
                    self.finish(closing_of(refused))
            finally:
                self._bookings += 1
                self._booked.set()

    # --- What is said to the provider ---------------------------------------------------------------------------------

    def impose(self, limit: int) -> None:
        """An output limit of the gateway's own for the whole session. Raises UpstreamFailure."""
        session: dict[str, Any] = {self.talk.limit_field: limit}
        if self.talk.kind:
            session["type"] = self.talk.kind
        self._update(OUR_LIMIT, session)
        self.talk.impose(limit)

    def take_over(self) -> None:
        """From here on turns are answered when the gateway asks for it. Raises UpstreamFailure."""
        how = self.beliefs.turn_off()
        if how is not None:
            self._update(OUR_TURNS, self.talk.detecting(how), off=True)
            self.talk.updated_by_us()

    def silence(self) -> None:
        """No turn is answered any more; `talk.updating` until the provider has said so. Raises UpstreamFailure."""
        self._update(OUR_SILENCE, self.talk.silence())

    def cancel(self, name: str) -> None:
        """Stops a response as far as the provider still listens. A transcript cannot be stopped."""
        if self.talk.hears_only:
            return
        try:
            self.say({"type": "response.cancel", "response_id": name})
        except UpstreamFailure:
            return  # its side has ended: nothing more is generated

    def _update(self, name: str, session: dict[str, Any], *, off: bool = False) -> None:
        self.say({"type": "session.update", "event_id": name, "session": session})
        self.beliefs.sent(name, off=off)

    def say(self, event: dict[str, Any]) -> None:
        """Raises UpstreamFailure."""
        self._socket.put(orjson.dumps(event))
