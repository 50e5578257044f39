"""Under a hard budget the gateway asks for the answer to each turn: none begins that nothing is held for, however late a turn is told."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from openai import OpenAI

from billing.models import Entry
from gateway.realtime.beliefs import Beliefs
from guardrails.actions import create_budget, create_rate_limit, delete_rate_limit, update_budget
from tests.gateway.realtime.talks import (
    SILENCE,
    SPEECH,
    by_itself,
    charges,
    close_code,
    nothing_held,
    say,
    sessions_invoice,
    talking,
    until,
)
from tests.gateway.world import Shop

pytestmark = pytest.mark.filterwarnings(
    "ignore:connect.. must be used as a context manager:DeprecationWarning"
)  # in the SDK
TURN = base64.b64encode(base64.b64decode(SPEECH) + base64.b64decode(SILENCE)).decode()
TOLD_LATE = "Talk [[sim:slow first_ms=700 gap_ms=5 tokens=60]]"


def types_until(connection: Any, kind: str) -> list[str]:
    seen: list[str] = []
    while not seen or seen[-1] != kind:
        seen.append(connection.recv().type)
    return seen


def billed(shop: Shop, session: str) -> dict[str, int]:
    """The invoice of a session that is over: an answer that had begun when its client left is on it as soon as nothing is held any more."""
    assert nothing_held(shop)
    return {invoice: nano for invoice, nano in sessions_invoice(shop, session).items() if nano}


def booked_as(shop: Shop, session: str) -> list[Entry]:
    """The lines of a session that is over, once they are those of the invoice. An answer may have been asked for at the very end."""
    entries: list[Entry] = []
    for _ in range(20):
        invoice = billed(shop, session)
        entries = [entry for entry in shop.booked() if entry.state != "void"]
        if {entry.unpacked()["provider_request_id"]: entry.cost_nano for entry in entries} == invoice:
            return entries
        time.sleep(0.1)
    raise AssertionError((invoice, [(entry.state, entry.error, entry.cost_nano) for entry in entries]))


def test_near_a_cap_turns_that_are_told_late_are_answered_one_after_the_other_and_none_is_unheld(
    client: OpenAI, shop: Shop
) -> None:
    shop.do(create_budget, cap="0.6", period="day", name="Room for one answer")
    with talking(client) as connection:
        session = until(connection, "session.created").session.id
        say(connection, TOLD_LATE)
        until(connection, "conversation.item.added")
        for _ in range(3):
            connection.input_audio_buffer.append(audio=TURN)
            time.sleep(
                0.45
            )  # the moment after which silence counts as nothing heard, where a provider answers by itself
        for _ in range(2):
            until(connection, "response.done")
    entries = booked_as(shop, session)
    assert {entry.basis for entry in entries} == {"measured"}
    assert [entry.flags for entry in entries] == [[]] * len(entries)
    assert sum(entry.cost_nano for entry in entries) <= 600_000_000


def test_the_client_sees_the_settings_it_asked_for_and_the_events_of_a_provider_that_answers_by_itself(
    client: OpenAI, shop: Shop
) -> None:
    seen: list[list[str]] = []
    spare: list[int] = []
    for hard in (False, True):
        if hard:
            shop.do(create_budget, cap="5", period="day")
        with talking(client) as connection:
            until(connection, "session.created")
            turns = {"type": "server_vad", "interrupt_response": False, "threshold": 0.4}
            connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
            while (told := until(connection, "session.updated").session.audio.input.turn_detection).threshold != 0.4:
                assert told.create_response is True
            assert told.create_response is True
            connection.input_audio_buffer.append(audio=TURN)
            seen.append(types_until(connection, "response.done"))
        charges(shop, len(seen))
        spare.append(sum(entry.state == "void" for entry in shop.booked()) - sum(spare))
    assert seen[0] == seen[1]
    assert spare == [1, 0], "by itself: one hold always stands ahead. Asked for: one hold, one answer"
    assert seen[0][:4] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "response.created",
    ]


def test_a_client_that_answers_its_turns_itself_is_not_answered_for(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        until(connection, "session.created")
        turns = {"type": "server_vad", "create_response": False, "threshold": 0.4}
        connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
        while (told := until(connection, "session.updated").session.audio.input.turn_detection).threshold != 0.4:
            pass
        assert told.create_response is False
        connection.input_audio_buffer.append(audio=TURN)
        until(connection, "input_audio_buffer.committed")
        say(connection, "Nothing was asked yet")
        assert "response.created" not in types_until(connection, "conversation.item.added")
        connection.response.create()
        until(connection, "response.done")
    charges(shop, 1)


def test_a_turn_that_nothing_may_be_held_for_ends_the_session_and_costs_nothing(client: OpenAI, shop: Shop) -> None:
    budget = shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        session = until(connection, "session.created").session.id
        for _ in range(2):  # the gateway's own: the output limit, and who answers
            until(connection, "session.updated")
        connection.input_audio_buffer.append(audio=TURN)  # on the hold that the session was opened with
        until(connection, "response.done")
        shop.do(update_budget, budget_id=budget.pk, cap="0.01")
        connection.input_audio_buffer.append(audio=TURN)
        assert close_code(connection) == 4402
    [entry] = charges(shop, 1)
    assert {entry.unpacked()["provider_request_id"]: entry.cost_nano} == billed(shop, session)


def test_what_a_provider_begins_by_itself_when_nothing_may_be_held_is_stopped_and_booked_beside_the_cap(
    client: OpenAI, shop: Shop
) -> None:
    budget = shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        session = until(connection, "session.created").session.id
        connection.session.update(session=by_itself(silence_duration_ms=200))
        say(connection, TOLD_LATE)
        until(connection, "conversation.item.added")
        connection.input_audio_buffer.append(audio=TURN)
        connection.input_audio_buffer.append(audio=TURN)
        time.sleep(0.5)
        shop.do(update_budget, budget_id=budget.pk, cap="0.01")
        assert close_code(connection) == 4402
    booked_as(shop, session)


def test_a_response_that_begins_without_a_hold_gets_one_as_soon_as_one_may_be_taken(client: OpenAI, shop: Shop) -> None:
    """A rate limit refuses the hold ahead, and is lifted before the next turn begins."""
    limit = shop.do(create_rate_limit, metric="rpm", limit=4, burst=1)
    with talking(client) as connection:
        session = until(connection, "session.created").session.id
        say(connection, "Talk [[sim:slow first_ms=1500]]")
        until(connection, "conversation.item.added")
        connection.input_audio_buffer.append(audio=TURN)
        time.sleep(1.2)
        connection.input_audio_buffer.append(audio=TURN)
        until(connection, "response.done")
        shop.do(delete_rate_limit, limit_id=limit.pk)
        until(connection, "response.done")
    invoice = billed(shop, session)
    assert len(invoice) == 2
    entries = charges(shop, 2)
    assert {entry.unpacked()["provider_request_id"]: entry.cost_nano for entry in entries} == invoice
    assert [entry.flags for entry in entries] == [[], []]
    assert min(entry.hold_nano for entry in entries) < max(entry.hold_nano for entry in entries), "late: no room ahead"


def test_a_session_that_is_opened_near_a_cap_answers_as_briefly_as_the_budget_has_room_for(
    client: OpenAI, shop: Shop
) -> None:
    budget = shop.do(create_budget, cap="5", period="day", on_tight="clamp")
    with talking(client) as connection:
        until(connection, "session.created")
        whole_nano = shop.held_nano()
    assert nothing_held(shop)
    shop.do(update_budget, budget_id=budget.pk, cap=f"{(whole_nano - 100_000_000) / 1e9:.3f}")
    with talking(client) as connection:
        until(connection, "session.created")
        limit = until(connection, "session.updated").session.max_output_tokens
        assert 0 < limit < 4_000
        say(connection, "Talk [[sim:ok tokens=4000]]")
        connection.input_audio_buffer.append(audio=TURN)
        assert until(connection, "response.done").response.usage.output_tokens == limit
    [entry] = charges(shop, 1)
    assert entry.cost_nano <= entry.hold_nano <= whole_nano - 100_000_000
    assert entry.flags == ["clamped"]


# --- Beliefs ----------------------------------------------------------------------------------------------------------


def settings(**turns: Any) -> dict[str, Any]:
    how = {"type": "server_vad", "create_response": True, **turns}
    return {"session": {"type": "realtime", "audio": {"input": {"turn_detection": how}}}}


def shown(beliefs: Beliefs, kind: str, event: dict[str, Any]) -> Any:
    raw = beliefs.settings(kind, event, json.dumps(event).encode())
    return json.loads(raw)["session"]["audio"]["input"]["turn_detection"]


def test_a_provider_that_does_not_know_the_switch_is_told_once_and_believed() -> None:
    beliefs = Beliefs()
    shown(beliefs, "session.created", settings())
    assert beliefs.turn_off() == {"type": "server_vad", "create_response": False}
    beliefs.sent("ours", off=True)
    assert beliefs.turn_off() is None, "it is on its way"
    assert shown(beliefs, "session.updated", settings())["create_response"] is True
    assert not beliefs.known
    assert beliefs.turn_off() is None
    assert not beliefs.heard("input_audio_buffer.committed", {"item_id": "item_1"}), "it answers by itself"


def test_the_answers_to_updates_are_told_apart_by_their_order() -> None:
    beliefs = Beliefs()
    shown(beliefs, "session.created", settings())
    beliefs.sent("a limit of ours")
    beliefs.sent("ours", off=True)
    assert beliefs.update({**settings(threshold=0.4), "event_id": "mine"}, bounded=True)
    shown(beliefs, "session.updated", settings())
    assert beliefs.known, "that was the limit's"
    beliefs.declined("ours")
    assert shown(beliefs, "session.updated", settings(threshold=0.4, create_response=False))["create_response"] is True
    assert beliefs.known


def test_an_update_that_is_declined_leaves_the_belief_before_it() -> None:
    beliefs = Beliefs()
    shown(beliefs, "session.created", settings())
    beliefs.sent("ours", off=True)
    shown(beliefs, "session.updated", settings(create_response=False))
    assert not beliefs.update({**settings(create_response=False), "event_id": "mine"}, bounded=True)
    beliefs.declined("mine")
    assert shown(beliefs, "session.updated", settings(create_response=False))["create_response"] is True
    assert beliefs.heard("input_audio_buffer.committed", {"item_id": "item_1"})


def test_sound_that_the_client_commits_itself_asks_for_nothing_and_a_turn_that_was_heard_does() -> None:
    beliefs = Beliefs()
    shown(beliefs, "session.created", settings())
    beliefs.sent("ours", off=True)
    shown(beliefs, "session.updated", settings(create_response=False))
    beliefs.committing()
    assert not beliefs.heard("input_audio_buffer.committed", {"item_id": "item_1"})
    beliefs.committing()  # declined: the provider had nothing to commit
    assert not beliefs.heard("input_audio_buffer.speech_started", {"item_id": "item_2"}), "it was not said yet"
    assert not beliefs.heard("input_audio_buffer.speech_stopped", {"item_id": "item_2"})
    assert beliefs.heard("input_audio_buffer.committed", {"item_id": "item_2"})
    assert not beliefs.heard("input_audio_buffer.cleared", {})


def test_a_session_that_speaks_when_nobody_does_is_left_to_the_provider() -> None:
    beliefs = Beliefs()
    shown(beliefs, "session.created", settings())
    assert not beliefs.update({**settings(idle_timeout_ms=5_000), "event_id": "mine"}, bounded=True)
    shown(beliefs, "session.updated", settings(idle_timeout_ms=5_000))
    assert beliefs.turn_off() is None
    assert beliefs.known
