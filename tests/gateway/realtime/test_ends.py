"""How sessions begin and end where something goes wrong, and what is on the books then: what the provider's own invoice says."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from openai import OpenAI
from websockets.exceptions import ConnectionClosed

from gateway.realtime.upward import Pace
from guardrails.actions import create_budget, update_budget
from tests.gateway.realtime.talks import (
    MANUAL,
    SILENCE,
    SPEECH,
    by_itself,
    charges,
    close_code,
    invoiced,
    say,
    sessions_invoice,
    talking,
    until,
)
from tests.gateway.world import GatewayProcess, Shop, World
from workspaces import actions
from workspaces.actions import suspend_workspace

pytestmark = pytest.mark.filterwarnings(
    "ignore:connect.. must be used as a context manager:DeprecationWarning"
)  # in the SDK
TURN = base64.b64decode(SPEECH) + base64.b64decode(SILENCE)


def hear(connection: Any, sound: bytes) -> None:
    event = {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()}
    connection.send_raw(json.dumps(event))


def test_several_turns_in_one_burst_of_sound_are_each_held_for_before_they_are_answered(
    client: OpenAI, shop: Shop
) -> None:
    shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        name = until(connection, "session.created").session.id
        connection.session.update(session=by_itself(interrupt_response=False))
        while until(connection, "session.updated").session.audio.input.turn_detection.idle_timeout_ms is None:
            continue  # the gateway's own settings
        hear(connection, TURN * 2)
        for _ in range(2):
            until(connection, "response.done")
    entries = charges(shop, 2)
    assert {entry.unpacked()["provider_request_id"]: entry.cost_nano for entry in entries} == sessions_invoice(
        shop, name
    )
    assert [entry.flags for entry in entries] == [[], []]


def test_where_the_budget_has_room_for_one_answer_what_is_said_meanwhile_waits_and_a_stop_passes_it(
    client: OpenAI, shop: Shop
) -> None:
    shop.do(create_budget, cap="0.6", period="day")
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=by_itself())
        say(connection, "Talk [[sim:drip gap_ms=20 tokens=2000]]")
        until(connection, "conversation.item.added")
        hear(connection, TURN)
        until(connection, "response.output_audio.delta")
        say(connection, "And then?")
        connection.response.cancel()
        seen = []
        while "conversation.item.added" not in seen:
            seen.append(connection.recv().type)
        assert seen.index("response.done") < seen.index("conversation.item.added")
        assert "error" not in seen
    [entry] = charges(shop, 1)
    assert entry.cost_nano == invoiced(shop, entry)
    assert (entry.basis, entry.output_tokens < 2000) == ("measured", True)


def test_a_client_that_hangs_up_while_its_words_wait_is_noticed_and_billed_for_what_was_generated(
    client: OpenAI, shop: Shop
) -> None:
    shop.do(create_budget, cap="0.6", period="day")
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=by_itself())
        say(connection, "Talk [[sim:drip gap_ms=20 tokens=2000]]")
        until(connection, "conversation.item.added")
        hear(connection, TURN)
        until(connection, "response.output_audio.delta")
        say(connection, "And then?")
    [entry] = charges(shop, 1)
    assert entry.cost_nano == invoiced(shop, entry)
    assert entry.output_tokens < 2000


def test_a_stopped_workspace_hears_what_was_held_for_to_the_end_and_no_more(client: OpenAI, shop: Shop) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        say(connection, "Talk [[sim:drip gap_ms=5 tokens=40]]")
        until(connection, "conversation.item.added")
        hear(connection, TURN)
        until(connection, "response.output_audio.delta")
        shop.do(suspend_workspace)
        assert until(connection, "response.done").response.status == "completed"
        hear(connection, TURN)  # the next was held for already
        assert until(connection, "response.done").response.status == "completed"
        assert close_code(connection) == 4403
    entries = charges(shop, 2)
    assert [entry.cost_nano for entry in entries] == [invoiced(shop, entry) for entry in entries]
    assert [entry.flags for entry in entries] == [[], []]


@pytest.mark.parametrize("cap", ["5", "0.01"])
def test_a_transcript_that_is_billed_after_the_last_answer_is_booked_with_and_without_room(
    client: OpenAI, shop: Shop, cap: str
) -> None:
    budget = shop.do(create_budget, cap="5", period="day")
    with talking(client) as connection:
        name = until(connection, "session.created").session.id
        heard = {"turn_detection": None, "transcription": {"model": "sim-hear", "prompt": "late"}}
        connection.session.update(session={"type": "realtime", "audio": {"input": heard}})
        until(connection, "session.updated")
        hear(connection, TURN)
        connection.input_audio_buffer.commit()
        until(connection, "input_audio_buffer.committed")
        connection.response.create()
        until(connection, "response.created")
        shop.do(update_budget, budget_id=budget.pk, cap=cap)
        with contextlib.suppress(ConnectionClosed):
            until(connection, "conversation.item.input_audio_transcription.completed")
    billed = sessions_invoice(shop, name)
    assert len(billed) == 2
    answer, transcript = charges(shop, 2)
    assert {answer.cost_nano, transcript.cost_nano} == set(billed.values())
    assert {answer.basis, transcript.basis} == {"measured"}


def test_a_provider_that_breaks_off_while_it_transcribes_costs_what_the_sound_could_and_not_an_answer_more(
    client: OpenAI, shop: Shop
) -> None:
    with talking(client) as connection:
        until(connection, "session.created")
        heard = {"turn_detection": None, "transcription": {"model": "sim-hear", "prompt": "late"}}
        connection.session.update(
            session={"type": "realtime", "output_modalities": ["text"], "audio": {"input": heard}}
        )
        until(connection, "session.updated")
        say(connection, "Hello [[sim:cut k=2]]")
        hear(connection, TURN)
        connection.input_audio_buffer.commit()
        connection.response.create()
        assert close_code(connection) == 1014
    small, large = sorted(charges(shop, 2), key=lambda entry: entry.cost_nano)
    assert {small.basis, large.basis} == {"assumed"}
    assert 0 < small.cost_nano < 1_000_000 < large.cost_nano == large.hold_nano


def test_a_session_is_opened_by_the_next_credential_where_the_first_one_does_not_answer(
    gateway: GatewayProcess, world: World
) -> None:
    shop = world.shop(base_url="http://127.0.0.1:1/v1")
    shop.do(actions.add_credential, provider="simulator", secret="", name="spare", priority=1, verify=False)
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key)
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Hi")
        connection.response.create()
        until(connection, "response.done")
    [entry] = charges(shop, 1)
    assert entry.cost_nano == invoiced(shop, entry)
    void = [one.error for one in shop.booked() if one.state == "void"]
    assert "provider_unreachable" in void


def test_events_beyond_a_thousand_a_second_wait_for_the_next_second() -> None:
    pace = Pace(3)
    assert [pace.wait_s(10.25) for _ in range(3)] == [0, 0, 0]
    assert pace.wait_s(10.5) == 0.5
    assert [pace.wait_s(11.0) for _ in range(2)] == [0, 0]
    assert pace.wait_s(11.5) == 0.5
    assert pace.wait_s(14.0) == 0


@pytest.mark.long
def test_sessions_that_are_silent_or_open_too_long_are_ended_and_their_answers_billed(shop: Shop) -> None:
    own = shop.world.gateway(SLUICE_REALTIME_IDLE_SECONDS="1", SLUICE_REALTIME_TOTAL_SECONDS="3")
    client = OpenAI(base_url=f"{own.url}/v1", api_key=shop.key)
    with talking(client) as silent:
        until(silent, "session.created")
        while (event := silent.recv()).type != "error":
            pass
        assert event.error.code == "session_idle"
        assert close_code(silent) == 4408
    with talking(client) as connection:
        until(connection, "session.created")
        connection.session.update(session=MANUAL)
        say(connection, "Talk [[sim:drip gap_ms=50 tokens=2000]]")
        connection.response.create()
        while (event := connection.recv()).type != "error":
            pass
        assert event.error.code == "session_too_long"
        assert close_code(connection) == 4408
    [entry] = charges(shop, 1)
    assert (entry.basis, entry.cost_nano) == ("measured", invoiced(shop, entry))
