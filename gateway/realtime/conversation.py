"""What the next response of a session may consume, from the events that pass. Pure: events in, a bound out.

Every response is billed for the whole conversation, so its bound grows with each event of the client and is set right by each usage that the
provider states. While the provider may answer by itself (voice activity detection) the client's sound goes on after a hold is taken: then the
bound has room ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.domain.realtime import AUDIO_TOKENS_PER_S, HIDDEN_TOKENS, Ahead
from gateway.realtime.bursts import SHORTEST_SILENCE_MS, SILENCE_MS

ROOM_TOKENS = 4_096
"""Held ahead where the provider answers by itself: more than five minutes of speech before more must be held."""
ROOM_MS = ROOM_TOKENS * 1000 // AUDIO_TOKENS_PER_S
SETTINGS_TOKENS = 4_096
"""Of a session's settings until the provider has said them."""
LATE_MS = 5_000
"""Sound that may belong to the turn before the one that it was counted for, because events of both sides cross."""
SEMANTIC_SILENCE_MS = 300
SLOWEST_BYTES_PER_S = 8_000
PCM_BYTES_PER_S = 48_000
UNLIMITED = 1 << 40

_Event = Mapping[str, Any]
TURN_MAKERS = frozenset({"input_audio_buffer.append", "input_audio_buffer.commit"})
FREE = frozenset(
    {
        "input_audio_buffer.clear", "conversation.item.delete", "conversation.item.truncate", "conversation.item.retrieve",
        "response.cancel", "output_audio_buffer.clear",
    }
)  # fmt: skip
UPDATES = frozenset({"session.update", "transcription_session.update"})
"""The second is the first of transcription sessions, as it was called before the API's first stable version."""
OPENINGS = frozenset({"session.created", "transcription_session.created"})
SETTINGS = OPENINGS | {"session.updated", "transcription_session.updated"}
KNOWN = FREE | TURN_MAKERS | UPDATES | {"conversation.item.create", "response.create"}
"""Every event of a client whose cost is understood."""
TRANSCRIPTION = "transcription"
"""The type of a session that only listens"""
TRANSCRIBING = "conversation.item.input_audio_transcription.delta"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
NOT_TRANSCRIBED = "conversation.item.input_audio_transcription.failed"


class Conversation:
    """`client` and `provider` take the events of the two sides in the order in which they pass."""

    def __init__(self, window: int, image_tokens: int, hears: str = "") -> None:
        """Tokens: the context window to which the provider cuts a conversation (0: unknown) and the most of one picture. `hears`: the model of a
        transcription session, in which nothing answers."""
        self.hears_only = bool(hears)
        self._window = window or UNLIMITED
        self._image_tokens = image_tokens
        self._base = HIDDEN_TOKENS + SETTINGS_TOKENS
        self._since = 0
        self._since_at: dict[str, int] = {}
        self._own_input = False
        self._audio_bytes = 0
        self._bytes_per_s = SLOWEST_BYTES_PER_S
        self._asked: dict[str, Any] = {}
        self._updates = 0
        self._limit: int | None = None
        self._turns = True
        self._silence_ms = SILENCE_MS
        self.transcriber = hears
        self.untranscribed = 0
        """Committed pieces of sound whose transcript is not there yet"""
        self._buffer_ms = self._committed_ms = 0
        self._written_early = False
        """The transcript of sound that was not committed yet has begun: its model listens, and bills, as the sound comes"""
        self.model = ""
        """As the provider names it"""
        self.limit_field = "max_output_tokens"
        self.kind: str | None = None

    # --- What is ahead ------------------------------------------------------------------------------------------------

    @property
    def answers_alone(self) -> bool:
        """The provider may create a response without being asked once more."""
        return not self.hears_only and (self._turns or bool(self._asked.get("turns")))

    @property
    def silence_ms(self) -> int:
        """The shortest silence that ends a turn: under the settings that hold, or those that are on their way."""
        asked: int = self._asked.get("silence", self._silence_ms)
        return max(SHORTEST_SILENCE_MS, min(self._silence_ms, asked))

    def length_ms(self, sound: str) -> int:
        """Of sound in base64, in the session's format."""
        return -(-_base64_bytes(sound) * 1000 // self._bytes_per_s)

    @property
    def automatic(self) -> bool:
        """The same, or a transcript."""
        return self.answers_alone or bool(self.transcriber)

    @property
    def updating(self) -> bool:
        """A `session.update` is on its way."""
        return self._updates > 0

    @property
    def committed_ms(self) -> int:
        """Sound that is being transcribed."""
        return self._committed_ms

    @property
    def untold(self) -> Ahead | None:
        """What transcripts may cost that nobody would tell any more, were this the end."""
        heard = self._committed_ms + LATE_MS if self.untranscribed else 0
        if self._written_early:
            heard += self._buffer_ms
        return self.heard(heard) if heard else None

    def heard(self, ms: int) -> Ahead:
        """What transcribing so much sound may cost."""
        return Ahead(0, 0, heard_ms=ms, transcriber=self.transcriber, answered=False)

    @property
    def buffer_ms(self) -> int:
        """Sound that is not committed yet."""
        return self._buffer_ms

    @property
    def limit(self) -> int | None:
        """The session's output limit at worst: the one that holds, or one that is on its way. None: the model's maximum."""
        if "limit" not in self._asked:
            return self._limit
        asked = self._asked["limit"]
        return None if asked is None or self._limit is None else max(asked, self._limit)

    def ahead(self, *, room: bool, limit: int | None = None, own_limit: bool = False) -> Ahead:
        """What the next response may consume. `own_limit`: `limit` is its own instead of the session's."""
        used = limit if own_limit else self.limit
        if own_limit and room:  # one that the provider creates by itself may come first
            used = _worse(limit, self.limit)
        tokens = self._base + self._since
        heard = 0
        if self.transcriber:
            heard = self._buffer_ms + self._committed_ms + LATE_MS + (ROOM_MS if room else 0)
        return Ahead(
            input_tokens=min(tokens + (ROOM_TOKENS if room else 0), self._window),
            output_limit=used,
            limit_is_clients=used is not None,
            heard_ms=heard,
            transcriber=self.transcriber,
            answered=not self.hears_only,
        )

    # --- The client's events ------------------------------------------------------------------------------------------

    def client(self, kind: str, event: _Event, size: int) -> None:
        """An event that is about to be sent; `size` is its text's bytes."""
        if kind == "input_audio_buffer.append":
            self._hear(_base64_bytes(event.get("audio")))
        elif kind == "conversation.item.create":
            self._add_item(event.get("item"), size)
        elif kind in UPDATES:
            self._ask(event.get("session"), size)
        elif kind not in FREE and kind not in TURN_MAKERS:
            response = event.get("response")
            if kind == "response.create" and isinstance(response, Mapping):
                self._own_input |= response.get("conversation") == "none" or bool(
                    {"input", "prompt", "instructions", "tools"} & response.keys()
                )
                if response.get("prompt") is not None:
                    self._since = self._window
            self._since += size

    def _hear(self, sound_bytes: int) -> None:
        whole = self._audio_bytes + sound_bytes
        tokens = whole * AUDIO_TOKENS_PER_S // self._bytes_per_s
        self._audio_bytes = whole - tokens * self._bytes_per_s // AUDIO_TOKENS_PER_S
        self._since += tokens
        self._buffer_ms += sound_bytes * 1000 // self._bytes_per_s + 1

    def _add_item(self, item: Any, size: int) -> None:
        content = item.get("content") if isinstance(item, Mapping) else None
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, Mapping):
                continue
            sound, picture = part.get("audio"), part.get("image_url")
            if isinstance(sound, str):
                self._since += _base64_bytes(sound) * AUDIO_TOKENS_PER_S // self._bytes_per_s + 1
                size -= len(sound)
            if isinstance(picture, str):
                self._since += self._image_tokens
                size -= len(picture)
        self._since += max(0, size) + 16

    def _ask(self, session: Any, size: int) -> None:
        self._updates += 1
        self._since += size
        if not isinstance(session, Mapping):
            return
        if session.get("prompt") is not None or _has_mcp(session.get("tools")):
            self._since = self._window
        for name in ("max_output_tokens", "max_response_output_tokens"):
            if name in session:
                self._asked["limit"] = _worse(self._asked.get("limit", 0), _limit_of(session[name]))
        found, turns = _turn_detection(session)
        if found and turns:
            self._asked["turns"] = True
            self._asked["silence"] = min(_silence_of(session), self._asked.get("silence", SILENCE_MS))
        named = transcriber_of(session)
        if named:
            self.transcriber = named
        if named is not None:
            self._asked["transcriber"] = named

    def not_updated(self) -> None:
        """A `session.update` was not sent, or was declined."""
        self._updates = max(0, self._updates - 1)
        if not self._updates:
            self._asked.clear()

    def impose(self, limit: int) -> None:
        """The gateway has sent an output limit of its own: what comes after it is under it."""
        self._updates += 1
        self._limit = limit
        self._asked.pop("limit", None)

    def silence(self) -> dict[str, Any]:
        """The settings under which the provider answers no more by itself. They are about to be sent."""
        self.updated_by_us()
        return self.detecting(None)

    def updated_by_us(self) -> None:
        """A `session.update` of the gateway's own is on its way. What it asks for holds when the provider has said so."""
        self._updates += 1

    def detecting(self, how: Mapping[str, Any] | None) -> dict[str, Any]:
        """A session's settings that say how turns are detected, in the shape that the provider speaks."""
        if self.kind is None:
            return {"turn_detection": how}
        return {"type": self.kind, "audio": {"input": {"turn_detection": how}}}

    # --- The provider's events ----------------------------------------------------------------------------------------

    def provider(self, kind: str, event: _Event, size: int) -> None:
        if kind in SETTINGS:
            self._settings(kind, event.get("session"), size)
        elif kind == "response.created":
            self._since_at[_id_of(event)] = self._since
        elif kind == "response.done":
            self._done(event)
        elif kind == "input_audio_buffer.committed":
            if self.transcriber:
                self.untranscribed += 1
                self._committed_ms += self._buffer_ms
            self._buffer_ms, self._written_early = 0, False
        elif kind == "input_audio_buffer.cleared" and not self._written_early:
            self._buffer_ms = 0
        elif kind in (TRANSCRIBED, NOT_TRANSCRIBED):
            self.untranscribed = max(0, self.untranscribed - 1)
            if not self.untranscribed:
                self._committed_ms = 0
        elif kind == TRANSCRIBING and self.untranscribed == 0:
            self._written_early = True

    def _settings(self, kind: str, session: Any, size: int) -> None:
        if not isinstance(session, Mapping):
            return
        if kind in OPENINGS:
            self._base = HIDDEN_TOKENS + size
        else:
            self._updates = max(0, self._updates - 1)
        model, named = session.get("model"), session.get("type")
        self.model = model if isinstance(model, str) else self.model
        self.kind = named if isinstance(named, str) else self.kind
        if "max_response_output_tokens" in session:
            self.limit_field = "max_response_output_tokens"
        if self.limit_field in session:
            self._limit = _limit_of(session[self.limit_field])
        found, turns = _turn_detection(session)
        if found:
            self._turns = turns
            self._silence_ms = _silence_of(session)
        self._bytes_per_s = _bytes_per_s(session)
        if self._updates == 0:
            self._asked.clear()
            named = transcriber_of(session)
            if named or (named is not None and not self.hears_only):
                self.transcriber = named

    def _done(self, event: _Event) -> None:
        response = event.get("response")
        since_at = self._since_at.pop(_id_of(event), 0)
        usage = response.get("usage") if isinstance(response, Mapping) else None
        if not isinstance(usage, Mapping):
            return
        read, written = usage.get("input_tokens"), usage.get("output_tokens")
        if type(read) is not int or type(written) is not int or read < 0 or written < 0:
            return
        if self._own_input:  # what it read was not the conversation
            self._since += written
        else:
            self._base, self._since = read + written, max(0, self._since - since_at)
            self._since_at = dict.fromkeys(self._since_at, 0)


def is_out_of_band(response: Any) -> bool:
    """A response that is no part of the conversation, as asked for or as created."""
    if not isinstance(response, Mapping):
        return False
    return response.get("conversation") == "none" or (
        "conversation_id" in response and response["conversation_id"] is None
    )


def refused_reason(kind: str, event: _Event) -> str:
    """Why an event of a client cannot be bounded, and is kept from a provider under a hard budget; empty when it can."""
    if kind not in KNOWN:
        return f"the event {kind[:60]!r} is not known here, nor what it costs"
    for place in (event.get("session"), event.get("response")):
        if isinstance(place, Mapping) and _has_mcp(place.get("tools")):
            return "what a response with MCP servers reads has no bound"
    return ""


def limit_of(event: _Event) -> tuple[bool, int | None]:
    """(whether a `response.create` has an output limit of its own, that limit; None: the model's maximum)."""
    response = event.get("response")
    for name in ("max_output_tokens", "max_response_output_tokens"):
        if isinstance(response, Mapping) and response.get(name) is not None:
            return True, _limit_of(response[name])
    return False, None


def _limit_of(value: Any) -> int | None:
    """A number, or None for "inf" and for what nobody understands (the provider refuses it)."""
    return value if type(value) is int and value > 0 else None


def _worse(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _id_of(event: _Event) -> str:
    response = event.get("response")
    return str(response.get("id", "")) if isinstance(response, Mapping) else ""


def _audio_input(session: _Event) -> _Event:
    audio = session.get("audio")
    inner = audio.get("input") if isinstance(audio, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def detection_of(session: Any) -> tuple[bool, dict[str, Any] | None]:
    """(whether the turn detection is said, how it is; None: there is none)."""
    for place in (_audio_input(session), session) if isinstance(session, Mapping) else ():
        if "turn_detection" in place:
            how = place["turn_detection"]
            return True, how if isinstance(how, dict) else None
    return False, None


def _turn_detection(session: _Event) -> tuple[bool, bool]:
    """(whether it is said, whether the provider answers by itself)."""
    found, how = detection_of(session)
    if how is None:
        return found, False
    return True, how.get("create_response") is not False or how.get("idle_timeout_ms") is not None


def _silence_of(session: _Event) -> int:
    """After how much silence a turn ends, at the soonest. Semantic detection does not say."""
    for place in (_audio_input(session), session):
        how = place.get("turn_detection")
        if isinstance(how, Mapping):
            said = how.get("silence_duration_ms")
            if how.get("type") == "semantic_vad":
                return SEMANTIC_SILENCE_MS
            return said if type(said) is int and said > 0 else SILENCE_MS
    return SILENCE_MS


def transcriber_of(session: _Event) -> str | None:
    """The model that transcribes, "" for none, None where nothing is said."""
    for place, name in ((_audio_input(session), "transcription"), (session, "input_audio_transcription")):
        if name in place:
            how = place[name]
            if not isinstance(how, Mapping):
                return ""
            model = how.get("model")
            return model if isinstance(model, str) and model else "transcription model (not stated)"
    return None


def _bytes_per_s(session: _Event) -> int:
    """How fast sound comes in the session's format."""
    how = _audio_input(session).get("format") or session.get("input_audio_format")
    kind = how.get("type") if isinstance(how, Mapping) else how
    return PCM_BYTES_PER_S if kind in ("audio/pcm", "pcm16") else SLOWEST_BYTES_PER_S


def _has_mcp(tools: Any) -> bool:
    return isinstance(tools, list) and any(isinstance(tool, Mapping) and tool.get("type") == "mcp" for tool in tools)


def _base64_bytes(text: Any) -> int:
    return len(text) * 3 // 4 if isinstance(text, str) else 0
