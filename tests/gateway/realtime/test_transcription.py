"""Transcription sessions: nothing answers, each piece of sound is held for, and booked as the provider bills it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from guardrails.actions import create_budget
from tests.gateway.realtime.talks import SILENCE, SPEECH, charges, sessions_invoice, status_of_handshake
from tests.gateway.world import GatewayProcess, Shop

TURN = base64.b64encode(base64.b64decode(SPEECH) + base64.b64decode(SILENCE)).decode()
DONE = "conversation.item.input_audio_transcription.completed"


class Listener:
    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def until(self, kind: str) -> Any:
        while True:
            event = json.loads(self._socket.recv())
            if event["type"] == kind:
                return event
            assert event["type"] != "error", event


@contextmanager
def listening(gateway: GatewayProcess, key: str, query: str = "intent=transcription") -> Iterator[Listener]:
    address = f"ws://127.0.0.1:{gateway.port}/v1/realtime?{query}"
    with connect(address, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
        yield Listener(socket)


def settings(model: str = "sim-hear", prompt: str = "") -> dict[str, Any]:
    return {"type": "transcription", "audio": {"input": {"transcription": {"model": model, "prompt": prompt}}}}


@pytest.mark.parametrize("query", ["intent=transcription", "intent=transcription&model=sim-hear"])
def test_each_piece_of_sound_is_a_line_of_its_own_as_the_provider_bills_it(
    gateway: GatewayProcess, shop: Shop, query: str
) -> None:
    shop.do(create_budget, cap="1", period="day")
    with listening(gateway, shop.key, query) as session:
        name = session.until("session.created")["session"]["id"]
        session.send("session.update", session=settings())
        session.until("session.updated")
        for _ in range(2):
            session.send("input_audio_buffer.append", audio=TURN)
            session.until(DONE)
    billed = sessions_invoice(shop, name)
    assert len(billed) == 2
    entries = charges(shop, 2)
    assert {
        entry.unpacked()["provider_request_id"].replace("item", "tr"): entry.cost_nano for entry in entries
    } == billed
    assert {(entry.basis, entry.price_status, entry.model) for entry in entries} == {("measured", "exact", "sim-hear")}
    assert [entry.flags for entry in entries] == [[], []]


def test_a_budget_without_room_refuses_to_listen(gateway: GatewayProcess, shop: Shop) -> None:
    shop.do(create_budget, cap="0.00001", period="day")
    address = f"ws://127.0.0.1:{gateway.port}/v1/realtime?intent=transcription"
    status, error = status_of_handshake(address, shop.key)
    assert (status, error["code"]) == (402, "budget_exceeded")


def test_what_could_not_be_transcribed_is_free_and_what_says_no_usage_costs_what_the_sound_could(
    gateway: GatewayProcess, shop: Shop
) -> None:
    with listening(gateway, shop.key) as session:
        session.until("session.created")
        session.send("session.update", session=settings(prompt="failed"))
        session.until("session.updated")
        session.send("input_audio_buffer.append", audio=TURN)
        session.until("conversation.item.input_audio_transcription.failed")
        session.send("session.update", session=settings(prompt="no-usage"))
        session.until("session.updated")
        session.send("input_audio_buffer.append", audio=TURN)
        session.until(DONE)
    [entry] = charges(shop, 1)
    assert (entry.basis, entry.error) == ("assumed", "usage_missing")
    assert 100_000 < entry.cost_nano < 1_000_000  # one second and a few to spare, not the minutes that are held ahead


def test_a_key_listens_only_with_its_models_and_a_session_stays_what_it_is(gateway: GatewayProcess, shop: Shop) -> None:
    key = shop.new_key(allowed_models=["sim-hear", "sim-realtime"])
    with listening(gateway, key) as session:
        session.until("session.created")
        for refused in (settings("whisper-1"), {"type": "realtime"}):
            session.send("session.update", session=refused)
        session.send("response.create")
        codes: list[str] = []
        while len(codes) < 3:
            event = json.loads(session._socket.recv())
            if event["type"] == "error":
                codes.append(event["error"]["code"])
        assert codes == ["model_not_allowed", "not_offered", "not_offered"]
    with listening(gateway, key, "model=sim-realtime") as session:
        session.until("session.created")
        session.send("session.update", session=settings())
        event = json.loads(session._socket.recv())
        assert "intent=transcription" in event["error"]["sluice"]["hint"]
    charges(shop, 0)


@pytest.mark.parametrize(
    "path", ["client_secrets", "calls", "calls/rtc_1/accept", "sessions", "transcription_sessions"]
)
def test_what_would_run_past_the_gateway_is_refused_and_says_what_to_do_instead(
    gateway: GatewayProcess, shop: Shop, path: str
) -> None:
    answer = httpx.post(f"{gateway.url}/v1/realtime/{path}", json={}, headers={"Authorization": f"Bearer {shop.key}"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "endpoint_not_priced")
    assert "openai-insecure-api-key" in error["sluice"]["hint"]
