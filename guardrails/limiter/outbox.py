"""Finishes on their way: kept in order and repeated until Redis has answered, off the client's path.

If the process dies with finishes unanswered, their holds expire and are charged as assumed: never under-counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice

from guardrails.limiter.lanes import Reply, Start
from guardrails.limiter.wire import Asking, FinishRequest, encode

log = logging.getLogger(__name__)

BATCH = 96
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
MOST_SCRIPT_ERRORS = 20
REMEMBERED = 16_384
"""Answered finishes that one process keeps until the books have them. More than that unread by the ledger, and a loss of the money Redis at that
moment loses the oldest."""


class Parcel:
    """One finish and who waits for its answer."""

    __slots__ = ("answered", "epoch", "errors", "hold", "payload", "request", "seq", "sure", "workspace_id")

    def __init__(
        self,
        workspace_id: int,
        request: FinishRequest,
        answered: asyncio.Future[str],
        hold: Asking | None = None,
        *,
        sure: bool = True,
    ) -> None:
        self.workspace_id = workspace_id
        self.request = request
        self.payload = encode(request)
        self.answered = answered
        self.errors = 0
        self.hold = hold
        """What it ends, kept for the case that Redis forgets both"""
        self.sure = sure
        """Redis said yes to the hold"""
        self.epoch = self.seq = 0
        """Of the answer: the event is in the books when they have seen this number of this epoch"""

    def resolve(self, outcome: str) -> None:
        if not self.answered.done():
            self.answered.set_result(outcome)


class Memory:
    """Answered finishes that the books may not have yet: what a rebuild asks for."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._kept: dict[int, deque[Parcel]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, parcel: Parcel) -> None:
        parcel.payload = b""  # presented again, it is made anew
        kept = self._kept.get(parcel.workspace_id)
        if kept is None:
            kept = self._kept[parcel.workspace_id] = deque()
        kept.append(parcel)
        self._count += 1
        if self._count > self._most:
            longest = max(self._kept, key=lambda workspace_id: len(self._kept[workspace_id]))
            log.error(
                "the books are %d calls behind; what they have not read is lost if the money Redis is", self._count
            )
            for _ in range(self._most // 16):
                self._drop_oldest(longest)

    def of(self, workspace_id: int) -> list[Parcel]:
        return list(self._kept.get(workspace_id, ()))

    def workspaces(self) -> set[int]:
        return set(self._kept)

    def forget(self, workspace_id: int, booked: Callable[[Parcel], bool]) -> None:
        """Drop the oldest ones, up to the first that is not booked."""
        while (kept := self._kept.get(workspace_id)) and booked(kept[0]):
            self._drop_oldest(workspace_id)

    def _drop_oldest(self, workspace_id: int) -> None:
        kept = self._kept.get(workspace_id)
        if kept:
            kept.popleft()
            self._count -= 1
        if not kept:
            self._kept.pop(workspace_id, None)


class Outbox:
    """The finishes of one lane. `handle(parcel, reply)` says whether the parcel is done (True) or must be sent again (False)."""

    def __init__(
        self,
        start: Start,
        handle: Callable[[Parcel, Reply], bool],
    ) -> None:
        self._start, self._handle = start, handle
        self.queue: deque[Parcel] = deque()
        """Those without an answer"""
        self.memory = Memory()
        self._busy = False
        """A batch is under way, or its repetition is set"""
        self._pause_s = FIRST_PAUSE_S

    def put(self, parcel: Parcel) -> None:
        self.queue.append(parcel)
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._flush)  # the rest of this event-loop turn joins

    def waiting(self, workspace_id: int) -> list[Parcel]:
        """Those without an answer."""
        return [parcel for parcel in self.queue if parcel.workspace_id == workspace_id]

    def workspaces(self) -> set[int]:
        """Those with finishes waiting, or answered and perhaps not booked."""
        return {parcel.workspace_id for parcel in self.queue} | self.memory.workspaces()

    def _flush(self) -> None:
        batch = list(islice(self.queue, BATCH))
        self._busy = bool(batch)
        if batch:
            self._start([parcel.payload for parcel in batch], partial(self._answer, batch))

    def _answer(self, batch: list[Parcel], replies: list[Reply] | None, error: Exception | None) -> None:
        self._busy = False  # whatever comes, the next parcel starts again
        if replies is None or len(replies) != len(batch):
            log.warning("the money Redis does not take finishes (%s); %d wait", type(error).__name__, len(self.queue))
            waiting = batch
        else:
            for _ in batch:
                self.queue.popleft()
            waiting = self._handled(batch, replies)
            self.queue.extend(waiting)
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
        waiting = []
        for parcel, reply in zip(batch, replies, strict=True):
            if reply[0] == b"ERROR":
                parcel.errors += 1
                if parcel.errors >= MOST_SCRIPT_ERRORS:
                    log.critical("finish of %s given up, its hold will expire: %r", parcel.request.rid, reply[1][:200])
                    parcel.resolve("error")
                    continue
                waiting.append(parcel)
            elif not self._handle(parcel, reply):
                waiting.append(parcel)
        return waiting
