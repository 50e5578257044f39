"""Micro-batching: what is asked in one turn of the event loop, or while earlier batches are under way, shares one script call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

Reply = list[Any]
LOOKS = 5
"""Rounds of the event loop that an answer has at least, however late its timers run"""


class StoreFailed(Exception):
    """No answer. `sent` says whether the request may have reached Redis."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Ask:
    __slots__ = ("at", "future", "payload", "sent")

    def __init__(self, payload: bytes, future: asyncio.Future[Reply], at: float) -> None:
        self.payload = payload
        self.future = future
        self.at = at
        self.sent = False

    def fail(self, failed: StoreFailed) -> None:
        if not self.future.done():
            self.future.set_exception(failed)


class Lane:
    """One queue of asks that share script calls: the whole store, or one partition of a cluster.

    At most `in_flight` calls are under way, so that under load batches grow instead of connections. A call that is not answered in
    `answer_s` fails, and with it all that queued behind it; at most `waiting` asks queue up: a hung store cannot pile up calls.
    """

    def __init__(
        self,
        send: Callable[[list[bytes]], Awaitable[list[Reply]]],
        *,
        answer_s: float,
        in_flight: int = 2,
        batch: int = 64,
        waiting: int = 4096,
        longest_wait_s: float = 2.0,
    ) -> None:
        self._send = send
        self._answer_s, self._longest_wait_s = answer_s, longest_wait_s
        self._most_in_flight, self._batch, self._waiting = in_flight, batch, waiting
        self._queue: deque[Ask] = deque()
        self._in_flight = 0
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, payload: bytes, abandoned: Callable[[], None]) -> Reply:
        """The script's answer to one request. Raises StoreFailed. When the asker is cancelled, an unsent request is withdrawn, and for
        a sent one, which may take effect all the same, `abandoned` is called."""
        if len(self._queue) >= self._waiting:
            raise StoreFailed("too many calls are waiting for the budget store", sent=False)
        loop = asyncio.get_running_loop()
        ask = Ask(payload, loop.create_future(), loop.time())
        self._queue.append(ask)
        if not self._scheduled and self._in_flight < self._most_in_flight:
            self._scheduled = True
            loop.call_soon(self._flush)
        try:
            return await ask.future
        except asyncio.CancelledError:
            if ask.sent:
                abandoned()
            raise

    def _flush(self) -> None:
        self._scheduled = False
        while self._queue and self._in_flight < self._most_in_flight:
            batch = self._next_batch()
            if batch:
                self._in_flight += 1
                task = asyncio.ensure_future(self._carry(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next_batch(self) -> list[Ask]:
        since = asyncio.get_running_loop().time() - self._longest_wait_s
        batch: list[Ask] = []
        while self._queue and len(batch) < self._batch:
            ask = self._queue.popleft()
            if ask.at < since:
                ask.fail(StoreFailed("the budget store is overloaded", sent=False))
            elif not ask.future.done():  # not withdrawn while it waited
                ask.sent = True
                batch.append(ask)
        return batch

    async def _answered(self, payloads: list[bytes]) -> list[Reply]:
        """The answer, or TimeoutError after `answer_s` in which this loop was free to read it: a process that is short of CPU finds its
        timers due before it has looked at its sockets, and must not blame Redis for that."""
        sending = asyncio.ensure_future(self._send(payloads))
        try:
            for _ in range(LOOKS):
                await asyncio.wait((sending,), timeout=self._answer_s / LOOKS)
                if sending.done():
                    return sending.result()
            raise TimeoutError(f"no answer within {self._answer_s} s")
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait((sending,))

    async def _carry(self, batch: list[Ask]) -> None:
        try:
            replies = await self._answered([ask.payload for ask in batch])
        except (TimeoutError, RedisError, OSError) as error:
            why = f"{type(error).__name__}: {error}"
            for ask in batch:
                ask.fail(StoreFailed(why, sent=True))
            if isinstance(error, TimeoutError | RedisTimeoutError):
                while self._queue:
                    self._queue.popleft().fail(StoreFailed(why, sent=False))
        else:
            for ask, reply in zip(batch, replies, strict=True):
                if not ask.future.done():
                    ask.future.set_result(reply)
        finally:
            for ask in batch:  # whatever went wrong, nobody waits for ever
                ask.fail(StoreFailed("the script call failed", sent=True))
            self._in_flight -= 1
            self._flush()
