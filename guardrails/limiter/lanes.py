"""Micro-batching: what is asked in one turn of the event loop, or while earlier batches are under way, shares one script call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from guardrails.limiter.patience import LOOKS
from guardrails.limiter.pipe import Answered

PATIENCE = 3
"""So many times as long as usual, a store that has answered until now may be silent before calls are refused"""

Reply = list[Any]
Start = Callable[[list[bytes], Answered], None]
"""Sends requests in one script call and returns at once; the replies, or why there are none, are told later."""


class StoreFailed(Exception):
    """No answer. `sent` says whether the request may have reached Redis; `reason` is "overloaded" where it had no turn, else "unreachable"."""

    def __init__(self, why: str, *, sent: bool, reason: str = "unreachable") -> None:
        super().__init__(why)
        self.sent, self.reason = sent, reason


class Ask:
    __slots__ = ("at", "future", "leaving", "payload", "sent")

    def __init__(
        self, payload: bytes, future: asyncio.Future[Reply], at: float, leaving: Callable[[], None] | None
    ) -> None:
        self.payload = payload
        self.future = future
        self.at = at
        self.leaving = leaving
        self.sent = False

    def fail(self, failed: StoreFailed) -> None:
        if not self.future.done():
            self.future.set_exception(failed)


class _Batch:
    __slots__ = ("asks", "at", "doubted", "looks", "over")

    def __init__(self, asks: list[Ask], at: float) -> None:
        self.asks = asks
        self.at = at
        self.looks = 0
        self.over = False
        self.doubted = False
        """Overdue: it is waited for, and others may go before it"""


class Lane:
    """One queue of asks that share script calls: the whole store, or one partition of a cluster.

    At most `in_flight` calls are under way, so that under load batches grow instead of connections; who asks while none is, does not wait
    for the others of the turn. A call that is not answered in `answer_s` is doubted: what follows need not wait for it. A store that answered
    until now is given `PATIENCE` times as long before anybody is refused, for it may have been busy for a moment (a fork, an fsync, a stalled
    machine); then the call fails, and with it all that queued behind it. While the store is known to be silent nobody waits longer than
    `answer_s`, and at most `waiting` asks queue up: a hung store cannot pile up calls.
    """

    def __init__(
        self,
        start: Start,
        *,
        answer_s: float,
        overdue: Callable[[], None] = lambda: None,
        in_flight: int = 2,
        batch: int = 64,
        waiting: int = 4096,
        longest_wait_s: float = 2.0,
    ) -> None:
        """`overdue` hears of a call without an answer."""
        self._start, self._overdue = start, overdue
        self._answer_s, self._longest_wait_s = answer_s, longest_wait_s
        self._most_in_flight, self._batch, self._waiting = in_flight, batch, waiting
        self._queue: deque[Ask] = deque()
        self._under_way: list[_Batch] = []
        self._answered_at = 0.0
        """When the store last answered"""
        self._silent = False
        """It was given up since"""
        self._scheduled = False
        self._company = False
        self._timer: asyncio.TimerHandle | None = None

    async def ask(
        self, payload: bytes, abandoned: Callable[[], None], leaving: Callable[[], None] | None = None
    ) -> Reply:
        """The script's answer to one request. Raises StoreFailed. When the asker is cancelled, an unsent request is withdrawn, and for
        a sent one, which may take effect all the same, `abandoned` is called. `leaving` is called just before it is sent."""
        if len(self._queue) >= self._waiting:
            raise StoreFailed("too many calls are waiting for the budget store", sent=False, reason="overloaded")
        loop = asyncio.get_running_loop()
        ask = Ask(payload, loop.create_future(), loop.time(), leaving)
        self._queue.append(ask)
        if not self._under_way and not self._company:
            self._flush()
        elif not self._scheduled and self._may_send():
            self._scheduled = True
            loop.call_soon(self._flush)
        try:
            return await ask.future
        except asyncio.CancelledError:
            if ask.sent:
                abandoned()
            raise

    def _may_send(self) -> bool:
        under_way = self._under_way
        if len(under_way) < self._most_in_flight:
            return True
        return sum(not batch.doubted for batch in under_way) < self._most_in_flight

    def _flush(self) -> None:
        self._scheduled = False
        while self._queue and self._may_send():
            asks = self._next_asks()
            if asks:
                self._company = len(asks) > 1
                self._send(asks)

    def _next_asks(self) -> list[Ask]:
        since = asyncio.get_running_loop().time() - self._longest_wait_s
        asks: list[Ask] = []
        while self._queue and len(asks) < self._batch:
            ask = self._queue.popleft()
            if ask.at < since:
                ask.fail(StoreFailed("the budget store is overloaded", sent=False, reason="overloaded"))
            elif not ask.future.done():  # not withdrawn while it waited
                ask.sent = True
                if ask.leaving is not None:
                    ask.leaving()
                asks.append(ask)
        return asks

    def _send(self, asks: list[Ask]) -> None:
        loop = asyncio.get_running_loop()
        batch = _Batch(asks, loop.time())
        self._under_way.append(batch)
        if self._timer is None:
            self._timer = loop.call_later(self._answer_s / LOOKS, self._look)
        self._start([ask.payload for ask in asks], partial(self._arrived, batch))

    def _look(self) -> None:
        """One timer for all calls under way. A call is overdue after `answer_s` in which this loop was free to read its answer: a process
        that is short of CPU finds its timers due before it has looked at its sockets, and must not blame Redis for that."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for batch in self._under_way.copy():
            batch.looks += 1
            patience = 1 if self._silent else PATIENCE
            if not batch.doubted and batch.looks >= LOOKS and batch.at <= now - self._answer_s:
                batch.doubted = True
                self._overdue()
            if batch.looks >= LOOKS * patience and batch.at <= now - self._answer_s * patience:
                self._arrived(batch, None, TimeoutError(f"no answer within {self._answer_s * patience:g} s"))
        self._flush()
        self._timer = loop.call_later(self._answer_s / LOOKS, self._look) if self._under_way else None

    def _arrived(self, batch: _Batch, replies: list[Reply] | None, error: Exception | None) -> None:
        if batch.over:
            return  # too late: whoever asked was told
        batch.over = True
        self._under_way.remove(batch)
        if replies is not None and len(replies) == len(batch.asks):
            self._answered_at, self._silent = asyncio.get_running_loop().time(), False
            for ask, reply in zip(batch.asks, replies, strict=True):
                if not ask.future.done():
                    ask.future.set_result(reply)
        else:
            self._failed(batch, error or ValueError("not as many answers as questions"))
        self._flush()

    def _failed(self, batch: _Batch, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        for ask in batch.asks:
            ask.fail(StoreFailed(why, sent=True))
        if (
            isinstance(error, TimeoutError | RedisTimeoutError) and self._answered_at <= batch.at
        ):  # else one connection is dead
            self._silent = True
            while self._queue:
                self._queue.popleft().fail(StoreFailed(why, sent=False))
