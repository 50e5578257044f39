"""One realtime session from its opening to its end: both directions, the limits of time, and what is waited for when it ends.

`upward` and `downward` pass the events, `turns` keeps the holds that they share.
"""

from __future__ import annotations

import asyncio
import contextlib

from billing.domain import realtime
from billing.domain.modalities import image_rule
from gateway.edge import Receive, Send
from gateway.errors import GatewayError
from gateway.realtime.asking import Asking
from gateway.realtime.client import Client
from gateway.realtime.closing import Ended, closing_of
from gateway.realtime.conversation import Conversation
from gateway.realtime.downward import Downward
from gateway.realtime.holds import Held, Party
from gateway.realtime.turns import Turns
from gateway.realtime.upward import Upward
from gateway.upstream import Socket, UpstreamFailure

DRAIN_S = 10.0
"""How long a session that has ended waits for the provider to say what was still generated."""


class Session:
    """`run` returns when both sides are closed and every hold has ended."""

    def __init__(
        self,
        party: Party,
        first: Held | None,
        socket: Socket,
        receive: Receive,
        send: Send,
        idle_s: float,
        total_s: float,
        *,
        hears_only: bool = False,
    ) -> None:
        self._socket = socket
        self._idle_s, self._total_s = idle_s, total_s
        rates = party.route.rates
        cap = rates.meta.image_tokens_cap if rates is not None else 0
        picture = image_rule(party.route.provider.name, party.route.model, cap)
        self._talk = Conversation(realtime.window_of(rates), picture.cap, party.route.model if hears_only else "")
        self._turns = Turns(party, first, self._talk, socket)
        self._client = Client(receive, send)
        asking = Asking(self._turns)
        self._up = Upward(self._turns, self._client, socket, asking)
        self._down = Downward(self._turns, self._client, socket, asking)

    async def run(self) -> None:
        downward = asyncio.ensure_future(self._down.run())
        others = [asyncio.ensure_future(self._from_client()), asyncio.ensure_future(self._watch())]
        cancelled = False
        try:
            await asyncio.wait((self._turns.over, *others), return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                if task.done():
                    self._turns.finish(_ending(task))
            ended = self._turns.over.result()
        except asyncio.CancelledError:  # the server's grace is over
            ended, cancelled = Ended(1012), True
        self._turns.finish(ended)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            if not cancelled:
                await self._client.tell_error(ended.error)
                await self._drain(downward)
        except asyncio.CancelledError:
            cancelled = True
        downward.cancel()
        await asyncio.gather(downward, return_exceptions=True)
        self._turns.holds.end(
            self._down.left(), len(self._turns.claims), self._talk.untold, hears_only=self._talk.hears_only
        )
        if cancelled:
            self._socket.abort()
            raise asyncio.CancelledError
        await self._client.say_goodbye(ended)
        await self._socket.close()

    async def _from_client(self) -> Ended:
        await self._down.opened.wait()
        ended = await self._up.run()
        return await self._restart() if ended is None else ended

    # --- Ends ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> Ended:
        """The limits of time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            now = loop.time()
            idle_at = max(began, self._up.stirred_at, self._down.stirred_at) + self._idle_s
            if now >= began + self._total_s:
                return Ended(4408, GatewayError("The session has reached its longest time.", code="session_too_long"))
            if now >= idle_at:
                return Ended(4408, GatewayError("Nothing was said in this session for too long.", code="session_idle"))
            await asyncio.sleep(min(began + self._total_s, idle_at) - now)

    async def _restart(self) -> Ended:
        """The process stops: responses under way come to their end, nothing new begins."""
        while self._turns.holds.running or self._turns.claims:
            await self._down.more()
        return Ended(1012, GatewayError("The gateway restarts; connect again.", code="gateway_restarting"))

    async def _drain(self, downward: asyncio.Task[None]) -> None:
        """What is still being generated is stopped, and what it cost is waited for: hanging up never dodges the bill. Where the provider answers by
        itself it is told to stop that, until nothing has begun before it said that it did: turns that it has heard already may still begin."""
        turns = self._turns
        turns.ending = True
        if not self._down.opened.is_set():
            return
        with contextlib.suppress(UpstreamFailure, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                for name in list(turns.holds.running):
                    turns.cancel(name)
                alone, begun = self._talk.answers_alone, -1
                while not downward.done():
                    if not turns.quiet or (alone and self._talk.updating):
                        await self._down.more()
                    elif alone and begun != turns.begun:
                        begun = turns.begun
                        turns.silence()
                    else:
                        return


def _ending(task: asyncio.Task[Ended]) -> Ended:
    failure = task.exception()
    return task.result() if failure is None else closing_of(failure)
