"""One realtime session: events pass in both directions as they are, and none that can cost money passes without a hold.

Of the client's events the gateway changes only two things: a `response.create` or `session.update` gets an `event_id` where it has none, so
that a refusal of it can be told from others, and under a hard budget output limits above what is held are lowered (docs/adr/0015). What the
provider sends is never changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

import orjson

from billing.domain import realtime
from billing.domain.modalities import image_rule
from gateway import jsonbody
from gateway.edge import Receive, Send
from gateway.errors import BadRequest, GatewayError, ModelNotPriced, ProviderBadResponse
from gateway.providers.dialect import Reading
from gateway.realtime import conversation as talk
from gateway.realtime.bounds import MOST_EVENTS_PER_S, RESTART
from gateway.realtime.closing import Ended, closing_of
from gateway.realtime.conversation import Conversation
from gateway.realtime.holds import Held, Holds, Party
from gateway.upstream import Socket, UpstreamFailure
from guardrails.domain.refusals import RateLimited, Refusal, Throttled
from workspaces.ids import uuid7_text

DRAIN_S = 10.0
"""How long a session that has lost its client waits for the provider to say what was still generated."""
STALL_S = 60.0
LONGEST_WAIT_S = 20.0
"""A rate limit that lets a hold pass within this holds the client back instead of ending the session."""


class Session:
    """`run` returns when both sides are closed and every hold has ended."""

    def __init__(
        self,
        party: Party,
        first: Held | None,
        socket: Socket,
        receive: Receive,
        send: Send,
        idle_s: float,
        total_s: float,
    ) -> None:
        self._party = party
        self._socket = socket
        self._receive = receive
        self._send = send
        self._idle_s = idle_s
        self._total_s = total_s
        rates = party.route.rates
        cap = rates.meta.image_tokens_cap if rates is not None else 0
        picture = image_rule(party.route.provider.name, party.route.model, cap)
        self._talk = Conversation(realtime.window_of(rates), picture.cap)
        self._holds = Holds(party, first)
        self._claims: dict[str, bool] = {}
        """`response.create`s that the provider has not answered: event id -> out of band."""
        self._updates: deque[str] = deque(maxlen=1_000)
        """`session.update`s that may still be declined: event ids."""
        self._in_band: set[str] = set()
        self._transcripts: list[dict[str, Any]] = []
        self._unstated = False
        """A transcript came without saying what it cost."""
        self._lock = asyncio.Lock()
        self._begun = asyncio.Event()
        self._stirred_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._moved = asyncio.Event()
        """Set by every event of the provider's."""
        self._gone = False

    async def run(self) -> None:
        self._stirred_at = self._loop.time()
        upward = asyncio.ensure_future(self._from_client())
        downward = asyncio.ensure_future(self._from_provider())
        watch = asyncio.ensure_future(self._watch())
        tasks = {upward, downward, watch}
        cancelled = False
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(_ending(task) for task in (upward, downward, watch) if task in done)
        except asyncio.CancelledError:  # the server's grace is over
            ended, cancelled = Ended(1012), True
        upward.cancel()
        watch.cancel()
        await asyncio.gather(upward, watch, return_exceptions=True)
        try:
            if not cancelled:
                await self._error(ended.error, None)
                await self._drain(downward)
        except asyncio.CancelledError:
            cancelled = True
        downward.cancel()
        await asyncio.gather(downward, return_exceptions=True)
        self._holds.end(self._told(), len(self._claims), untold=self._talk.untranscribed > 0)
        if cancelled:
            self._socket.abort()
            raise asyncio.CancelledError
        await self._say_goodbye(ended)
        await self._socket.close()

    # --- From the client ----------------------------------------------------------------------------------------------

    async def _from_client(self) -> Ended:
        await self._begun.wait()
        counted, second = 0, 0
        while True:
            message = await self._receive()
            if message["type"] == RESTART:
                return await self._restart()
            if message["type"] != "websocket.receive":
                self._gone = True
                return Ended(1000)
            self._stirred_at = now = self._loop.time()
            counted, second = (counted + 1, second) if int(now) == second else (1, int(now))
            if counted > MOST_EVENTS_PER_S:
                await asyncio.sleep(second + 1 - now)
            text = message.get("text")
            if text is None:
                return Ended(
                    1003, BadRequest("Realtime events are JSON text; binary messages are not.", code="invalid_event")
                )
            ended = await self._pass_up(text.encode())
            if ended is not None:
                return ended

    async def _pass_up(self, raw: bytes) -> Ended | None:
        """One event of the client's: passed on, or answered with an error. An end ends the session."""
        event: dict[str, Any] = {}
        try:
            event = _read(raw)
            async with self._lock:
                raw = await self._admit(event["type"], event, raw)
                await self._socket.send(raw)
        except GatewayError as error:
            await self._error(error, event.get("event_id"))
        except (RateLimited, Throttled) as refused:
            if self._talk.automatic:
                return closing_of(refused)
            await self._error(closing_of(refused).error, event.get("event_id"))
        except Refusal as refused:
            return closing_of(refused)
        except UpstreamFailure as failure:
            return closing_of(failure)
        return None

    async def _admit(self, kind: str, event: dict[str, Any], raw: bytes) -> bytes:
        """Holds what the event may cost; returns the bytes to send. Raises Refusal, BadRequest."""
        raw = self._allowed(kind, event, raw)
        if kind in talk.FREE:
            return raw
        if kind in ("response.create", "session.update") and type(event.get("event_id")) is not str:
            event["event_id"] = "sluice_" + uuid7_text()
            raw = jsonbody.with_value(raw, "event_id", event["event_id"])
        self._talk.client(kind, event, len(raw))
        if kind == "response.create":
            return await self._claim(event, raw)
        try:
            if self._talk.automatic:
                await self._hold()
        except (Refusal, GatewayError):
            if kind == "session.update":
                self._talk.not_updated()
            raise
        if kind == "session.update":
            self._updates.append(event["event_id"])
        return raw

    def _allowed(self, kind: str, event: dict[str, Any], raw: bytes) -> bytes:
        """The event as it may be sent. Raises BadRequest for what may not."""
        session = event.get("session")
        if isinstance(session, dict) and session.get("type") == "transcription":
            raise BadRequest("Transcription sessions are not offered.", code="not_offered", param="session.type")
        if not self._party.bounded:
            return raw
        reason = talk.refused_reason(kind, event)
        if reason:
            raise ModelNotPriced(f"Under a hard budget this event is not sent: {reason}.")
        place = {"session.update": "session", "response.create": "response"}.get(kind)
        return raw if place is None else _lowered(raw, event, place, self._party.most_output)

    async def _claim(self, event: dict[str, Any], raw: bytes) -> bytes:
        """A response that the client asks for."""
        apart = talk.is_out_of_band(event.get("response"))
        own, limit = talk.limit_of(event)
        name = event["event_id"]
        if len(self._claims) >= 32:
            raise BadRequest("Too many responses are asked for and have not begun.", code="too_many_responses")
        self._claims[name] = apart
        try:
            taken = await self._hold(limit=limit, own_limit=own)
        except BaseException:
            del self._claims[name]
            raise
        if taken is not None and taken.admitted.clamped:
            raw = _lowered(raw, event, "response", taken.admitted.output_limit or 1, set_it=True)
        held = self._holds.ready[-1]
        if held.attempt.sent_at == 0.0:
            held.begin()
        return raw

    async def _hold(self, *, limit: int | None = None, own_limit: bool = False) -> Held | None:
        """As many holds wait as responses may begin from here on. A rate limit that passes soon is waited for."""
        automatic = self._talk.automatic
        in_band = any(not apart for apart in self._claims.values())
        count = sum(self._claims.values()) + (1 if in_band or (automatic and not self._in_band) else 0)
        if not count:
            return None
        ahead = self._talk.ahead(room=automatic, limit=limit, own_limit=own_limit)
        until = self._loop.time() + LONGEST_WAIT_S
        while True:
            try:
                taken = await self._holds.ensure(count, ahead)
                break
            except (RateLimited, Throttled) as refused:
                wait_s = refused.retry_after_s or 1
                if not automatic or self._loop.time() + wait_s > until:
                    raise
                await asyncio.sleep(wait_s)
        if taken is not None and taken.admitted.clamped and automatic:
            await self._impose(taken.admitted.output_limit or 1)
        return taken

    async def _impose(self, limit: int) -> None:
        """An output limit of the gateway's own for the whole session."""
        session: dict[str, Any] = {self._talk.limit_field: limit}
        if self._talk.kind:
            session["type"] = self._talk.kind
        event = {"type": "session.update", "event_id": OUR_LIMIT, "session": session}
        await self._socket.send(orjson.dumps(event))
        self._talk.impose(limit)

    # --- From the provider --------------------------------------------------------------------------------------------

    async def _from_provider(self) -> Ended:
        try:
            while (raw := await self._socket.receive()) is not None:
                self._stirred_at = self._loop.time()
                ended = await self._pass_down(raw)
                self._moved.set()
                if ended is not None:
                    return ended
        except UpstreamFailure as failure:
            return closing_of(failure)
        except (Refusal, GatewayError) as refused:
            return closing_of(refused)
        finally:
            self._moved.set()
        code = self._socket.close_code
        code = 1000 if code == 1005 else code  # closed properly, without saying why
        return Ended(code if code in (1000, 1001) or 3000 <= code < 5000 else 1014, reason=self._socket.close_reason)

    async def _pass_down(self, raw: bytes) -> Ended | None:
        event = _object(raw)
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else ""
        if kind == "response.created":
            await self._created(event)
        if kind == "error" and (mine := _event_id_of(event)):
            if mine == OUR_LIMIT:
                return Ended(
                    4502, ProviderBadResponse("The provider does not take the output limit that this session needs.")
                )
            if mine in self._claims:
                del self._claims[mine]
                self._holds.release()
            elif mine in self._updates:
                self._updates.remove(mine)
                self._talk.not_updated()
        self._talk.provider(kind, event, len(raw))
        await self._forward(raw)
        if kind == "response.done":
            await self._done(event)
        elif kind == talk.TRANSCRIBED:
            self._note_transcript(event)
        elif kind == "session.created":
            await self._start()
        elif "response_id" in event:
            self._note_output(event, kind)
        return None

    async def _start(self) -> None:
        """The session is open: from here on the client may speak."""
        async with self._lock:
            if (self._party.bounded or self._party.grant.key.output_limit) and not self._begun.is_set():
                most = self._party.most_output
                if self._talk.limit is None or self._talk.limit > most:
                    await self._impose(most)
            self._begun.set()

    async def _created(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        name = str(response.get("id", "")) if isinstance(response, dict) else ""
        apart = talk.is_out_of_band(response)
        claimed = next((one for one, kind in self._claims.items() if kind == apart), None)
        if claimed is not None:
            del self._claims[claimed]
        if not apart:
            self._in_band.add(name)
        if not self._holds.take(name):  # nobody asked for it: it is held late, or stopped at once
            await self._late(name)

    async def _late(self, name: str) -> None:
        """A response began that nothing was held for (several turns in one burst of sound). Raises Refusal; then it is cancelled."""
        try:
            await self._holds.ensure(1, self._talk.ahead(room=False))
        except (Refusal, GatewayError):
            with contextlib.suppress(UpstreamFailure):
                await self._socket.send(orjson.dumps({"type": "response.cancel", "response_id": name}))
            raise
        self._holds.take(name)

    async def _done(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        name, usage, status = str(response.get("id", "")), response.get("usage"), response.get("status")
        if name not in self._holds.running:  # its beginning was not told
            await self._created(event)
        self._in_band.discard(name)
        held = self._holds.running.get(name)
        error = _error_of(response) if status == "failed" else "cancelled" if status == "cancelled" else ""
        if held is not None and self._unstated:
            held.attempt.flags.append("transcription_unstated")
            self._unstated = False
        reading = None
        if isinstance(usage, dict) and (usage.get("output_tokens") or usage.get("input_tokens")):
            reading = self._reading([{"type": "response.done", "response": {"usage": usage}}, *self._transcripts], name)
            if len(self._transcripts) == 0:
                reading.raw_usage = orjson.dumps(usage)
            self._transcripts.clear()
        async with self._lock:
            unbilled = reading is None and status in ("failed", "cancelled") and not (held and held.said)
            await self._holds.settle(
                name, reading, "" if reading is not None and status == "cancelled" else error, unbilled=unbilled
            )
            if self._talk.automatic and not self._stopping and not self._gone:
                await self._hold()

    def _reading(self, events: list[dict[str, Any]], name: str) -> Reading:
        said = {"model": self._talk.model or self._party.route.model, "id": name[:200]}
        return Reading(said=said, raw_usage=orjson.dumps(events), ended=True)

    def _note_transcript(self, event: dict[str, Any]) -> None:
        usage = event.get("usage")
        if not isinstance(usage, dict):
            self._unstated = True
        elif len(self._transcripts) < 1_000:
            self._transcripts.append({"type": talk.TRANSCRIBED, "model": self._talk.transcriber, "usage": usage})

    def _note_output(self, event: dict[str, Any], kind: str) -> None:
        held = self._holds.running.get(str(event["response_id"]))
        if held is not None and not held.said and kind.endswith(".delta"):
            held.said = True
            held.attempt.first_byte_at = time.perf_counter()

    def _told(self) -> Reading | None:
        """The bills of transcripts that came after the last response."""
        return self._reading(self._transcripts, "") if self._transcripts else None

    # --- Ends ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> Ended:
        """The limits of time."""
        ends_at = self._loop.time() + self._total_s
        while True:
            now = self._loop.time()
            idle_at = self._stirred_at + self._idle_s
            if now >= ends_at:
                return Ended(4408, GatewayError("The session has reached its longest time.", code="session_too_long"))
            if now >= idle_at:
                return Ended(4408, GatewayError("Nothing was said in this session for too long.", code="session_idle"))
            await asyncio.sleep(min(ends_at, idle_at) - now)

    async def _restart(self) -> Ended:
        """The process stops: responses under way come to their end, nothing new begins."""
        self._stopping = True
        while self._holds.running or self._claims:
            await self._more()
        return Ended(1012, GatewayError("The gateway restarts; connect again.", code="gateway_restarting"))

    async def _drain(self, downward: asyncio.Task[Ended]) -> None:
        """What is still being generated is stopped, and what it cost is waited for: hanging up never dodges the bill."""
        self._stopping = True
        if downward.done():
            return
        with contextlib.suppress(UpstreamFailure, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                for name in list(self._holds.running):
                    await self._socket.send(orjson.dumps({"type": "response.cancel", "response_id": name}))
                while (self._holds.running or self._claims or self._talk.untranscribed) and not downward.done():
                    await self._more()

    async def _more(self) -> None:
        """Until the provider has said something more, or has left."""
        self._moved.clear()
        await self._moved.wait()

    async def _say_goodbye(self, ended: Ended) -> None:
        if self._gone:
            return
        self._gone = True
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "websocket.close", "code": ended.code, "reason": ended.reason[:120]})

    async def _error(self, error: GatewayError | None, event_id: object) -> None:
        if error is None:
            return
        stated = orjson.loads(error.payload(uuid7_text()))["error"]
        stated["event_id"] = event_id if isinstance(event_id, str) else None
        await self._forward(orjson.dumps({"type": "error", "event_id": "sluice_" + uuid7_text(), "error": stated}))

    async def _forward(self, raw: bytes) -> None:
        """To the client, at its pace. One that takes nothing for long has left."""
        if self._gone:
            return
        try:
            async with asyncio.timeout(STALL_S):
                await self._send({"type": "websocket.send", "text": raw.decode("utf-8", "replace")})
        except (TimeoutError, OSError):
            self._gone = True


OUR_LIMIT = "sluice_output_limit"


def _ending(task: asyncio.Task[Ended]) -> Ended:
    failure = task.exception()
    if failure is None:
        return task.result()
    return closing_of(failure)


def _read(raw: bytes) -> dict[str, Any]:
    try:
        event = jsonbody.loads(raw)
    except jsonbody.BadJson as error:
        raise BadRequest(f"The event cannot be read: {error}.", code="invalid_event") from None
    if type(event.get("type")) is not str:
        raise BadRequest("An event needs a type.", code="invalid_event", param="type")
    return event


def _object(raw: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _lowered(raw: bytes, event: dict[str, Any], place: str, most: int, *, set_it: bool = False) -> bytes:
    """The event with output limits of at most `most`; `set_it` puts one where there is none."""
    inner = event.get(place)
    if inner is None and set_it:
        inner = event[place] = {}
    if not isinstance(inner, dict):
        return raw
    names = [name for name in ("max_output_tokens", "max_response_output_tokens") if name in inner]
    changed = False
    for name in names or (["max_output_tokens"] if set_it else []):
        value = inner.get(name)
        if type(value) is not int or value > most:
            inner[name] = most
            changed = True
    return orjson.dumps(event) if changed else raw


def _event_id_of(event: dict[str, Any]) -> str:
    error = event.get("error")
    value = error.get("event_id") if isinstance(error, dict) else None
    return value if isinstance(value, str) else ""


def _error_of(response: dict[str, Any]) -> str:
    details = response.get("status_details")
    error = details.get("error") if isinstance(details, dict) else None
    for name in ("code", "type"):
        if isinstance(error, dict) and isinstance(error.get(name), str):
            return str(error[name])[:64]
    return "provider_error"
