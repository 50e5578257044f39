"""The OpenAI dialect: a realtime session. Text, sound and voice activity detection, as far as money can tell the difference.

Sound is silence where it is zeros: half a second of them after something else ends a turn. Billed as gpt-realtime is: text and audio apart on
both sides, what an earlier response has read is cached, transcripts on a bill of their own (`sim-hear`, by the millisecond).
Scripts: `slow` (first_ms: sound is heard so much later), `drip` (gap_ms), `tokens=`, the `usage-*` of the other endpoints, `cut` (after k tokens), an
error status. A transcription's prompt can say `late` (its transcript comes after the next response), `failed` and `no-usage`. A hearing model's
session only transcribes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from gateway.simulator import tokens
from gateway.simulator.catalogue import MODELS, Model
from gateway.simulator.dialect import Reading, Refused
from gateway.simulator.invoice import Book, InvoiceLine
from gateway.simulator.scripts import Script
from gateway.simulator.sockets import Peer

AUDIO_IN, AUDIO_CACHED, AUDIO_OUT = 32_000, 400, 64_000
"""Nano-dollars a token."""
BYTES_PER_S = 48_000
END_OF_TURN = bytes(BYTES_PER_S // 2)
WORDS = "All the world is a stage, and I have heard it. "
MOST_LIMIT = 4_096


@dataclass(slots=True)
class Response:
    id: str
    asked: Mapping[str, Any]
    script: Script
    limit: int
    spoken: bool
    text_in: int
    audio_in: int
    cached_text: int
    cached_audio: int
    text_out: int = 0
    audio_out: int = 0
    cancelled: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def written(self) -> int:
        return self.text_out + self.audio_out

    def usage(self) -> dict[str, Any]:
        read = self.text_in + self.audio_in
        cached = self.cached_text + self.cached_audio
        return {
            "total_tokens": read + self.written, "input_tokens": read, "output_tokens": self.written,
            "input_token_details": {
                "text_tokens": self.text_in, "audio_tokens": self.audio_in, "image_tokens": 0, "cached_tokens": cached,
                "cached_tokens_details": {"text_tokens": self.cached_text, "audio_tokens": self.cached_audio, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": self.text_out, "audio_tokens": self.audio_out},
        }  # fmt: skip

    def cost_nano(self, model: Model) -> int:
        text = model.cost_nano(input_tokens=self.text_in, cached_tokens=self.cached_text, output_tokens=self.text_out)
        fresh = self.audio_in - self.cached_audio
        return text + fresh * AUDIO_IN + self.cached_audio * AUDIO_CACHED + self.audio_out * AUDIO_OUT


class Talk:
    """One session."""

    def __init__(self, model: Model, script: str, reading: Reading, book: Book) -> None:
        self._model, self._script, self._reading, self._book = model, script, reading, book
        self._session: dict[str, Any] = {
            "type": "realtime", "object": "realtime.session", "id": f"sess_{time.time_ns():x}", "model": model.name,
            "output_modalities": ["audio"], "instructions": "Be brief.", "tools": [], "max_output_tokens": "inf",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000}, "transcription": None,
                    "turn_detection": {"type": "server_vad", "create_response": True, "interrupt_response": True},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
            },
        }  # fmt: skip
        self._hears = model.medium == "hearing"
        if self._hears:
            heard = {**self._session["audio"]["input"], "transcription": {"model": model.name}}
            self._session = {
                "type": "transcription", "object": "realtime.session", "id": self._session["id"], "audio": {"input": heard}
            }  # fmt: skip
        self._spoken = asyncio.Event()
        self._text = self._audio = 0
        self._seen_text = self._seen_audio = 0
        self._said = ""
        self._sound = bytearray()
        self._active: Response | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._count = 0
        self._lines: dict[str, InvoiceLine] = {}

    async def run(self, peer: Peer) -> None:
        self._peer = peer
        self._tell("session.created", session=self._session)
        try:
            while (raw := await peer.receive()) is not None:
                event: dict[str, Any] = {}
                try:
                    event = msgspec.json.decode(raw, type=dict[str, Any])
                    await self._take(event)
                except Refused as refused:
                    self._error(refused, event.get("event_id"))
                except msgspec.DecodeError as error:
                    self._error(Refused(400, f"We could not parse the event. ({error})"), None)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "session.update":
            self._update(event.get("session") or {})
        elif kind == "conversation.item.create":
            self._add(event.get("item") or {})
        elif kind == "input_audio_buffer.append":
            sound = base64.b64decode(event.get("audio") or "")
            script, _ = self._reading.script(self._said, None, self._script)
            if script.first_ms:
                self._later(self._hear_late(sound, script.first_ms))
            else:
                self._hear(sound)
        elif kind == "input_audio_buffer.commit":
            self._commit()
        elif kind == "input_audio_buffer.clear":
            self._sound.clear()
            self._tell("input_audio_buffer.cleared")
        elif kind == "response.create":
            self._begin(event.get("response") or {})
        elif kind == "response.cancel":
            if self._active is None:
                raise Refused(400, "Cancellation failed: no active response found", code="response_cancel_not_active")
            self._active.cancelled = True
        else:
            raise Refused(400, f"Unknown event {kind!r}.", code="invalid_value", param="type")

    def _update(self, change: dict[str, Any]) -> None:
        if change.get("type", self._session["type"]) != self._session["type"]:
            raise Refused(400, "Passing a different session type is not allowed.", param="session.type")
        limit = change.get("max_output_tokens", "inf")
        if limit != "inf" and not (type(limit) is int and 1 <= limit <= MOST_LIMIT):
            raise Refused(
                400, "Invalid max_output_tokens.", code="integer_above_max_value", param="session.max_output_tokens"
            )
        _merge(self._session, change)
        self._tell("session.updated", session=self._session)

    def _add(self, item: dict[str, Any]) -> None:
        text = "".join(str(part.get("text", "")) for part in item.get("content") or [] if isinstance(part, dict))
        text += str(item.get("output", ""))
        self._said = text
        self._text += tokens.count(len(text.encode()))
        self._tell("conversation.item.added", item={"id": f"item_{time.time_ns():x}", **item})

    async def _hear_late(self, sound: bytes, ms: int) -> None:
        await asyncio.sleep(ms / 1000)
        self._hear(sound)

    def _hear(self, sound: bytes) -> None:
        """Several turns can come in one piece."""
        for start in range(0, len(sound), len(END_OF_TURN)):
            self._hear_some(sound[start : start + len(END_OF_TURN)])

    def _hear_some(self, sound: bytes) -> None:
        self._sound += sound
        turns = self._session["audio"]["input"]["turn_detection"]
        if turns and self._sound.endswith(END_OF_TURN) and any(self._sound):
            self._tell("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_heard")
            if self._active is not None and turns.get("interrupt_response", True):
                self._active.cancelled = True
            self._commit(by_itself=True)
            if turns.get("create_response", True) and not self._hears:
                self._later(self._answer_turn())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer_turn(self) -> None:
        if self._active is not None:
            await self._active.done.wait()
        with contextlib.suppress(Refused):
            self._begin({})

    def _commit(self, *, by_itself: bool = False) -> None:
        if not self._sound:
            raise Refused(
                400, "Error committing input audio buffer: buffer too small.", code="input_audio_buffer_commit_empty"
            )
        heard_ms = len(self._sound) * 1000 // BYTES_PER_S
        self._sound.clear()
        self._audio += -(-heard_ms // 100)
        number = self._next()
        item = f"item_{number}"
        if by_itself:
            self._tell("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id=item)
        self._tell("input_audio_buffer.committed", item_id=item)
        if how := self._session["audio"]["input"]["transcription"]:
            self._spoken.clear()
            self._later(self._transcribe(number, heard_ms, str(how.get("prompt", ""))))

    async def _transcribe(self, number: str, heard_ms: int, prompt: str) -> None:
        item = f"item_{number}"
        if "failed" in prompt:
            kind = "conversation.item.input_audio_transcription.failed"
            self._tell(
                kind, item_id=item, content_index=0, error={"type": "server_error", "code": "audio_unintelligible"}
            )
            return
        self._bill(f"tr_{number}", heard_ms * MODELS["sim-hear"].input_rate // 1_000_000, heard_ms, 0)
        if "late" in prompt:
            await self._spoken.wait()
        usage = None if "no-usage" in prompt else {"type": "duration", "seconds": heard_ms / 1000}
        self._tell(
            "conversation.item.input_audio_transcription.completed", item_id=item, content_index=0, transcript=WORDS.strip(),
            usage=usage,
        )  # fmt: skip

    def _begin(self, asked: dict[str, Any]) -> None:
        apart = asked.get("conversation") == "none"
        if self._hears:
            raise Refused(400, "A transcription session has no responses.", code="invalid_value", param="type")
        if self._active is not None and not apart:
            raise Refused(
                400, "Conversation already has an active response.", code="conversation_already_has_active_response"
            )
        limit = asked.get("max_output_tokens") or self._session["max_output_tokens"]
        modalities = asked.get("output_modalities") or self._session["output_modalities"]
        script, _ = self._reading.script(self._said, asked.get("metadata"), self._script)
        own = tokens.count(len(str(asked.get("instructions") or self._session["instructions"]).encode()))
        text = own + self._text if "input" not in asked else own + tokens.count(len(orjson.dumps(asked["input"])))
        response = Response(
            f"resp_{self._next()}",
            asked,
            script,
            self._model.max_output if limit == "inf" else int(limit),
            "audio" in modalities,
            text,
            self._audio if "input" not in asked else 0,
            min(self._seen_text, text),
            min(self._seen_audio, self._audio) if "input" not in asked else 0,
        )
        if not apart:
            self._active = response
        self._tell("response.created", response=self._shown(response, "in_progress"))
        self._later(self._play(response))

    async def _play(self, response: Response) -> None:
        script, status = response.script, "completed"
        if script.status >= 400:
            self._finish(response, "failed")
            return
        length = script.tokens or 12
        if response.limit < length or not script.obeys_max_tokens:
            length, status = (
                (response.limit, "incomplete") if script.obeys_max_tokens else (response.limit + script.k, status)
            )
        kind = "response.output_audio.delta" if response.spoken else "response.output_text.delta"
        try:
            for place in range(length):
                if script.gap_ms:
                    await asyncio.sleep(script.gap_ms / 1000)
                if response.cancelled:
                    status = "cancelled"
                    break
                if script.wire == "cut" and place == script.k:
                    self._peer.drop()
                    return
                if response.spoken:
                    response.audio_out += 1
                    delta = base64.b64encode(bytes(240)).decode()
                else:
                    response.text_out += 1
                    delta = WORDS[place % len(WORDS)]
                self._bill(
                    response.id, response.cost_nano(self._model), response.text_in + response.audio_in, response.written
                )
                self._tell(
                    kind, response_id=response.id, item_id="item_said", output_index=0, content_index=0, delta=delta
                )
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            return
        self._finish(response, status)

    def _finish(self, response: Response, status: str) -> None:
        if self._active is response:
            self._active = None
        usage: Any = None if status == "failed" else response.usage()
        if response.script.usage in ("absent", "null"):
            usage = None
        elif response.script.usage == "zero":
            usage = {"total_tokens": 0, "input_tokens": 0, "output_tokens": 0}
        if status != "failed" and response.asked.get("conversation") != "none":
            self._seen_text, self._seen_audio = response.text_in, response.audio_in
            self._text += response.text_out
            self._audio += response.audio_out
        if status != "failed":
            self._bill(
                response.id,
                response.cost_nano(self._model),
                response.text_in + response.audio_in,
                response.written,
                final=True,
            )
        self._tell("response.done", response={**self._shown(response, status), "usage": usage})
        response.done.set()
        self._spoken.set()

    def _shown(self, response: Response, status: str) -> dict[str, Any]:
        details = (
            {"type": "failed", "error": {"type": "server_error", "code": "server_error"}}
            if status == "failed"
            else None
        )
        apart = response.asked.get("conversation") == "none"
        return {
            "object": "realtime.response", "id": response.id, "status": status, "status_details": details, "output": [],
            "conversation_id": None if apart else "conv_1", "max_output_tokens": response.limit,
            "metadata": response.asked.get("metadata"),
        }  # fmt: skip

    def _bill(self, name: str, cost_nano: int, read: int, written: int, *, final: bool = False) -> None:
        """A line of the invoice; the last of a name is its state."""
        before = self._lines.get(name)
        line = InvoiceLine(
            invoice=name, attempt=None, model=self._model.name, script="realtime", input_tokens=read, cached_tokens=0,
            output_tokens=written, cost_nano=cost_nano, billed=True, final=final, at=time.time_ns() // 1_000_000,
        )  # fmt: skip
        self._book.write(line, before)
        self._lines[name] = line

    def _next(self) -> str:
        self._count += 1
        return f"{self._session['id'][5:]}_{self._count}"

    def _error(self, refused: Refused, event_id: object) -> None:
        error = {
            "type": "invalid_request_error", "code": refused.code, "message": refused.message, "param": refused.param,
            "event_id": event_id,
        }  # fmt: skip
        self._tell("error", error=error)

    def _tell(self, kind: str, **fields: Any) -> None:
        self._peer.send(orjson.dumps({"type": kind, "event_id": f"event_{time.time_ns():x}", **fields}))


def _merge(into: dict[str, Any], change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
