"""Finishes on their way: kept in order and repeated until Redis has answered, off the client's path.

If the process dies with finishes unanswered, their holds expire and are charged as assumed: never under-counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from guardrails.limiter.lanes import Reply, Start
from guardrails.limiter.wire import AdmitRequest, FinishRequest, encode

log = logging.getLogger(__name__)

BATCH = 96
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
MOST_SCRIPT_ERRORS = 20
REMEMBERED_S = 30.0
"""How long an answered finish is remembered, to be repeated if Redis loses its last seconds: longer than `appendfsync everysec` can lose,
and than the ledger usually lags"""
REMEMBERED = 8192


class Parcel:
    """One finish and who waits for its answer."""

    __slots__ = ("answered", "errors", "hold", "payload", "request", "workspace_id")

    def __init__(self, workspace_id: int, request: FinishRequest, answered: asyncio.Future[str]) -> None:
        self.workspace_id = workspace_id
        self.request = request
        self.payload = encode(request)
        self.answered = answered
        self.errors = 0
        self.hold: AdmitRequest | None = None
        """What it ends, kept for the case that Redis forgets both"""

    def resolve(self, outcome: str) -> None:
        if not self.answered.done():
            self.answered.set_result(outcome)


class Outbox:
    """The finishes of one lane. `handle(parcel, reply)` says whether the parcel is done (True) or must be sent again (False)."""

    def __init__(
        self,
        start: Start,
        handle: Callable[[Parcel, Reply], bool],
    ) -> None:
        self._start, self._handle = start, handle
        self._queue: deque[Parcel] = deque()
        self._answered: deque[tuple[float, Parcel]] = deque(maxlen=REMEMBERED)
        self._active: dict[int, float] = {}
        """Workspaces by the time of their last answer: `workspaces` is asked often, and `_answered` is long"""
        self._busy = False
        """A batch is under way, or its repetition is set"""
        self._pause_s = FIRST_PAUSE_S

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, parcel: Parcel) -> None:
        self._queue.append(parcel)
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._flush)  # the rest of this event-loop turn joins

    def recently_answered(self, workspace_id: int) -> list[Parcel]:
        """What Redis answered in its last seconds: to be repeated after it lost them."""
        return [parcel for parcel in self._recent() if parcel.workspace_id == workspace_id]

    def workspaces(self) -> set[int]:
        """Those with finishes waiting or lately answered."""
        since = time.monotonic() - REMEMBERED_S
        self._active = {workspace_id: at for workspace_id, at in self._active.items() if at >= since}
        return {parcel.workspace_id for parcel in self._queue} | self._active.keys()

    def _recent(self) -> Iterator[Parcel]:
        since = time.monotonic() - REMEMBERED_S
        while self._answered and self._answered[0][0] < since:
            self._answered.popleft()
        return (parcel for _, parcel in self._answered)

    def _flush(self) -> None:
        batch = list(islice(self._queue, BATCH))
        self._busy = bool(batch)
        if batch:
            self._start([parcel.payload for parcel in batch], partial(self._answer, batch))

    def _answer(self, batch: list[Parcel], replies: list[Reply] | None, error: Exception | None) -> None:
        self._busy = False  # whatever comes, the next parcel starts again
        if replies is None or len(replies) != len(batch):
            log.warning("the money Redis does not take finishes (%s); %d wait", type(error).__name__, len(self._queue))
            waiting = batch
        else:
            for _ in batch:
                self._queue.popleft()
            waiting = self._handled(batch, replies)
            self._queue.extend(waiting)
        if waiting:
            self._busy = True
            asyncio.get_running_loop().call_later(self._pause_s, self._flush)
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        else:
            self._pause_s = FIRST_PAUSE_S
            if not self._busy:
                self._flush()

    def _handled(self, batch: list[Parcel], replies: list[Reply]) -> list[Parcel]:
        """Those of a batch that must be sent again."""
        now = time.monotonic()
        waiting = []
        for parcel, reply in zip(batch, replies, strict=True):
            if reply[0] == b"ERROR":
                parcel.errors += 1
                if parcel.errors >= MOST_SCRIPT_ERRORS:
                    log.critical("finish of %s given up, its hold will expire: %r", parcel.request.rid, reply[1][:200])
                    parcel.resolve("error")
                    continue
                waiting.append(parcel)
            elif self._handle(parcel, reply):
                self._answered.append((now, parcel))
                self._active[parcel.workspace_id] = now
            else:
                waiting.append(parcel)
        return waiting
