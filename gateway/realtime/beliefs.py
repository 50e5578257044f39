"""What the client believes of who answers its turns, and what the provider was told instead (docs/adr/0026). Pure.

Under a hard budget the provider's `create_response` is turned off, and the client sees it as it set it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.realtime.conversation import OPENINGS, detection_of

MOST_REMEMBERED = 64
MOST_SENT = 1_000


class Beliefs:
    def __init__(self) -> None:
        self._wanted = False
        """The client expects that its turns are answered without being asked for."""
        self._off = False
        """The provider has said that it does not answer by itself, because it was told so."""
        self._sent: deque[tuple[str, bool]] = deque(maxlen=MOST_SENT)
        """Updates that the provider has not answered, in their order: (event id, whether it turns the answers off)."""
        self._how: dict[str, Any] | None = None
        """As the provider stated it last"""
        self.known = True
        """The provider has the switch, as far as anybody knows."""
        self._before: dict[str, bool] = {}
        self._stopped: dict[str, None] = {}
        self._commits = 0

    # --- Settings -----------------------------------------------------------------------------------------------------

    def turn_off(self) -> dict[str, Any] | None:
        """The turn detection that the provider has stated, with the answers turned off, to be sent; None: there is nothing to turn off."""
        how = self._how
        if not self.known or any(off for _, off in self._sent) or how is None or not _answers(how):
            return None
        return {**{name: value for name, value in how.items() if value is not None}, "create_response": False}

    def sent(self, event_id: str, *, off: bool = False) -> None:
        """An update of the gateway's own is on its way."""
        self._sent.append((event_id, off))

    def update(self, event: dict[str, Any], *, bounded: bool) -> bool:
        """A client's `session.update` that is about to be sent. Returns whether it was changed, as it is under a hard budget."""
        event_id = str(event.get("event_id"))
        found, how = detection_of(event.get("session"))
        off = False
        if found:
            if len(self._before) < MOST_REMEMBERED:
                self._before[event_id] = self._wanted
            self._wanted = how is not None and how.get("create_response") is not False
            if bounded and self.known and how is not None and _answers(how):
                how["create_response"], off = False, True
        self.sent(event_id, off=off)
        return off

    def declined(self, event_id: str) -> None:
        """The provider does not take that update."""
        self._wanted = self._before.pop(event_id, self._wanted)
        for one in self._sent:
            if one[0] == event_id:
                self._sent.remove(one)
                break

    def settings(self, kind: str, event: dict[str, Any], raw: bytes) -> bytes:
        """What the provider says that the settings are, as the client is told it."""
        found, how = detection_of(event.get("session"))
        if found:
            self._how = how
        answers = how is not None and how.get("create_response") is not False
        if kind in OPENINGS:
            self._wanted = answers
            return raw
        event_id, told = self._sent.popleft() if self._sent else ("", False)
        self._before.pop(event_id, None)
        if told and how is not None and _answers(how):
            self.known = False
        self._off = self._wanted and how is not None and not answers
        if not self._off or how is None:
            return raw
        self._how = dict(how)
        how["create_response"] = True
        return orjson.dumps(event)

    # --- Turns --------------------------------------------------------------------------------------------------------

    def committing(self) -> None:
        """The client commits its sound itself: that asks for nothing."""
        self._commits += 1

    def heard(self, kind: str, event: Mapping[str, Any]) -> bool:
        """Whether this event of the provider's tells of a turn that an answer is now to be asked for: its end, not its beginning."""
        item = str(event.get("item_id", ""))
        if kind == "input_audio_buffer.speech_stopped":
            if len(self._stopped) >= MOST_REMEMBERED:
                self._stopped.pop(next(iter(self._stopped)))
            self._stopped[item] = None
            return False
        if kind != "input_audio_buffer.committed":
            return False
        if item in self._stopped:
            del self._stopped[item]
        elif self._commits:
            self._commits -= 1
            return False
        return self._off


def _answers(how: Mapping[str, Any]) -> bool:
    """It answers by itself, and the gateway can do so in its place: a response that comes because nobody speaks cannot be asked for by us."""
    return how.get("create_response") is not False and how.get("idle_timeout_ms") is None
