"""The chunks of a translated chat completion -> the typed events of a responses stream, in the API's own order. A state machine; pure.

created, in_progress
for each item as it comes:  output_item.added, its part and deltas, their "done", output_item.done
completed | incomplete
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.translation import responses
from gateway.translation.chat import Fields
from gateway.translation.responses import Item

Event = dict[str, Any]


class ChatStream(Protocol):
    """`from_anthropic.Stream` and `from_gemini.Stream`, told to show usage."""

    done: bool

    def take(self, event: Mapping[str, Any]) -> list[dict[str, Any]]: ...


class ResponseStream:
    """Implements the `Translator` of `gateway.translation.dialects`: the provider's events in, events of a response out."""

    __slots__ = (
        "_chat",
        "_created",
        "_fields",
        "_finish",
        "_head",
        "_number",
        "_open",
        "_output",
        "_tier",
        "_usage",
        "done",
    )

    def __init__(self, chat: ChatStream, fields: Fields, created: int) -> None:
        self._chat = chat
        self._fields = fields
        self._created = created
        self._head: dict[str, Any] = {}
        """The response as it began; empty until then."""
        self._number = -1
        self._output: list[Item] = []
        """The items that are done."""
        self._open: _Open | None = None
        self._finish: str | None = None
        self._usage: Any = None
        self._tier: str | None = None
        self.done = False

    def take(self, event: Mapping[str, Any]) -> list[Event]:
        return self._write(self._chat.take(event))

    def end(self) -> list[Event]:
        """The provider's body is over; some streams have no other end."""
        end = getattr(self._chat, "end", None)
        return self._write(end()) if end is not None else []

    def _write(self, chunks: list[dict[str, Any]]) -> list[Event]:
        made: list[Event] = []
        for chunk in chunks:
            if "error" in chunk:
                return [*made, self._failed(chunk["error"])]
            made += self._chunk(chunk)
        if self._chat.done and not self.done and self._head:
            made += self._complete()
        return made

    def _chunk(self, chunk: Mapping[str, Any]) -> list[Event]:
        made = [] if self._head else self._begin(chunk)
        self._tier = chunk.get("service_tier") or self._tier
        if isinstance(chunk.get("usage"), Mapping):
            self._usage = chunk["usage"]
        for choice in chunk["choices"]:
            if choice.get("index"):
                continue  # a response has one answer
            made += self._delta(choice.get("delta") or {})
            self._finish = choice.get("finish_reason") or self._finish
        return made

    def _begin(self, chunk: Mapping[str, Any]) -> list[Event]:
        response_id = responses.response_id_of(chunk)
        self._head = responses.opening(response_id, self._created, str(chunk.get("model") or ""), self._fields)
        return [
            self._event("response.created", response=self._head),
            self._event("response.in_progress", response=self._head),
        ]

    def _delta(self, delta: Mapping[str, Any]) -> list[Event]:
        made: list[Event] = []
        if delta.get("reasoning_content"):
            made += self._say(self._item("reasoning", made), delta["reasoning_content"])
        for block in delta.get("thinking_blocks") or ():
            self._item("reasoning", made).blocks.append(block)
            made += self._close()  # a block is an item
        if delta.get("content"):
            made += self._say(self._item("message", made), delta["content"])
        for call in delta.get("tool_calls") or ():
            made += self._call(call)
        if delta.get("extra_content"):
            # A signature of Gemini's belongs to the words it came with; one without words makes an empty message that carries it
            self._item("message", made).extra = {"extra_content": delta["extra_content"]}
        return made

    def _call(self, call: Mapping[str, Any]) -> list[Event]:
        made: list[Event] = []
        opened = self._open
        if call.get("id") or opened is None or opened.kind != "function_call":
            made += self._close()
            opened = self._start("function_call", made, call)
        return made + self._say(opened, (call.get("function") or {}).get("arguments") or "")

    # --- Items --------------------------------------------------------------------------------------------------------

    def _item(self, kind: str, made: list[Event]) -> _Open:
        """The open item, if it is of this kind; else a new one. What that makes of events is added to `made`."""
        if self._open is not None and self._open.kind == kind:
            return self._open
        made += self._close()
        return self._start(kind, made)

    def _start(self, kind: str, made: list[Event], call: Mapping[str, Any] | None = None) -> _Open:
        index = len(self._output)
        item_id = f"{_PREFIX[kind]}_{self._head['id'].removeprefix('resp_')}_{index}"
        opened = self._open = _Open(kind, item_id, index, call)
        item = opened.item(status="in_progress")
        made.append(self._event("response.output_item.added", output_index=index, item=item))
        if kind == "message":
            part = responses.text_part("")
            made.append(self._event("response.content_part.added", **opened.where, content_index=0, part=part))
        return opened

    def _say(self, opened: _Open, piece: str) -> list[Event]:
        if not piece:
            return []
        made: list[Event] = []
        if opened.kind == "reasoning" and not opened.pieces:
            part = {"type": "summary_text", "text": ""}
            made.append(
                self._event("response.reasoning_summary_part.added", **opened.where, summary_index=0, part=part)
            )
        opened.pieces.append(piece)
        if opened.kind == "message":
            more: dict[str, Any] = {"content_index": 0, "delta": piece, "logprobs": []}
        else:
            more = {"summary_index": 0, "delta": piece} if opened.kind == "reasoning" else {"delta": piece}
        made.append(self._event(f"{_TEXT[opened.kind]}.delta", **opened.where, **more))
        return made

    def _close(self) -> list[Event]:
        opened = self._open
        if opened is None:
            return []
        self._open = None
        where, text = opened.where, opened.text
        item = opened.item()
        made: list[Event] = []
        if opened.kind == "message":
            made.append(self._event("response.output_text.done", **where, content_index=0, text=text, logprobs=[]))
            made.append(
                self._event("response.content_part.done", **where, content_index=0, part=responses.text_part(text))
            )
        elif opened.kind == "function_call":
            made.append(
                self._event("response.function_call_arguments.done", **where, arguments=text, name=item["name"])
            )
        elif text:
            part = {"type": "summary_text", "text": text}
            made.append(self._event("response.reasoning_summary_text.done", **where, summary_index=0, text=text))
            made.append(self._event("response.reasoning_summary_part.done", **where, summary_index=0, part=part))
        self._output.append(item)
        return [*made, self._event("response.output_item.done", output_index=opened.index, item=item)]

    def _complete(self) -> list[Event]:
        made = self._close()
        if not self._output:
            self._start("message", made)
            made += self._close()
        self.done = True
        status, reason = responses.status_of(self._finish)
        answer = responses.final(self._head, status, reason, self._output, self._usage, self._tier)
        return [*made, self._event(f"response.{status}", response=answer)]

    def _failed(self, error: Mapping[str, Any]) -> Event:
        """As the API puts an error into a stream; `error` is what makes SDKs raise it."""
        named = {name: error.get(name) for name in ("code", "message", "param")}
        return self._event("error", **named, error=dict(error))

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}


_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_TEXT = {
    "message": "response.output_text",
    "reasoning": "response.reasoning_summary_text",
    "function_call": "response.function_call_arguments",
}


class _Open:
    """The item that is being said."""

    __slots__ = ("blocks", "call", "extra", "index", "item_id", "kind", "pieces")

    def __init__(self, kind: str, item_id: str, index: int, call: Mapping[str, Any] | None) -> None:
        self.kind = kind
        self.item_id = item_id
        self.index = index
        self.call = call or {}
        self.pieces: list[str] = []
        self.blocks: list[Mapping[str, Any]] = []
        self.extra: dict[str, Any] = {}

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def where(self) -> dict[str, Any]:
        return {"item_id": self.item_id, "output_index": self.index}

    def item(self, *, status: str = "completed") -> Item:
        if self.kind == "message":
            return responses.message_item(self.item_id, self.text, status=status, **self.extra)
        if self.kind == "reasoning":
            return responses.reasoning_item(self.item_id, self.text, self.blocks, status=status)
        function = {**(self.call.get("function") or {}), "arguments": self.text}
        return responses.call_item(self.item_id, {**self.call, "function": function}, status=status)
