"""From the client to the provider: events pass in their order, and none that can cost money passes without a hold.

Only two things are changed in them: a `response.create` or `session.update` gets an `event_id` where it has none, so that a refusal of it can be told
from others, and under a hard budget output limits above what is held are lowered (docs/adr/0015).

What is read waits in a queue for what is sent: so a client that leaves, a restart, and a `response.cancel` are noticed while an event waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import orjson

from gateway import jsonbody
from gateway.errors import BadRequest, GatewayError, ModelNotPriced
from gateway.realtime import conversation as talk
from gateway.realtime import events
from gateway.realtime.asking import Asking
from gateway.realtime.bounds import MOST_EVENTS_PER_S, MOST_WAITING_BYTES, RESTART
from gateway.realtime.bursts import pieces
from gateway.realtime.client import Client
from gateway.realtime.closing import Ended, closing_of
from gateway.realtime.turns import Turns
from gateway.upstream import Socket, UpstreamFailure
from guardrails.domain.refusals import RateLimited, Refusal, Throttled
from workspaces.ids import uuid7_text


class Pace:
    """At most so many events in each second of the clock; more wait for the next."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counted = self._second = 0

    def wait_s(self, now: float) -> float:
        """One more event came: for how long it waits."""
        if int(now) > self._second:
            self._counted, self._second = 0, int(now)
        self._counted += 1
        if self._counted <= self._most:
            return 0.0
        self._counted, self._second = 1, self._second + 1
        return self._second - now


_CANCEL = b'"response.cancel"'


class Upward:
    def __init__(self, turns: Turns, client: Client, socket: Socket, asking: Asking) -> None:
        self._turns, self._client, self._socket = turns, client, socket
        self._asking = asking
        self._talk = turns.talk
        self._queue: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._moved = asyncio.Event()
        """Set by everything that enters or leaves the queue."""
        self.stirred_at = 0.0

    async def run(self) -> Ended | None:
        """Until the client has left, or sends what ends the session; None: the process stops."""
        sender, asker = asyncio.ensure_future(self._send_all()), asyncio.ensure_future(self._asking.run())
        reader = asyncio.ensure_future(self._read_all())
        try:
            done, _ = await asyncio.wait((reader, sender, asker), return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in (sender, asker, reader) if task in done).result()
        finally:
            for task in (reader, sender, asker):
                task.cancel()
            await asyncio.gather(reader, sender, asker, return_exceptions=True)

    # --- Reading ------------------------------------------------------------------------------------------------------

    async def _read_all(self) -> Ended | None:
        loop, pace = asyncio.get_running_loop(), Pace(MOST_EVENTS_PER_S)
        while True:
            message = await self._client.receive()
            if message["type"] == RESTART:
                return None
            if message["type"] != "websocket.receive":
                self._client.gone = True
                return Ended(1000)
            self.stirred_at = now = loop.time()
            if wait_s := pace.wait_s(now):
                await asyncio.sleep(wait_s)
            text = message.get("text")
            if text is None:
                return Ended(
                    1003, BadRequest("Realtime events are JSON text; binary messages are not.", code="invalid_event")
                )
            raw = text.encode()
            if not (_CANCEL in raw[:200] and self._held_up and await self._pass_by(raw)):
                await self._put(raw)

    @property
    def _held_up(self) -> bool:
        """Events wait while a response runs: maybe for its end."""
        return bool(self._turns.holds.running) and (self._turns.waiting or bool(self._queue))

    async def _put(self, raw: bytes) -> None:
        while self._waiting_bytes and self._waiting_bytes + len(raw) > MOST_WAITING_BYTES:
            await self._change()
        self._queue.append(raw)
        self._waiting_bytes += len(raw)
        self._moved.set()

    async def _change(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def _pass_by(self, raw: bytes) -> bool:
        """Stops a response past what waits for its end. False: it is something else."""
        try:
            if events.read(raw)["type"] != "response.cancel":
                return False
            await self._socket.send(raw)
        except (BadRequest, UpstreamFailure):
            return False
        return True

    # --- Sending ------------------------------------------------------------------------------------------------------

    async def _send_all(self) -> Ended:
        while True:
            while not self._queue:
                await self._change()
            raw = self._queue.popleft()
            self._waiting_bytes -= len(raw)
            self._moved.set()
            ended = await self._pass_up(raw)
            if ended is not None:
                return ended

    async def _pass_up(self, raw: bytes) -> Ended | None:
        """One event: passed on, or answered with an error. An end ends the session."""
        event: dict[str, Any] = {}
        try:
            event = events.read(raw)
            if event["type"] == "input_audio_buffer.append" and self._talk.answers_alone and self._turns.party.bounded:
                await self._pass_sound(event, raw)
            else:
                await self._socket.send(await self._admit(event["type"], event, raw))
        except GatewayError as error:
            await self._client.tell_error(error, event.get("event_id"))
        except (RateLimited, Throttled) as refused:
            if self._talk.automatic:
                return closing_of(refused)
            await self._client.tell_error(closing_of(refused).error, event.get("event_id"))
        except Refusal as refused:
            return closing_of(refused)
        except UpstreamFailure as failure:
            return closing_of(failure)
        return None

    async def _pass_sound(self, event: dict[str, Any], raw: bytes) -> None:
        """Sound that the provider may answer by itself, in pieces in which one turn can end, each when every turn that may have ended is held for."""
        sound, silence_ms = event.get("audio"), self._talk.silence_ms
        if not isinstance(sound, str):
            await self._socket.send(await self._admit(event["type"], event, raw))
            return
        self._turns.take_over()
        clock, whole_ms = asyncio.get_running_loop().time, self._talk.length_ms(sound)
        for piece, ms in pieces(sound, whole_ms, silence_ms):
            while (turns := self._turns.bursts.turns(ms, silence_ms, clock())) > 1:
                if self._turns.over.done() or await self._turns.hold_for(turns):
                    break
                self._turns.waiting = True
                await asyncio.sleep(self._turns.bursts.wait_s(silence_ms, clock()))
                self._turns.waiting = False
            else:
                await self._turns.hold_no_more_than(1)
            part = event if piece is sound else {**event, "audio": piece}
            sent = await self._admit(event["type"], part, raw if piece is sound else orjson.dumps(part))
            await self._socket.send(sent)
            self._turns.bursts.passed(ms, clock())

    async def _admit(self, kind: str, event: dict[str, Any], raw: bytes) -> bytes:
        """Holds what the event may cost; returns the bytes to send. Raises Refusal, GatewayError, UpstreamFailure."""
        raw = self._allowed(kind, event, raw)
        if kind in talk.FREE:
            return raw
        if (kind == "response.create" or kind in talk.UPDATES) and type(event.get("event_id")) is not str:
            event["event_id"] = "sluice_" + uuid7_text()
            raw = jsonbody.with_value(raw, "event_id", event["event_id"])
        self._talk.client(kind, event, len(raw))
        if kind == "response.create":
            return await self._claim(event, raw)
        if kind == "input_audio_buffer.commit":
            self._turns.beliefs.committing()
        try:
            if self._talk.automatic:
                await self._turns.hold_or_wait()
        except (Refusal, GatewayError):
            if kind in talk.UPDATES:
                self._talk.not_updated()
            raise
        if kind in talk.UPDATES:
            self._turns.updates.append(event["event_id"])
            if self._turns.beliefs.update(event, bounded=self._turns.party.bounded):
                raw = orjson.dumps(event)
        return raw

    def _allowed(self, kind: str, event: dict[str, Any], raw: bytes) -> bytes:
        """The event as it may be sent. Raises BadRequest, NotAllowed for what may not."""
        session, party = event.get("session"), self._turns.party
        if isinstance(session, dict):
            self._of_this_kind(session)
        if self._talk.hears_only:
            if kind == "response.create":
                raise BadRequest("Nothing answers in a transcription session.", code="not_offered")
            named = talk.transcriber_of(session) if isinstance(session, dict) else None
            if named:
                party.hear(named)
        if not party.bounded:
            return raw
        reason = talk.refused_reason(kind, event)
        if reason:
            raise ModelNotPriced(f"Under a hard budget this event is not sent: {reason}.")
        place = {"session.update": "session", "response.create": "response"}.get(kind)
        return raw if place is None else events.lowered(raw, event, place, party.most_output)

    def _of_this_kind(self, session: dict[str, Any]) -> None:
        """A session stays of the kind that it was opened as: the two are billed by different models. Raises BadRequest."""
        wanted = session.get("type")
        if wanted == talk.TRANSCRIPTION and not self._talk.hears_only:
            raise BadRequest(
                "This session is a conversation.",
                code="not_offered",
                param="session.type",
                hint="Open a transcription session with ?intent=transcription.",
            )
        if self._talk.hears_only and isinstance(wanted, str) and wanted != talk.TRANSCRIPTION:
            raise BadRequest("This is a transcription session.", code="not_offered", param="session.type")

    async def _claim(self, event: dict[str, Any], raw: bytes) -> bytes:
        """A response that the client asks for."""
        own, limit = talk.limit_of(event)
        if len(self._turns.claims) >= 32:
            raise BadRequest("Too many responses are asked for and have not begun.", code="too_many_responses")
        apart = talk.is_out_of_band(event.get("response"))
        taken = await self._turns.claim(event["event_id"], apart=apart, limit=limit, own_limit=own)
        if taken is not None and taken.admitted.clamped:
            raw = events.lowered(raw, event, "response", taken.admitted.output_limit or 1, set_it=True)
        return raw
