"""Reading usage: what is garbage is never billed, what is new is never silent, what is streamed is never summed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.domain.events import PriceStatus
from billing.domain.pricing import price
from billing.domain.usage import Usage, UsageContext, extract, is_believed
from billing.prices import default_book
from tests.billing.domain.vectors.own import GENERATE, MESSAGES, chat, gemini, message

CHAT = "/v1/chat/completions"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
GARBAGE = [-1, 1.5, "12", True, 10**18, float("inf"), [], {}, None]


def usage_of(prompt: Any, output: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "choices": [{"message": {"content": "ok"}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": output},
    }


@pytest.mark.parametrize("value", GARBAGE, ids=repr)
@pytest.mark.parametrize("key", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_is_no_count_makes_openai_usage_unusable(key: str, value: Any) -> None:
    body = usage_of(10, 10)
    body["usage"][key] = value

    usage = extract("openai", CHAT, body)

    assert not usage.measured
    assert any(key in flag for flag in usage.flags)
    assert all(quantity >= 0 for quantity in usage.buckets.values())


@pytest.mark.parametrize("value", [v for v in GARBAGE if v is not None], ids=repr)
@pytest.mark.parametrize(
    "key", ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
)
def test_a_count_that_is_no_count_makes_anthropic_usage_unusable(key: str, value: Any) -> None:
    body = message("m", 10, 10)
    body["usage"][key] = value

    assert not extract("anthropic", MESSAGES, body).measured


@pytest.mark.parametrize("value", [v for v in GARBAGE if v is not None], ids=repr)
@pytest.mark.parametrize(
    "key", ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount"]
)
def test_a_count_that_is_no_count_makes_gemini_usage_unusable(key: str, value: Any) -> None:
    body = gemini("m", 10, 10)
    body["usageMetadata"][key] = value

    assert not extract("google", GENERATE, body).measured


@pytest.mark.parametrize(
    "usage", [None, 0, "none", [], {}, {"prompt_tokens": None, "completion_tokens": None}], ids=repr
)
def test_an_answer_without_usable_usage_says_so(usage: Any) -> None:
    assert not extract("openai", CHAT, {"model": "m", "choices": [{}], "usage": usage}).measured


def test_an_answer_cannot_have_cost_no_tokens_at_all() -> None:
    assert not extract("openai", CHAT, usage_of(0, 0)).measured


def test_more_cached_than_prompted_is_a_contradiction() -> None:
    usage = extract("openai", CHAT, chat("m", 10, 10, cached=11))

    assert not usage.measured
    assert "subset_exceeds_total:cached_tokens" in usage.flags


def test_a_key_nobody_taught_us_is_named() -> None:
    usage = extract("openai", CHAT, chat("m", 10, 10, quantum_tokens=7))

    assert usage.flags == ("schema_drift:quantum_tokens",)
    assert usage.measured


def test_a_new_key_inside_the_details_is_named() -> None:
    assert extract("anthropic", MESSAGES, message("m", 1, 1, server_tool_use={"teleport_requests": 1})).flags == (
        "schema_drift:server_tool_use.teleport_requests",
    )
    assert extract("google", GENERATE, gemini("m", 1, 1, dreamTokenCount=5)).flags == ("schema_drift:dreamTokenCount",)


def test_a_total_that_does_not_add_up_is_flagged_where_totals_are_inclusive() -> None:
    assert "provider_total_differs" in extract("openai", CHAT, chat("m", 10, 10, total_tokens=25)).flags
    assert extract("xai", CHAT, chat("m", 10, 10, total_tokens=25)).buckets == {"input_uncached": 10, "output_text": 15}


@pytest.mark.parametrize(
    "payload",
    [None, 5, "text", b"\x00", [], [None, 3], {}, {"usage": {"prompt_tokens": {}}}, {"response": 4}, {"result": []}],
    ids=repr,
)
@pytest.mark.parametrize("endpoint", [CHAT, "/v1/responses", MESSAGES, GENERATE, "/v1/images/edits", "/v1/audio/speech", "/v1/audio/transcriptions",
                                      "/v1/realtime", "/api/chat", "/v2/chat", "/v1/ocr", "/v1/batches", "", "/model/x/converse"])  # fmt: skip
def test_nothing_a_provider_sends_raises(endpoint: str, payload: Any) -> None:
    for provider in ("openai", "anthropic", "google", "xai", "cohere", "mistral", "nobody"):
        usage = extract(provider, endpoint, payload)
        assert all(quantity > 0 for quantity in usage.buckets.values())


def test_cumulative_chunks_replace_and_are_not_summed() -> None:
    chunks = [gemini("m", 100, n) for n in (10, 40, 90)]

    assert extract("google", GENERATE, chunks, streamed=True).buckets == {"input_uncached": 100, "output_text": 90}


def test_a_last_chunk_that_forgot_the_thoughts_is_filled_up() -> None:
    first = gemini("m", 100, 10, thoughtsTokenCount=50)
    last = gemini("m", 100, 90)
    last["usageMetadata"]["totalTokenCount"] = 240

    assert extract("google", GENERATE, [first, last], streamed=True).buckets == {
        "input_uncached": 100,
        "output_text": 140,
    }


def test_an_error_after_output_is_not_free() -> None:
    events = [{"choices": [{"delta": {"content": "Hi"}}], "model": "m"}, {"error": {"message": "overloaded"}}]

    assert not extract("openai", CHAT, events, streamed=True).measured


def test_an_error_before_output_is_free() -> None:
    usage = extract("openai", CHAT, [{"error": {"message": "overloaded"}}], streamed=True)

    assert usage.measured
    assert not usage.buckets


def test_the_raw_usage_is_kept_for_re_rating() -> None:
    body = chat("m", 10, 10)

    assert extract("openai", CHAT, body).raw is body["usage"]


def test_a_stream_of_writes_that_grew_keeps_the_long_ones() -> None:
    start = message(
        "m",
        5,
        1,
        cache_creation_input_tokens=100,
        cache_creation={"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
    )
    delta = {"type": "message_delta", "usage": {"cache_creation_input_tokens": 150, "output_tokens": 9}}

    usage = extract("anthropic", MESSAGES, [{"type": "message_start", "message": start}, delta], streamed=True)

    assert usage.buckets == {"input_uncached": 5, "cache_write_5m": 90, "cache_write_1h": 60, "output_text": 9}


def test_a_new_count_makes_the_price_partial_and_a_new_word_does_not() -> None:
    counted = extract("openai", CHAT, chat("gpt-4o", 10, 10, quantum_tokens=7))
    worded = extract("openai", CHAT, chat("gpt-4o", 10, 10, mood="fine"))

    assert price(counted, default_book().rates("openai", "gpt-4o", NOW)).status is PriceStatus.PARTIAL
    assert price(worded, default_book().rates("openai", "gpt-4o", NOW)).status is PriceStatus.EXACT


def test_parts_are_counted_together_for_the_ledger() -> None:
    usage = extract(
        "anthropic",
        MESSAGES,
        message("claude-opus-5", 500, 100, iterations=[
            {"type": "message", "input_tokens": 500, "output_tokens": 100},
            {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 5, "output_tokens": 7},
        ]),
    )  # fmt: skip

    assert usage.buckets == {"input_uncached": 500, "output_text": 100}
    assert usage.all_buckets == {"input_uncached": 505, "output_text": 107}
    assert usage.total_tokens == 612


@pytest.mark.parametrize(
    ("usage", "answered", "believed"),
    [
        (Usage(buckets={"input_uncached": 1}), True, True),
        (Usage(buckets={}), True, False),
        (Usage(buckets={}), False, True),
        (Usage(buckets={}, fees={"web_search": 1}), True, True),
        (Usage(buckets={}, parts=(Usage(buckets={"audio_milliseconds": 500}),)), True, True),
        (Usage(buckets={}, context=UsageContext(stated_cost_usd=Decimal(0))), True, True),
    ],
)
def test_zero_tokens_are_believed_of_nothing_but_what_never_answered(
    usage: Usage, answered: bool, believed: bool
) -> None:
    assert is_believed(usage, answered=answered) is believed


def test_of_keys_without_end_a_few_are_named() -> None:
    odd = {f"new_tokens_{number}": 1 for number in range(1_000)}
    usage = extract(
        "openai",
        "/v1/chat/completions",
        {"model": "gpt-4o", "usage": {"prompt_tokens": 1, "completion_tokens": 1, **odd}},
    )

    drift = [flag for flag in usage.flags if flag.startswith("schema_drift:")]
    assert len(drift) == len(usage.missing) == 9
    assert drift[0] == "schema_drift:(more)"
