"""The circuit breaker of one credential. Pure: time is an argument, in seconds of any steady clock; there are no timers.

closed --(failures in a row, or a share of failures in the window)--> open --(its time is over)--> half-open: one probe may pass
half-open --(the probe succeeds)--> closed, --(it fails)--> open, twice as long. A probe that never reports is forgotten after `PROBE_S`.
"""

from __future__ import annotations

from enum import StrEnum

IN_A_ROW = 5
WINDOW_S = 30.0
BUCKETS = 6
LEAST_OUTCOMES = 20
FAILING_SHARE = 0.5
OPEN_S, LONGEST_OPEN_S = 5.0, 60.0
PROBE_S = 60.0


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Made at a credential's first failure, so the successes before it are not in its window; dropped when `is_idle`."""

    __slots__ = ("_counts", "_in_a_row", "_last_at", "_open_s", "_open_until", "_probe_until", "_slot")

    def __init__(self, now: float) -> None:
        self._counts = [[0, 0] for _ in range(BUCKETS)]
        """Per slice of the window: successes, failures."""
        self._slot = int(now / WINDOW_S * BUCKETS)
        self._in_a_row = 0
        self._open_s = OPEN_S
        self._open_until = 0.0
        """0: closed."""
        self._probe_until = 0.0
        self._last_at = now

    def state(self, now: float) -> State:
        if not self._open_until:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """How long nobody may be sent; 0: now is fine."""
        if not self._open_until:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        return max(0.0, min(self._probe_until - now, OPEN_S))

    def enter(self, now: float) -> bool:
        """Whether an attempt may be sent now. In half-open the one that hears yes is the probe."""
        if self.wait_s(now):
            return False
        if self._open_until:
            self._probe_until = now + PROBE_S
        return True

    def succeeded(self, now: float) -> None:
        if self.state(now) is State.HALF_OPEN:
            self._close()
        elif not self._open_until:  # an answer from before it opened says nothing about now
            self._in_a_row = 0
            self._count(now, 0)

    def failed(self, now: float) -> bool:
        """Returns whether this failure opened it."""
        self._last_at = now
        state = self.state(now)
        if state is State.OPEN:
            return False
        if state is State.HALF_OPEN:
            self._open_s = min(self._open_s * 2, LONGEST_OPEN_S)
            self._open(now)
            return True
        self._in_a_row += 1
        self._count(now, 1)
        good, bad = (sum(counts[kind] for counts in self._counts) for kind in (0, 1))
        if self._in_a_row >= IN_A_ROW or (good + bad >= LEAST_OUTCOMES and bad >= (good + bad) * FAILING_SHARE):
            self._open(now)
            return True
        return False

    def is_idle(self, now: float) -> bool:
        """Closed, and nothing has failed for a whole window: there is nothing to remember."""
        return not self._open_until and now - self._last_at > WINDOW_S

    def _open(self, now: float) -> None:
        self._open_until = now + self._open_s
        self._probe_until = 0.0

    def _close(self) -> None:
        self._open_until = self._probe_until = 0.0
        self._open_s = OPEN_S
        self._in_a_row = 0
        self._counts = [[0, 0] for _ in range(BUCKETS)]

    def _count(self, now: float, kind: int) -> None:
        slot = int(now / WINDOW_S * BUCKETS)
        for passed in range(self._slot + 1, min(slot, self._slot + BUCKETS) + 1):
            self._counts[passed % BUCKETS] = [0, 0]
        self._slot = max(slot, self._slot)
        self._counts[self._slot % BUCKETS][kind] += 1
