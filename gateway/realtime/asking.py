"""Turns that the provider hears to their end and that the gateway asks an answer for: under a hard budget no response begins by itself.

The provider's own `create_response` is turned off and its voice activity detection stays on. A turn's end is told all the same (its sound is
committed); then a hold is taken and `response.create` sent, in the place of which the provider would have answered. The client sees the settings that
it asked for and the events that it would have seen (docs/adr/0026). A provider that does not know the switch goes on answering by itself, and a hold
stands ahead for it as elsewhere (docs/adr/0015).
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.errors import GatewayError
from gateway.realtime.closing import Ended, closing_of
from gateway.realtime.events import refused_event
from gateway.realtime.turns import Turns
from gateway.upstream import UpstreamFailure
from guardrails.domain.refusals import Refusal
from workspaces.ids import uuid7_text

OURS = "sluice_turn_"
ALREADY = "conversation_already_has_active_response"


class Asking:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._owed = False
        """A turn was heard that no answer was asked for yet. What is said until one is asked for is answered by the same."""
        self._stirred = asyncio.Event()

    def note(self, kind: str, event: dict[str, Any]) -> None:
        """An event of the provider's that may be the end of a turn, or of a response."""
        if kind.startswith("input_audio_buffer.") and self._turns.beliefs.heard(kind, event):
            self._owed = True
        self._stirred.set()

    def is_declined(self, event: dict[str, Any]) -> bool:
        """An answer that we asked for comes later, because one is under way: nothing that the client is told."""
        error = event.get("error")
        if not (isinstance(error, dict) and refused_event(event).startswith(OURS) and error.get("code") == ALREADY):
            return False
        self._owed = True
        return True

    async def run(self) -> Ended:
        """Until what it has to ask for is refused."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            if not self._owed or not self._turns.free_to_ask:
                continue
            self._owed = False
            try:
                await self._ask()
            except (Refusal, GatewayError, UpstreamFailure) as refused:
                return closing_of(refused)

    async def _ask(self) -> None:
        name = OURS + uuid7_text()
        event: dict[str, Any] = {"type": "response.create", "event_id": name}
        taken = await self._turns.claim(name, apart=False, patient=True)
        if taken is not None and taken.admitted.clamped:
            event["response"] = {self._turns.talk.limit_field: taken.admitted.output_limit or 1}
        try:
            self._turns.say(event)
        except UpstreamFailure:  # nothing was sent, nothing is billed
            self._turns.unclaim(name)
            raise
