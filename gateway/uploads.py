"""Receiving bodies: JSON within its limit, forms within a larger one, and all forms of a process together within a third.

A form is held whole while its call is admitted and sent (its price depends on the last byte of its file), so what all of them may hold is
bounded: whoever comes when there is no room is told to come again (SECURITY.md S51, S73).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway import edge
from gateway.edge import FLOW, Flow, Receive, Request, Scope
from gateway.errors import NoRoom


@dataclass(slots=True)
class Room:
    """What the forms of one process may hold in memory, in bytes."""

    largest: int
    """Of one form."""
    most: int
    held: int = 0

    @contextlib.contextmanager
    def for_one(self, scope: Scope) -> Iterator[None]:
        """Room for one form, as long as its call lasts. Raises NoRoom."""
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        wanted = min(int(stated), self.largest) if stated.isdigit() and len(stated) < 19 else self.largest
        if self.held and self.held + wanted > self.most:
            raise NoRoom("the gateway holds as many files as it can", retry_after_s=2)
        self.held += wanted
        try:
            yield
        finally:
            self.held -= wanted


def at_hand(request: Request, scope: Scope, *, largest: int) -> bytes | None:
    """What `read` would answer, without waiting; None where it must be asked: for what has not arrived, is a form, or needs a closer look."""
    flow: Flow | None = scope.get(FLOW)
    length = request.content_length
    if flow is None or not request.plain_json or length is None or length > largest:
        return None
    return flow.whole_body()


async def read(request: Request, scope: Scope, receive: Receive, *, largest: int, room: Room | None = None) -> bytes:
    """A call's body: a form where there is room for one, else JSON of `largest` bytes. Raises Unsupported, TooLarge, TooSlow, ClientGone."""
    if room is None:
        edge.check_media_type(scope)
        return await edge.read_body(request, scope, receive, largest)
    request.content_type = edge.check_form(scope)
    return await edge.read_body(request, scope, receive, room.largest, edge.FORM_DEADLINE_S)
