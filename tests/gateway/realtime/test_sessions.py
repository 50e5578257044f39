"""Realtime sessions by the official SDK's client, over a gateway and the simulator as they run in production."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import OpenAI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from guardrails.actions import create_budget, create_rate_limit, update_budget
from tests.gateway.realtime.talks import (
    MANUAL,
    SILENCE,
    SPEECH,
    by_itself,
    charges,
    close_code,
    invoiced,
    nothing_held,
    say,
    sessions_invoice,
    status_of_handshake,
    talking,
    until,
)
from tests.gateway.world import GatewayProcess, Shop
from workspaces.actions import revoke_virtual_key, suspend_workspace

pytestmark = pytest.mark.filterwarnings(
    "ignore:connect.. must be used as a context manager:DeprecationWarning"
)  # in the SDK


def test_a_conversation_in_text_is_booked_response_by_response_as_the_provider_bills_it(
    client: OpenAI, shop: Shop
) -> None:
    with talking(client) as connection:
        created = until(connection, "session.created")
        assert created.session.model == "sim-realtime"
        connection.session.update(session=MANUAL)
        until(connection, "session.updated")
        for words in ("Hello there", "And again"):
            say(connection, words)
            connection.response.create()
            done = until(connection, "response.done")
            assert done.response.status == "completed"
    first, second = charges(shop, 2)
    assert [entry.cost_nano for entry in (first, second)] == [invoiced(shop, entry) for entry in (first, second)]
    assert {entry.basis for entry in (first, second)} == {"measured"}
    assert {entry.price_status for entry in (first, second)} == {"exact"}
    assert first.session == second.session != ""
    assert first.call_id != second.call_id


def test_turns_that_the_provider_takes_by_itself_are_held_before_they_can_begin(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        assert len(shop.open_holds()) == 1
        for _ in range(2):
            connection.input_audio_buffer.append(audio=SPEECH)
            connection.input_audio_buffer.append(audio=SILENCE)
            until(connection, "response.done")
    for entry in charges(shop, 2):
        assert entry.cost_nano == invoiced(shop, entry)
        assert entry.basis == "measured"
        assert {"input_audio", "output_audio"} <= set(entry.unpacked()["usage"])


def test_what_the_user_said_is_transcribed_on_the_bill_of_the_transcription_model(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        audio = {"input": {"transcription": {"model": "sim-hear"}}}
        connection.session.update(session={"type": "realtime", "audio": audio})
        until(connection, "session.updated")
        connection.input_audio_buffer.append(audio=SPEECH)
        connection.input_audio_buffer.append(audio=SILENCE)
        until(connection, "response.done")
    [entry] = charges(shop, 1)
    lines = shop.world.simulator.invoice()
    transcript = next(
        line
        for line in lines
        if line.invoice.startswith("tr_" + entry.unpacked()["provider_request_id"][5:].rpartition("_")[0])
    )
    assert entry.cost_nano == invoiced(shop, entry) + transcript.cost_nano
    assert "sim-hear" in json.dumps(entry.unpacked()["breakdown"])


def test_a_budget_that_has_no_room_refuses_the_handshake_as_it_would_any_call(
    gateway: GatewayProcess, shop: Shop
) -> None:
    shop.do(create_budget, cap="0.01", period="day", name="Pocket money")
    before = shop.world.simulator.totals()
    status, error = status_of_handshake(f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=sim-realtime", shop.key)
    assert status == 402
    assert (error["code"], error["sluice"]["budget"]) == ("budget_exceeded", "Pocket money")
    assert shop.world.simulator.totals() == before
    assert nothing_held(shop)


def test_a_budget_that_is_used_up_in_the_middle_ends_the_session_and_says_why(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="0.6", period="day", name="Talk")
    with talking(client) as connection:
        until(connection, "session.created")
        say(connection, "Talk a while [[sim:ok tokens=600]]")
        answered, error = 0, None
        while error is None:
            with contextlib.suppress(ConnectionClosed):  # what it was closed for is read below
                connection.input_audio_buffer.append(audio=SPEECH)
                connection.input_audio_buffer.append(audio=SILENCE)
            while (event := connection.recv()).type not in ("error", "response.done"):
                pass
            answered += event.type == "response.done"
            error = event.error if event.type == "error" else None
        assert close_code(connection) == 4402
    assert error.code == "budget_exceeded"
    assert answered >= 1
    entries = charges(shop, answered)
    assert sum(entry.cost_nano for entry in entries) <= 600_000_000
    assert all(entry.cost_nano == invoiced(shop, entry) for entry in entries)


def lower_the_cap(shop: Shop, budget: Any) -> None:
    shop.do(update_budget, budget_id=budget.pk, cap="0.01")


def revoke_the_key(shop: Shop, budget: Any) -> None:
    shop.do(revoke_virtual_key, key_id=shop.key_id)


def stop_the_workspace(shop: Shop, budget: Any) -> None:
    shop.do(suspend_workspace)


@pytest.mark.parametrize(
    ("stop", "interrupts", "code"),
    [
        (lower_the_cap, True, 4402),
        (lower_the_cap, False, 4402),
        (revoke_the_key, True, 4401),
        (stop_the_workspace, False, 4403),
    ],
)
def test_of_turns_in_one_burst_none_begins_that_nothing_may_be_held_for_any_more(
    client: OpenAI, shop: Shop, stop: Callable[[Shop, Any], None], interrupts: bool, code: int
) -> None:
    budget = shop.do(create_budget, cap="0.6", period="day", name="Talk")
    with talking(client) as connection:
        name = until(connection, "session.created").session.id
        connection.session.update(session=by_itself(interrupt_response=interrupts))
        say(connection, "Talk [[sim:ok tokens=300]]")
        until(connection, "conversation.item.added")
        stop(shop, budget)
        turn = base64.b64decode(SPEECH) + base64.b64decode(SILENCE)
        connection.send_raw(
            json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(turn * 2).decode()})
        )
        assert close_code(connection) == code
    billed = {invoice: nano for invoice, nano in sessions_invoice(shop, name).items() if nano}
    [entry] = charges(shop, 1)
    assert {entry.unpacked()["provider_request_id"]: entry.cost_nano} == billed
    assert (entry.flags, entry.basis) == ([], "measured")


def test_under_a_hard_budget_no_response_can_be_longer_than_what_is_held(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        until(connection, "session.created")
        forced = until(connection, "session.updated")
        assert forced.session.max_output_tokens == 4096
        connection.session.update(session={**MANUAL, "max_output_tokens": "inf"})
        assert (until(connection, "session.updated")).session.max_output_tokens == 4096
        say(connection, "Hello [[sim:ok tokens=50]]")
        connection.response.create(response={"max_output_tokens": 7})
        done = until(connection, "response.done")
        assert (done.response.status, done.response.usage.output_tokens) == ("incomplete", 7)
    [entry] = charges(shop, 1)
    assert entry.cost_nano == invoiced(shop, entry)


def test_hanging_up_in_the_middle_of_a_response_is_billed_by_what_was_generated(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hello [[sim:drip gap_ms=30 tokens=400]]")
        connection.response.create()
        until(connection, "response.output_text.delta")
    [entry] = charges(shop, 1)
    assert entry.basis == "measured"
    assert entry.cost_nano == invoiced(shop, entry)
    assert entry.output_tokens < 400


def test_a_provider_that_breaks_off_costs_what_was_held_and_the_client_hears_of_it(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hello [[sim:cut k=2]]")
        connection.response.create()
        assert close_code(connection) == 1014
    [entry] = charges(shop, 1)
    assert entry.basis == "assumed"
    assert entry.cost_nano == entry.hold_nano > invoiced(shop, entry)


def test_an_answer_without_usage_is_charged_as_held_and_a_failed_one_is_free(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hello [[sim:no-usage]]")
        connection.response.create()
        until(connection, "response.done")
        say(connection, "Hello [[sim:500]]")
        connection.response.create()
        assert (until(connection, "response.done")).response.status == "failed"
    [entry] = charges(shop, 1)
    assert (entry.basis, entry.error) == ("assumed", "usage_missing")


def test_a_response_that_the_provider_declines_gives_its_hold_back(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hello [[sim:drip gap_ms=5 tokens=20]]")
        connection.response.create()
        until(connection, "response.created")
        connection.response.create(event_id="mine")
        while (event := connection.recv()).type != "error":
            pass
        assert (event.error.event_id, event.error.code) == ("mine", "conversation_already_has_active_response")
        until(connection, "response.done")
    [entry] = charges(shop, 1)
    assert entry.cost_nano == invoiced(shop, entry)


def test_a_rate_limit_is_an_error_event_and_the_session_goes_on(client: OpenAI, shop: Shop) -> None:
    shop.do(create_rate_limit, metric="rph", limit=2)
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        until(connection, "session.updated")
        for _ in range(2):
            say(connection, "Hi")
            connection.response.create()
            until(connection, "response.done")
        connection.response.create(event_id="third")
        while (event := connection.recv()).type != "error":
            pass
        assert (event.error.type, event.error.event_id) == ("rate_limit_error", "third")
        say(connection, "Still here")
        until(connection, "conversation.item.added")
    charges(shop, 2)


def test_a_revoked_key_ends_the_session_before_its_next_response(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hi")
        connection.response.create()
        until(connection, "response.done")
        shop.do(revoke_virtual_key, key_id=shop.key_id)
        connection.response.create()
        assert close_code(connection) == 4401
    charges(shop, 1)


def test_a_browser_shows_its_key_as_a_subprotocol_and_says_whom_it_is_for_in_the_query(
    gateway: GatewayProcess, shop: Shop
) -> None:
    address = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=sim-realtime&sluice-customer=acme"
    protocols: Any = ["realtime", f"openai-insecure-api-key.{shop.key}"]
    with connect(address, subprotocols=protocols) as socket:
        assert socket.subprotocol == "realtime"
        for event in ({"type": "session.update", "session": MANUAL}, {"type": "response.create"}):
            socket.send(json.dumps(event))
        while json.loads(socket.recv())["type"] != "response.done":
            pass
    [entry] = charges(shop, 1)
    assert entry.customer == "acme"


@pytest.mark.parametrize(
    ("query", "key", "status"),
    [
        ("model=sim-realtime", "slk_wrong", 401),
        ("model=sim-realtime", "", 401),
        ("model=nobody", None, 404),
        ("model=sim-small", None, 404),
        ("", None, 400),
        ("model=sim-realtime&intent=transcription", None, 404),
        ("model=sim-hear", None, 404),
        ("model=sim-realtime&intent=translation", None, 400),
        ("model=sim-realtime&call_id=rtc_1", None, 400),
        ("model=sim-realtime&api_key=slk_1", None, 400),
    ],
)
def test_a_handshake_that_cannot_be_meant_is_answered_like_any_bad_call(
    gateway: GatewayProcess, shop: Shop, query: str, key: str | None, status: int
) -> None:
    address = f"ws://127.0.0.1:{gateway.port}/v1/realtime?{query}"
    assert status_of_handshake(address, shop.key if key is None else key)[0] == status
    assert nothing_held(shop)


def test_under_a_hard_budget_nothing_leaves_whose_cost_is_not_understood(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        until(connection, "session.created")
        until(connection, "session.updated")
        for event in (
            {"type": "response.create", "response": {"tools": [{"type": "mcp", "server_label": "x"}]}},
            {"type": "something.new"},
            {"type": "response.create", "type ": 1, "response": {}, "event_id": "ok"},
        ):
            connection.send_raw(json.dumps(event))
        connection.send_raw('{"type":"response.cancel","type":"response.create"}')
        codes: list[str] = []
        while len(codes) < 3:
            event = connection.recv()
            if event.type == "error":
                codes.append(event.error.code)
        assert codes == ["model_not_priced", "model_not_priced", "invalid_event"]
        until(connection, "response.done")
    charges(shop, 1)


@pytest.mark.long
def test_a_gateway_that_stops_lets_a_response_end_and_asks_to_come_again(shop: Shop) -> None:
    own = shop.world.gateway()
    client = OpenAI(base_url=f"{own.url}/v1", api_key=shop.key)
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hello [[sim:drip gap_ms=20 tokens=20]]")
        connection.response.create()
        until(connection, "response.output_text.delta")
        stopping = ThreadPoolExecutor(1).submit(own.stop)
        assert (until(connection, "response.done")).response.status == "completed"
        assert close_code(connection) == 1012
        stopping.result()
    [entry] = charges(shop, 1)
    assert entry.cost_nano == invoiced(shop, entry)
