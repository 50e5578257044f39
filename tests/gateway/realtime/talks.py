"""What the tests of realtime sessions say and read, by the official SDK's client."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from billing.models import Entry
from tests.gateway.world import Shop

MANUAL: Any = {"type": "realtime", "output_modalities": ["text"], "audio": {"input": {"turn_detection": None}}}


def by_itself(**turns: Any) -> Any:
    """Settings with which a provider is never asked by the gateway, also under a hard budget: it also speaks when nobody does."""
    how = {"type": "server_vad", "idle_timeout_ms": 30_000, **turns}
    return {"type": "realtime", "audio": {"input": {"turn_detection": how}}}


SPEECH = base64.b64encode(bytes([1, 2]) * 12_000).decode()
"""Half a second."""
SILENCE = base64.b64encode(bytes(24_000)).decode()


@contextlib.contextmanager
def talking(client: OpenAI, model: str = "sim-realtime", **options: Any) -> Iterator[Any]:
    with client.realtime.connect(model=model, **options) as connection:
        yield connection


def until(connection: Any, kind: str) -> Any:
    """The next event of a kind; an error that was not waited for fails."""
    while True:
        event = connection.recv()
        if event.type == kind:
            return event
        assert event.type != "error", event


def say(connection: Any, text: str) -> None:
    connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    )


def close_code(connection: Any) -> int:
    """Reads to the end."""
    try:
        while True:
            connection.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


def status_of_handshake(address: str, key: str) -> tuple[int, dict[str, Any]]:
    """The answer to a handshake that is refused."""
    headers = {"Authorization": f"Bearer {key}"}
    with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers):
        pass
    response = refused.value.response
    return response.status_code, json.loads(response.body or b"")["error"]


def nothing_held(shop: Shop) -> bool:
    """Once what was given back has arrived: the answer to a handshake does not wait for it."""
    for _ in range(100):
        if not shop.open_holds():
            return True
        time.sleep(0.05)
    return False


def charges(shop: Shop, count: int) -> list[Entry]:
    """The lines that are not void, once there are so many, all of them equal to the simulator's own invoice."""
    for _ in range(100):
        found = [entry for entry in shop.booked() if entry.state != "void"]
        if len(found) >= count and not shop.held_nano():
            break
    assert len(found) == count, [(entry.state, entry.error, entry.cost_nano) for entry in found]
    return found


def invoiced(shop: Shop, entry: Entry) -> int:
    return next(
        line.cost_nano
        for line in shop.world.simulator.invoice()
        if line.invoice == entry.unpacked()["provider_request_id"]
    )


def sessions_invoice(shop: Shop, session: str) -> dict[str, int]:
    """What the simulator bills for one session, by response and transcript: its own books, whatever ours say."""
    return {
        line.invoice: line.cost_nano
        for line in shop.world.simulator.invoice()
        if session.removeprefix("sess_") in line.invoice
    }
