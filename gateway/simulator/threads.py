"""Anthropic's message threads: conversations that the simulator keeps, in memory and bounded. Every turn bills the whole conversation."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from gateway.simulator.dialect import Refused, body_object

MOST = 2_000
KEPT = ("system", "tools")
"""What a turn takes from the thread, beside its messages."""


class Threads:
    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def whole(self, raw: bytes, owner: str) -> tuple[bytes, dict[str, Any] | None]:
        """A messages request -> the same with all that its thread holds, and what the thread is to hold then; None without one. Raises Refused."""
        body = body_object(raw)
        thread = body.pop("thread", None)
        if thread is None:
            return raw, None
        if not isinstance(thread, dict) or thread.get("type") not in ("create", "continue"):
            raise Refused(400, "thread: Input should be a create or a continue")
        before = thread.get("previous_message_id")
        if thread["type"] == "continue":
            held = self._held.get((owner, str(before)))
            if held is None:
                raise Refused(404, f"No thread at {before}.", code="thread_not_found")
            if any(name in body for name in KEPT):
                raise Refused(400, "system and tools are those that the thread was created with")
            body = {**body, **held, "messages": [*held["messages"], *(body.get("messages") or ())]}
        return msgspec.json.encode(body), {name: body[name] for name in ("messages", *KEPT) if name in body}

    def hold(self, owner: str, message: dict[str, Any], conversation: dict[str, Any]) -> None:
        """Go on from this answer."""
        said = {"role": "assistant", "content": message["content"]}
        self._held[owner, message["id"]] = {**conversation, "messages": [*conversation["messages"], said]}
        if len(self._held) > MOST:
            self._held.popitem(last=False)
