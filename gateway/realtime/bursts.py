"""Sound that comes faster than it was spoken: how many turns can end in it that the provider has not told of yet.

A turn ends with a silence of a known length, so that in sound of length L at most 1 + L // silence turns end. Where the provider answers by itself
and a hard budget applies, sound passes in pieces in which one turn can end, and the next piece passes when a hold stands for every turn that may
have ended in what was sent a moment ago (docs/adr/0015). Live speech is never kept waiting: its pieces are as long as the time between them. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

SILENCE_MS = 500
"""Of OpenAI's `server_vad` where nothing else is set."""
SHORTEST_SILENCE_MS = 100
ANSWERED_WITHIN_S = 0.4
"""A turn's end is told within this, or within four fifths of the silence where that is shorter: older sound holds no turn that nobody told of."""
LONGEST_TURN_WAIT_S = 10.0
"""A turn that was heard, and that no answer has begun for since, gets none."""
MOST_AHEAD = 4
"""Turns that are held for at once; more wait."""
QUANTUM = 8
"""Characters of base64 whose bytes are whole samples of every format."""


class Bursts:
    def __init__(self) -> None:
        self._passed: deque[tuple[float, int]] = deque()
        self._heard: deque[float] = deque()

    def turns(self, ms: int, silence_ms: int, now: float) -> int:
        """How many turns may begin to be answered once a piece of `ms` has passed, too."""
        within = min(ANSWERED_WITHIN_S, silence_ms * 0.0008)
        while self._passed and self._passed[0][0] <= now - within:
            self._passed.popleft()
        while self._heard and self._heard[0] <= now - LONGEST_TURN_WAIT_S:
            self._heard.popleft()
        sound = ms + sum(length for _, length in self._passed)
        return len(self._heard) + 1 + max(0, sound - 1) // silence_ms

    def wait_s(self, silence_ms: int, now: float) -> float:
        """Until the oldest piece counts no more."""
        within = min(ANSWERED_WITHIN_S, silence_ms * 0.0008)
        return max(0.0, self._passed[0][0] + within - now) if self._passed else ANSWERED_WITHIN_S

    def passed(self, ms: int, now: float) -> None:
        self._passed.append((now, ms))

    def heard(self, now: float) -> None:
        """The provider has heard a turn to its end."""
        self._heard.append(now)

    def answered(self) -> None:
        """A response has begun."""
        if self._heard:
            self._heard.popleft()


def pieces(sound: str, ms: int, silence_ms: int) -> Iterator[tuple[str, int]]:
    """Base64 sound of `ms` in pieces of at most one turn's silence, each with its length in ms."""
    if ms <= silence_ms or len(sound) < 2 * QUANTUM:
        yield sound, ms
        return
    size = max(QUANTUM, len(sound) * silence_ms // ms // QUANTUM * QUANTUM)
    for start in range(0, len(sound), size):
        piece = sound[start : start + size]
        yield piece, -(-ms * len(piece) // len(sound))
