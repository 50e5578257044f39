"""From the provider to the client: events pass unchanged, and those that tell what was generated are read along.

It reads until the provider's side has ended, also after the session has: what was still generated is on the bill.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import orjson

from gateway.errors import GatewayError, ProviderBadResponse
from gateway.providers.dialect import Reading
from gateway.realtime import conversation as talk
from gateway.realtime import events
from gateway.realtime.asking import Asking
from gateway.realtime.client import Client
from gateway.realtime.closing import Ended, closing_of
from gateway.realtime.holds import Told
from gateway.realtime.turns import OUR_LIMIT, OUR_SILENCE, OUR_TURNS, Turns
from gateway.upstream import Socket, UpstreamFailure
from guardrails.domain.refusals import Refusal

MOST_TRANSCRIPTS = 1_000


class Downward:
    def __init__(self, turns: Turns, client: Client, socket: Socket, asking: Asking) -> None:
        self._turns, self._client, self._socket = turns, client, socket
        self._asking = asking
        self._talk = turns.talk
        self.opened = asyncio.Event()
        """The provider has said what it starts with: the client may speak."""
        self._moved = asyncio.Event()
        self._transcripts: list[dict[str, Any]] = []
        self._transcribed_ms = 0
        """Sound whose transcripts' bill waits to be booked, at most"""
        self._sound: dict[str, int] = {}
        """Of a transcription session: the length of what is being transcribed, in ms, by item"""
        self._unstated = False
        """A transcript came without saying what it cost."""
        self.stirred_at = 0.0

    async def run(self) -> None:
        """Ends when the provider's side has."""
        loop = asyncio.get_running_loop()
        try:
            while (raw := await self._socket.receive()) is not None:
                self.stirred_at = loop.time()
                await self._pass_down(raw)
                self._moved.set()
            self._turns.finish(self._goodbye())
        except (UpstreamFailure, Refusal, GatewayError) as failure:
            self._turns.finish(closing_of(failure))
        finally:
            self._moved.set()

    async def more(self) -> None:
        """Until the provider has said something more, or has left."""
        self._moved.clear()
        await self._moved.wait()

    def _goodbye(self) -> Ended:
        """As the provider's side ended, so does the client's."""
        code = self._socket.close_code
        code = 1000 if code == 1005 else code  # closed properly, without saying why
        return Ended(code if code in (1000, 1001) or 3000 <= code < 5000 else 1014, reason=self._socket.close_reason)

    async def _pass_down(self, raw: bytes) -> None:
        kind, event = events.told(raw)
        if kind == "response.created":
            await self._created(event)
        elif self._talk.hears_only and kind == "input_audio_buffer.committed":
            name = _item_of(event)
            self._sound[name] = self._talk.buffer_ms
            await self._turns.began(name)
        elif kind == "input_audio_buffer.committed":
            if self._talk.answers_alone:
                self._turns.bursts.heard(asyncio.get_running_loop().time())
        elif kind == "error" and (mine := events.refused_event(event)):
            self._declined(mine)
            if mine == OUR_TURNS or self._asking.is_declined(event):
                self._asking.note(kind, event)
                return
        elif kind == talk.TRANSCRIBED and not self._talk.hears_only:
            self._note_transcript(event)
        self._talk.provider(kind, event, len(raw))
        await self._client.tell(self._turns.beliefs.settings(kind, event, raw) if kind in talk.SETTINGS else raw)
        self._asking.note(kind, event)
        if kind == "response.done":
            await self._done(event)
            self._asking.note(kind, event)
        elif kind in talk.OPENINGS:
            await self._start()
        elif self._talk.hears_only and kind in (talk.TRANSCRIBED, talk.NOT_TRANSCRIBED):
            await self._heard(kind, event)
        elif "response_id" in event:
            self._note_output(event, kind)

    def _declined(self, mine: str) -> None:
        """The provider does not do what an event asked for."""
        turns = self._turns
        turns.beliefs.declined(mine)
        if mine == OUR_LIMIT:
            told = "The provider does not take the output limit that this session needs."
            turns.finish(Ended(4502, ProviderBadResponse(told)))
        elif mine in turns.claims:
            turns.unclaim(mine)
        elif mine in (OUR_SILENCE, OUR_TURNS):
            self._talk.not_updated()
        elif mine in turns.updates:
            turns.updates.remove(mine)
            self._talk.not_updated()

    async def _start(self) -> None:
        """The session is open: from here on the client may speak."""
        if self.opened.is_set():
            return
        party = self._turns.party
        if not self._talk.hears_only and (party.bounded or party.grant.key.output_limit):
            most = min([party.most_output, *self._turns.holds.clamped_to])
            if self._talk.limit is None or self._talk.limit > most:
                self._turns.impose(most)
        if not self._talk.hears_only and party.bounded:
            self._turns.take_over()
        self.opened.set()

    # --- Responses ----------------------------------------------------------------------------------------------------

    async def _created(self, event: dict[str, Any]) -> None:
        response, claims = events.response_of(event), self._turns.claims
        apart = talk.is_out_of_band(response)
        claimed = next((one for one, kind in claims.items() if kind == apart), None)
        if claimed is not None:
            del claims[claimed]
        await self._turns.began(str(response.get("id", "")), apart=apart)

    async def _done(self, event: dict[str, Any]) -> None:
        response, turns = events.response_of(event), self._turns
        name, status = str(response.get("id", "")), response.get("status")
        if name not in turns.holds.running:  # its beginning was not told
            await self._created(event)
        held = turns.holds.running[name]
        if self._unstated:
            held.attempt.flags.append("transcription_unstated")
            self._unstated = False
        answered = held.said or status not in ("failed", "cancelled")
        error = events.error_of(response) if status == "failed" else "cancelled" if status == "cancelled" else ""
        reading = None
        if isinstance(usage := response.get("usage"), dict):
            reading = self._reading(orjson.dumps(usage), name)
            reading.nothing_said = not answered
            if not held.attempt.believes(reading):
                reading = None
            elif self._transcripts:
                bill: dict[str, Any] = {"type": "response.done", "response": {"usage": usage}}
                reading.raw_usage = orjson.dumps([bill, *self._transcripts])
                self._booked_transcripts()
        if reading is not None and status == "cancelled":
            error = ""
        free = reading is None and not answered
        await turns.ended(name, partial(turns.holds.settle, name, reading, error, unbilled=free))

    def _note_output(self, event: dict[str, Any], kind: str) -> None:
        held = self._turns.holds.running.get(str(event["response_id"]))
        if held is not None and not held.said and kind.endswith(".delta"):
            held.said = True
            held.attempt.first_byte_at = time.perf_counter()

    # --- Transcripts --------------------------------------------------------------------------------------------------

    def _note_transcript(self, event: dict[str, Any]) -> None:
        """Billed with the next response, or alone at the end."""
        usage = event.get("usage")
        if not isinstance(usage, dict):
            self._unstated = True
        elif len(self._transcripts) < MOST_TRANSCRIPTS:
            self._transcripts.append({"type": talk.TRANSCRIBED, "model": self._talk.transcriber, "usage": usage})
            self._transcribed_ms += self._talk.committed_ms + talk.LATE_MS

    async def _heard(self, kind: str, event: dict[str, Any]) -> None:
        """Of a transcription session: each piece of sound has a line of its own."""
        name, holds, usage = _item_of(event), self._turns.holds, event.get("usage")
        if name not in holds.running:  # its beginning was not told
            await self._turns.began(name)
        reading = None
        if isinstance(usage, dict):
            bill = {"type": talk.TRANSCRIBED, "model": self._talk.transcriber, "usage": usage}
            reading = self._reading(orjson.dumps([bill]), name)
            if not holds.running[name].attempt.believes(reading):
                reading = None
        if reading is None and kind == talk.TRANSCRIBED:
            holds.shrink(name, self._talk.heard(self._sound.get(name, self._talk.committed_ms) + talk.LATE_MS))
        self._sound.pop(name, None)
        free = kind == talk.NOT_TRANSCRIBED
        await self._turns.ended(
            name, partial(holds.settle, name, reading, "transcription_failed" if free else "", unbilled=free)
        )

    def left(self) -> Told | None:
        """The bills of transcripts that came after the last response."""
        if not self._transcripts:
            return None
        return Told(self._reading(orjson.dumps(self._transcripts), ""), self._talk.heard(self._transcribed_ms))

    def _booked_transcripts(self) -> None:
        self._transcripts.clear()
        self._transcribed_ms = 0

    def _reading(self, usage: bytes, name: str) -> Reading:
        model = self._talk.transcriber if self._talk.hears_only else self._talk.model
        said = {"model": model or self._turns.party.route.model, "id": name[:200]}
        return Reading(said=said, raw_usage=usage, ended=True)


def _item_of(event: dict[str, Any]) -> str:
    return str(event.get("item_id", ""))
