"""What the next response of a session may consume: never less than what it does."""

from __future__ import annotations

from typing import Any

import pytest

from billing.domain import realtime
from billing.domain.realtime import Ahead
from billing.domain.usage import extract
from billing.prices import default_book
from gateway.realtime.conversation import ROOM_TOKENS, SETTINGS_TOKENS, Conversation, refused_reason

NOW_S = 1_795_000_000
WINDOW = 35_200


def talk(**session: Any) -> Conversation:
    """A session that the provider has opened."""
    conversation = Conversation(WINDOW, 3_000)
    stated = {
        "model": "gpt-realtime",
        "type": "realtime",
        "max_output_tokens": "inf",
        "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": {"type": "server_vad"}}},
        **session,
    }
    conversation.provider("session.created", {"session": stated}, 600)
    return conversation


def tokens(conversation: Conversation) -> int:
    return conversation.ahead(room=False).input_tokens


def done(response: str, read: int, written: int) -> dict[str, Any]:
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    return {"response": {"id": response, "usage": usage}}


def test_text_counts_by_its_bytes_and_sound_by_its_length() -> None:
    conversation = talk()
    before = tokens(conversation)
    item = {"content": [{"type": "input_text", "text": "x" * 500}]}
    conversation.client("conversation.item.create", {"item": item}, 600)
    assert tokens(conversation) - before >= 500
    before = tokens(conversation)
    second = "A" * (48_000 * 4 // 3)
    conversation.client("input_audio_buffer.append", {"audio": second}, len(second))
    assert 10 <= tokens(conversation) - before <= 13


def test_sound_in_many_pieces_counts_no_less_than_in_one() -> None:
    whole, pieces = talk(), talk()
    whole.client("input_audio_buffer.append", {"audio": "A" * 640_000}, 0)
    for _ in range(1_000):
        pieces.client("input_audio_buffer.append", {"audio": "A" * 640}, 0)
    assert abs(tokens(whole) - tokens(pieces)) <= 1


def test_a_stated_usage_takes_the_place_of_the_bound_and_what_came_after_the_beginning_is_added() -> None:
    conversation = talk()
    conversation.client("conversation.item.create", {"item": {}}, 10_000)
    conversation.provider("response.created", {"response": {"id": "r1"}}, 50)
    conversation.client("conversation.item.create", {"item": {}}, 300)
    conversation.provider("response.done", done("r1", 2_000, 100), 200)
    assert 2_100 + 300 <= tokens(conversation) <= 2_100 + 400


def test_a_response_with_an_input_of_its_own_says_nothing_of_the_conversation() -> None:
    conversation = talk()
    conversation.client("conversation.item.create", {"item": {}}, 10_000)
    conversation.client("response.create", {"response": {"conversation": "none", "input": []}}, 80)
    conversation.provider("response.created", {"response": {"id": "r1", "conversation_id": None}}, 50)
    conversation.provider("response.done", done("r1", 10, 5), 200)
    assert tokens(conversation) >= 10_000


def test_no_bound_is_above_the_window_to_which_the_provider_cuts() -> None:
    conversation = talk()
    conversation.client("conversation.item.create", {"item": {}}, 10_000_000)
    assert conversation.ahead(room=True).input_tokens == WINDOW


@pytest.mark.parametrize(
    ("turns", "automatic"),
    [
        ({"type": "server_vad"}, True),
        ({"type": "semantic_vad"}, True),
        ({"type": "server_vad", "create_response": False}, False),
        ({"type": "server_vad", "create_response": False, "idle_timeout_ms": 5000}, True),
        (None, False),
    ],
)
def test_who_creates_responses_is_known_in_the_old_and_the_new_shape(turns: Any, automatic: bool) -> None:
    assert talk(audio={"input": {"turn_detection": turns}}).automatic is automatic
    old = Conversation(WINDOW, 0)
    old.provider("session.created", {"session": {"turn_detection": turns}}, 100)
    assert old.automatic is automatic


def test_automatic_turns_end_when_the_provider_confirms_it_and_begin_when_the_client_asks() -> None:
    conversation = talk()
    off = {"session": {"audio": {"input": {"turn_detection": None}}}}
    conversation.client("session.update", off, 80)
    assert conversation.automatic
    conversation.provider("session.updated", off, 80)
    assert not conversation.automatic
    conversation.client("session.update", {"session": {"turn_detection": {"type": "server_vad"}}}, 80)
    assert conversation.automatic
    conversation.not_updated()
    assert not conversation.automatic


def test_of_two_output_limits_the_worse_one_counts_until_the_provider_has_said_which() -> None:
    conversation = talk(max_output_tokens=1_000)
    conversation.client("session.update", {"session": {"max_output_tokens": 50}}, 40)
    assert conversation.limit == 1_000
    conversation.client("session.update", {"session": {"max_output_tokens": "inf"}}, 40)
    assert conversation.limit is None
    conversation.provider("session.updated", {"session": {"max_output_tokens": 50}}, 40)
    conversation.provider("session.updated", {"session": {"max_output_tokens": "inf"}}, 40)
    assert conversation.limit is None


def test_transcription_is_held_from_the_moment_it_is_asked_for() -> None:
    conversation = talk(audio={"input": {"turn_detection": None, "format": {"type": "audio/pcm"}}})
    assert not conversation.automatic
    asked = {"session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}}
    conversation.client("session.update", asked, 90)
    assert conversation.automatic
    conversation.client("input_audio_buffer.append", {"audio": "A" * 64_000 * 10}, 0)
    assert conversation.ahead(room=False).heard_ms >= 10_000
    conversation.provider("input_audio_buffer.committed", {}, 30)
    assert conversation.untranscribed == 1
    assert conversation.ahead(room=False).heard_ms >= 10_000
    conversation.provider("conversation.item.input_audio_transcription.completed", {}, 30)
    assert conversation.untranscribed == 0
    assert conversation.ahead(room=False).heard_ms < 10_000


def test_before_the_provider_has_said_its_settings_there_is_room_for_them() -> None:
    conversation = Conversation(WINDOW, 0)
    first = conversation.ahead(room=True)
    assert first.input_tokens >= SETTINGS_TOKENS + ROOM_TOKENS
    conversation.provider("session.created", {"session": {"max_output_tokens": "inf"}}, SETTINGS_TOKENS)
    assert first.covers(conversation.ahead(room=True))


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("live.session.create", {}),
        ("session.update", {"session": {"tools": [{"type": "mcp", "server_url": "https://x"}]}}),
        ("response.create", {"response": {"tools": [{"type": "function"}, {"type": "mcp"}]}}),
    ],
)
def test_what_has_no_bound_is_named(kind: str, event: dict[str, Any]) -> None:
    assert refused_reason(kind, event)
    assert not refused_reason("response.create", {"response": {"tools": [{"type": "function"}]}})


def test_a_hold_is_the_whole_bound_at_the_dearest_rates() -> None:
    rates = default_book().rates_at("openai", "gpt-realtime", NOW_S)
    quote = realtime.quote(rates, "openai", "gpt-realtime", Ahead(1_000, 4_096))
    assert quote.amount_nano == 1_000 * 32_000 + 4_096 * 64_000
    full = realtime.quote(rates, "openai", "gpt-realtime", Ahead(10**9, None))
    assert full.amount_nano == WINDOW * 32_000 + 4_096 * 64_000
    heard = realtime.quote(
        rates, "openai", "gpt-realtime", Ahead(0, 1, heard_ms=60_000, transcriber="gpt-4o-mini-transcribe")
    )
    assert heard.amount_nano is not None
    assert heard.amount_nano > 64_000 + 600 * 1_250


@pytest.mark.parametrize(
    ("model", "ahead", "refusal"),
    [
        ("nobody", Ahead(10, 10), "model_not_priced"),
        ("gpt-realtime", Ahead(10, 10, transcriber="nobody"), "model_not_priced: nobody"),
    ],
)
def test_what_has_no_price_has_no_bound(model: str, ahead: Ahead, refusal: str) -> None:
    rates = default_book().rates_at("openai", model, NOW_S)
    quote = realtime.quote(rates, "openai", model, ahead)
    assert quote.amount_nano is None
    assert str(quote.refusal).startswith(refusal)


def test_models_that_are_billed_by_the_length_of_a_session_are_told_from_the_others() -> None:
    book = default_book()
    rates = {
        name: book.rates_at("openai", name, NOW_S)
        for name in ("gpt-realtime", "gpt-realtime-2", "gpt-realtime-translate")
    }
    assert [realtime.answers(found) for found in rates.values() if found is not None] == [True, True, False]


def test_a_usage_as_the_ledger_keeps_it_reads_as_the_event_did() -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "total_tokens": 150,
        "input_token_details": {"text_tokens": 20, "audio_tokens": 80, "cached_tokens": 0},
        "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
    }
    event = {"type": "response.done", "response": {"usage": usage}}
    transcript = {
        "type": "conversation.item.input_audio_transcription.completed",
        "model": "whisper-1",
        "usage": {"type": "duration", "seconds": 3},
    }
    told = extract("openai", "/v1/realtime", event)
    kept = extract("openai", "/v1/realtime", {"model": "gpt-realtime", "usage": usage})
    assert (
        told.buckets == kept.buckets == {"input_uncached": 20, "input_audio": 80, "output_text": 10, "output_audio": 40}
    )
    both = extract("openai", "/v1/realtime", {"model": "gpt-realtime", "usage": [event, transcript]})
    assert both.buckets == kept.buckets
    assert [(dict(part.buckets), part.context.model_served) for part in both.parts] == [
        ({"audio_milliseconds": 3_000}, "whisper-1")
    ]


def test_a_transcription_session_holds_for_what_it_hears_and_nothing_that_answers() -> None:
    conversation = Conversation(0, 0, "gpt-live-transcribe")
    assert (conversation.automatic, conversation.answers_alone) == (True, False)
    ahead = conversation.ahead(room=True)
    assert not ahead.answered
    rates = default_book().rates_at("openai", "gpt-live-transcribe", NOW_S)
    minute = realtime.quote(rates, "openai", "gpt-live-transcribe", conversation.heard(60_000))
    assert minute.amount_nano == 17_000_000  # $0.017, its list price
    assert Ahead(10_000, 4_096).covers(Ahead(0, 0, answered=False))
    assert not ahead.covers(Ahead(1, 1))


def test_at_the_end_sound_costs_what_was_being_written_down_also_before_it_was_committed() -> None:
    conversation = Conversation(0, 0, "gpt-live-transcribe")
    settings = {"session": {"audio": {"input": {"format": {"type": "audio/pcm"}}}}}
    conversation.provider("session.created", settings, 100)
    conversation.client("input_audio_buffer.append", {"audio": "A" * 64_000 * 10}, 0)
    assert conversation.untold is None
    conversation.provider("conversation.item.input_audio_transcription.delta", {}, 10)
    streamed = conversation.untold
    assert streamed is not None
    assert 10_000 <= streamed.heard_ms <= 10_001
    conversation.provider("input_audio_buffer.committed", {}, 10)
    committed = conversation.untold
    assert committed is not None
    assert committed.heard_ms >= 10_000
    conversation.provider("conversation.item.input_audio_transcription.completed", {}, 10)
    assert conversation.untold is None


def test_a_provider_is_told_to_answer_no_more_in_the_shape_that_it_speaks() -> None:
    assert talk().silence() == {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    old = Conversation(WINDOW, 0)
    assert old.silence() == {"turn_detection": None}
    assert old.updating
