"""The worst case before a call is sent: never less than what the call can cost, and refused where there is no bound."""

from __future__ import annotations

import base64
import json
import struct
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.domain.modalities import dimensions, survey
from billing.domain.pricing import price
from billing.domain.quote import BadLimit, Quote, counted_usage, limit_field, quote
from billing.prices import default_book

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHAT, RESPONSES, MESSAGES, GENERATE = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/m:generateContent",
)


def quoted(
    body: dict[str, Any], provider: str = "openai", endpoint: str = CHAT, model: str = "gpt-4o", **options: Any
) -> Quote:
    rates = default_book().rates(provider, model, NOW)
    return quote(provider, endpoint, body, len(json.dumps(body, ensure_ascii=False).encode()), rates, **options)


def said(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_the_bound_is_input_by_bytes_plus_the_output_limit() -> None:
    bound = quoted(said(max_completion_tokens=100))

    assert bound.output_tokens_cap == 100
    assert bound.output_limit_source == "client"
    assert bound.amount_nano == bound.input_tokens_bound * 2_500 + 100 * 10_000
    assert bound.tokens_bound == bound.input_tokens_bound + 100


def test_without_a_limit_the_models_maximum_counts() -> None:
    bound = quoted(said())

    assert (bound.output_tokens_cap, bound.output_limit_source) == (16_384, "model")


def test_a_keys_default_limit_comes_before_the_models_maximum() -> None:
    bound = quoted(said(), default_limit=500)

    assert (bound.output_tokens_cap, bound.output_limit_source) == (500, "default")


def test_a_limit_above_the_models_maximum_is_cut_to_it() -> None:
    bound = quoted(said(max_tokens=1_000_000))

    assert (bound.output_tokens_cap, bound.client_limit) == (16_384, 1_000_000)


@pytest.mark.parametrize(
    "value", [True, False, 0, -1, 1.5, 100.0, "100", [], {}, 10**18, float("nan"), float("inf")], ids=repr
)
@pytest.mark.parametrize(
    "field, provider, endpoint, model",
    [
        ("max_tokens", "openai", CHAT, "gpt-4o"),
        ("max_completion_tokens", "openai", CHAT, "gpt-4o"),
        ("max_output_tokens", "openai", RESPONSES, "gpt-4o"),
        ("max_tokens", "anthropic", MESSAGES, "claude-opus-5"),
        ("n", "openai", CHAT, "gpt-4o"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused_by_name(
    field: str, provider: str, endpoint: str, model: str, value: Any
) -> None:
    if type(value) is int and value == 0 and provider == "anthropic":
        value = -(10**9)  # its messages take 0: nothing is answered
    with pytest.raises(BadLimit) as refusal:
        quoted(said(**{field: value}), provider, endpoint, model)

    assert refusal.value.param == field
    assert field in str(refusal.value)


def test_two_limits_that_disagree_are_refused() -> None:
    with pytest.raises(BadLimit, match="send one of them"):
        quoted(said(max_tokens=10, max_completion_tokens=20))

    assert quoted(said(max_tokens=10, max_completion_tokens=10)).output_tokens_cap == 10


def test_null_is_no_limit() -> None:
    assert quoted(said(max_tokens=None)).output_limit_source == "model"


def test_every_answer_asked_for_is_held() -> None:
    one, three = quoted(said(max_tokens=1000)), quoted(said(max_tokens=1000, n=3))
    prompts = quoted(
        {"prompt": ["a", "b"], "max_tokens": 1000, "best_of": 3},
        endpoint="/v1/completions",
        model="gpt-3.5-turbo-instruct",
    )

    assert one.amount_nano is not None
    assert three.amount_nano is not None
    assert three.amount_nano > one.amount_nano + 2 * 1000 * 10_000 - 10**6
    assert prompts.outputs == 6


def test_what_would_fit_fits_exactly() -> None:
    bound = quoted(said(max_tokens=10_000))
    assert bound.amount_nano is not None
    remaining = bound.amount_nano // 3

    limit = bound.fits(remaining)

    assert limit is not None
    assert bound.at_limit(limit) <= remaining < bound.at_limit(limit + 1)
    assert bound.fits(bound.amount_nano) == 10_000
    assert bound.fits(0) is None


def test_a_model_nobody_priced_is_refused() -> None:
    bound = quoted(said(model="gpt-99"), model="gpt-99")

    assert bound.amount_nano is None
    assert bound.refusal == "model_not_priced: gpt-99"
    assert bound.fits(10**15) is None


def test_the_dearest_tier_is_held_when_the_tier_is_automatic() -> None:
    automatic = quoted(said(max_tokens=1000, service_tier="auto"))

    assert automatic.amount_nano == automatic.input_tokens_bound * 4_250 + 1000 * 17_000  # priority's rates


def test_an_unknown_tier_is_refused() -> None:
    assert (quoted(said(service_tier="warp")).refusal or "").startswith("unpriced: service tier")


def test_a_bound_that_can_cross_the_threshold_uses_the_dearer_side() -> None:
    short = quoted(said("x" * 1000, max_tokens=1), model="gpt-5.4")
    long = quoted(said("x" * 300_000, max_tokens=1), model="gpt-5.4")

    assert short.amount_nano is not None
    assert long.amount_nano is not None
    assert long.amount_nano == long.input_tokens_bound * 5_000 + 22_500
    assert short.amount_nano == short.input_tokens_bound * 2_500 + 15_000


def test_a_request_that_can_write_a_cache_is_held_at_the_write_rate() -> None:
    plain = quoted(said(max_tokens=1), "anthropic", MESSAGES, "claude-sonnet-4-5")
    marked = said(
        max_tokens=1, system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    )
    hourly = quoted(marked, "anthropic", MESSAGES, "claude-sonnet-4-5")

    assert plain.amount_nano == plain.input_tokens_bound * 3_000 + 15_000
    assert hourly.amount_nano == hourly.input_tokens_bound * 6_000 + 15_000


def test_the_workspace_default_of_us_inference_is_held_for() -> None:
    silent = quoted(said(max_tokens=1), "anthropic", MESSAGES, "claude-opus-5")
    stated = quoted(said(max_tokens=1, inference_geo="global"), "anthropic", MESSAGES, "claude-opus-5")

    assert silent.amount_nano == -(-silent.input_tokens_bound * 55_000 // 10) + 27_500
    assert stated.amount_nano == stated.input_tokens_bound * 5_000 + 25_000


def test_automatic_cache_writes_are_held_where_models_have_them() -> None:
    bound = quoted(said(max_tokens=1), model="gpt-6-sol")

    assert bound.amount_nano == bound.input_tokens_bound * 2_500 + 10_000


def png(width: int, height: int) -> str:
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(2000)
    ).decode()


def test_an_image_is_bounded_by_its_own_size_and_not_by_its_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + png(640, 320)}}
    bound = quoted({"messages": [{"role": "user", "content": [picture]}], "max_tokens": 1}, model="gpt-5.5")

    assert 240 <= bound.input_tokens_bound < 240 + 400  # 20 x 10 patches x 1.2, and framing


def test_an_image_by_address_is_held_at_the_cap() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    bound = quoted({"messages": [{"role": "user", "content": [picture]}], "max_tokens": 1}, model="gpt-4o-mini")

    assert bound.input_tokens_bound >= 48_169


def test_what_only_looks_like_an_image_is_text() -> None:
    hidden = {"type": "image", "source": {"type": "base64", "data": "A" * 50_000}}
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": hidden}]}
    bound = quoted({"messages": [call], "max_tokens": 1}, "anthropic", MESSAGES, "claude-opus-5")

    assert bound.input_tokens_bound >= 50_000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "https://x"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "hologram", "data": "x"},
        {"type": "input_audio", "input_audio": {"url": "https://x"}},
    ],
    ids=lambda part: part["type"],
)
def test_content_of_unknown_size_is_refused(part: dict[str, Any]) -> None:
    bound = quoted({"messages": [{"role": "user", "content": [part]}], "max_tokens": 1})

    assert bound.amount_nano is None
    assert (bound.refusal or "").startswith("input_unbounded")


def test_audio_needs_a_model_with_an_audio_rate() -> None:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(bytes(30_000)).decode(), "format": "mp3"}}
    body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 10}

    assert quoted(body, model="gpt-4o").refusal == "unpriced: input_audio has no rate"
    assert quoted(body, model="gpt-audio").amount_nano is not None


def test_stored_input_is_held_at_the_context_window() -> None:
    bound = quoted({"input": "hi", "previous_response_id": "resp_1", "max_output_tokens": 10}, endpoint=RESPONSES)

    assert bound.input_tokens_bound >= 128_000


@pytest.mark.parametrize(
    "tools, provider, endpoint, model",
    [
        ([{"type": "web_search"}], "openai", RESPONSES, "gpt-5"),
        ([{"type": "web_search_20250305", "name": "web_search"}], "anthropic", MESSAGES, "claude-opus-5"),
        ([{"type": "code_execution_20250825", "name": "code_execution"}], "anthropic", MESSAGES, "claude-opus-5"),
        ([{"type": "mcp", "server_url": "https://x"}], "openai", RESPONSES, "gpt-5"),
        ([{"googleSearch": {}}], "google", GENERATE, "gemini-3.1-pro-preview"),
        ([{"urlContext": {}}], "google", GENERATE, "gemini-2.5-flash"),
    ],
)
def test_a_server_tool_without_a_bound_is_refused(tools: list[Any], provider: str, endpoint: str, model: str) -> None:
    bound = quoted(said(tools=tools, max_tokens=10), provider, endpoint, model)

    assert bound.amount_nano is None
    assert (bound.refusal or "").startswith("unpriced")


def test_a_server_tool_with_a_bound_is_held_for() -> None:
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    bound = quoted(said(tools=[tool], max_tokens=10), "anthropic", MESSAGES, "claude-opus-5")

    assert bound.amount_nano is not None
    assert bound.input_tokens_bound >= 3_000_000
    assert bound.amount_nano >= 3_000_000 * 5_500 + 20_000_000


def test_client_tools_are_text() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    assert quoted(said(tools=[tool] * 50, max_tokens=10)).amount_nano is not None


def test_an_unknown_field_that_smells_of_money_is_refused() -> None:
    assert "'deep_search_mode'" in (quoted(said(deep_search_mode=True)).refusal or "")
    assert quoted(said(top_k=5, chat_template_kwargs={})).amount_nano is not None


def test_rejected_predictions_are_held_for() -> None:
    plain = quoted(said(max_tokens=10))
    predicted = quoted(said(max_tokens=10, prediction={"type": "content", "content": "x" * 1000}))

    assert predicted.amount_nano is not None
    assert plain.amount_nano is not None
    assert predicted.amount_nano - plain.amount_nano >= 1000 * 10_000


def test_counting_is_tighter_than_bytes_and_still_a_bound() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 200
    by_bytes, counted = quoted(said(text, max_tokens=10)), quoted(said(text, max_tokens=10), exact=True)

    assert counted.input_tokens_bound < by_bytes.input_tokens_bound / 3
    assert counted.input_tokens_bound > 200 * 10


def test_numbers_in_a_prompt_are_counted_too() -> None:
    body = {"prompt": list(range(5000)), "max_tokens": 10}

    assert (
        quoted(body, endpoint="/v1/completions", model="gpt-3.5-turbo-instruct", exact=True).input_tokens_bound >= 5000
    )


def test_speech_is_held_by_its_characters() -> None:
    bound = quoted({"model": "tts-1", "input": "x" * 100, "voice": "alloy"}, endpoint="/v1/audio/speech", model="tts-1")

    assert bound.amount_nano == 100 * 15_000


def test_a_transcription_is_held_by_the_size_of_its_file() -> None:
    known = quoted(
        {"model": "whisper-1", "file_bytes": 1_000_000}, endpoint="/v1/audio/transcriptions", model="whisper-1"
    )
    unknown = quoted({"model": "whisper-1"}, endpoint="/v1/audio/transcriptions", model="whisper-1")

    assert known.amount_nano is not None
    assert known.amount_nano >= 2000 * 100_000
    assert unknown.amount_nano is None


def test_embeddings_and_moderation_have_no_output() -> None:
    assert quoted({"input": "hi"}, endpoint="/v1/embeddings", model="text-embedding-3-small").output_tokens_cap == 0
    assert quoted({"input": "hi"}, endpoint="/v1/moderations", model="omni-moderation-latest").amount_nano == 0


@pytest.mark.parametrize(
    "provider, endpoint, path",
    [
        ("openai", CHAT, ("max_completion_tokens",)),
        ("mistral", CHAT, ("max_tokens",)),
        ("openai", RESPONSES, ("max_output_tokens",)),
        ("anthropic", MESSAGES, ("max_tokens",)),
        ("google", GENERATE, ("generationConfig", "maxOutputTokens")),
        ("ollama", "/api/chat", ("options", "num_predict")),
        ("openai", "/v1/embeddings", None),
    ],
)
def test_the_field_to_set_is_the_apis_own(provider: str, endpoint: str, path: tuple[str, ...] | None) -> None:
    assert limit_field(provider, endpoint) == path


def test_a_stream_without_usage_is_counted_and_marked() -> None:
    rates = default_book().rates("openai", "gpt-4o", NOW)
    assert rates is not None
    usage = counted_usage("openai", CHAT, said("Tell me a joke"), "Why did the chicken cross the road?", rates)
    priced = price(usage, rates)

    assert priced.status == "estimated"
    assert 0 < usage.buckets["output_text"] < 15
    assert priced.cost_nano


@pytest.mark.parametrize(
    "head, size",
    [
        (b"GIF89a" + struct.pack("<HH", 7, 9), (7, 9)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (99).to_bytes(3, "little") + (49).to_bytes(3, "little"), (100, 50)),
        (
            b"\xff\xd8\xff\xe0\x00\x10" + bytes(14) + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 30, 40) + bytes(10),
            (40, 30),
        ),
        (b"not an image at all", None),
        (b"\xff\xd8\xff\xe0\x00\x00", None),
    ],
)
def test_dimensions_are_read_from_the_header(head: bytes, size: tuple[int, int] | None) -> None:
    assert dimensions(base64.b64encode(head).decode()) == size


def test_a_body_nested_beyond_reason_is_refused_and_not_crashed_on() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]

    assert quoted({"messages": [{"role": "user", "content": deep}]}).refusal == "input_unbounded: nested too deeply"


def test_plain_text_is_not_held_for_as_if_it_were_strange() -> None:
    plain = quoted(said("x" * 3000, max_tokens=1), "xai", CHAT, "grok-4.3")
    strange = quoted(said("\ufdfa" * 1000, max_tokens=1), "xai", CHAT, "grok-4.3")

    assert plain.input_tokens_bound < 5_000
    assert strange.input_tokens_bound >= 33_000


def test_a_maximum_that_is_the_whole_window_leaves_room_for_the_prompt() -> None:
    bound = quoted(said("x" * 10_000), "xai", CHAT, "grok-4.5")

    assert bound.output_tokens_cap + bound.input_tokens_bound <= 500_000
    assert bound.output_limit_source == "model"


def test_thousands_of_tools_are_walked_without_a_call_for_each_of_their_nodes() -> None:
    properties = {"city": {"type": "string", "description": "x"}, "n": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": f"tool_{n}", "parameters": schema}} for n in range(5_000)]
    marked = {
        "type": "function",
        "function": {"name": "last", "parameters": schema},
        "cache_control": {"type": "ephemeral"},
    }
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        found = survey({"messages": [{"role": "user", "content": "hi"}], "tools": [*tools, marked]}, "openai", "gpt-4o")
    finally:
        sys.setprofile(None)
    assert len(found.tools) == 5_001
    assert found.cache_write == "5m", "the marker of the last one is seen"
    assert calls < 1_000, "35,000 nodes took four calls each"


def test_only_anthropics_messages_can_ask_for_no_output_at_all() -> None:
    bound = quoted(said(max_tokens=0), "anthropic", MESSAGES, "claude-opus-4-8")
    assert (bound.output_tokens_cap, bound.output_limit_source) == (0, "client")
    assert bound.amount_nano
    assert bound.fits(bound.amount_nano - 1) is None
    with pytest.raises(BadLimit):
        quoted(said(max_tokens=0))
