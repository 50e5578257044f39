"""Laws that hold for every input: nothing is lost between buckets, prices grow with usage, a quote is never below a price."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.domain.extraction.record import MAX_COUNT, Usage, UsageContext
from billing.domain.money import ceil_nano, ceil_ratio, usd_text
from billing.domain.pricing import Rates, _nano_text, price
from billing.domain.quote import quote
from billing.domain.tokens import FACTORS, bound, bound_json, count_tokens, other_bytes
from billing.domain.usage import extract
from billing.prices import default_book
from tests.rig.effort import examples

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
COUNT = st.integers(0, 2_000_000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
USAGE_KEYS = [
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "input_tokens",
]
OTHER_KEYS = [
    "output_tokens",
    "iterations",
    "type",
    "model",
    "usageMetadata",
    "promptTokenCount",
    "candidates",
    "response",
    "result",
]
MORE_KEYS = [
    "custom_id",
    "choices",
    "service_tier",
    "cache_creation",
    "server_tool_use",
    "error",
    "message",
    "tool_usage",
    "output",
]
KEYS = st.sampled_from([*USAGE_KEYS, *OTHER_KEYS, *MORE_KEYS])


def rates(provider: str, model: str) -> Rates:
    found = default_book().rates(provider, model, NOW)
    assert found is not None
    return found


@given(prompt=COUNT, cached=COUNT, written=COUNT, long=COUNT, audio=COUNT, output=COUNT, spoken=COUNT)
def test_openai_buckets_add_up_to_the_providers_total(
    prompt: int, cached: int, written: int, long: int, audio: int, output: int, spoken: int
) -> None:
    usage = extract(
        "openai",
        "/v1/chat/completions",
        {
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
                "prompt_tokens_details": {
                    "cached_tokens": cached,
                    "cache_write_tokens": written,
                    "audio_tokens": audio,
                    "cache_write_tokens_details": {"ttl_12h_tokens": long},
                },
                "completion_tokens_details": {"audio_tokens": spoken},
            }
        },
    )

    assert usage.input_tokens == prompt
    assert usage.output_tokens == output


@given(fresh=COUNT, read=COUNT, short=COUNT, long=COUNT, output=COUNT)
def test_anthropic_buckets_add_up_to_the_providers_total(
    fresh: int, read: int, short: int, long: int, output: int
) -> None:
    usage = extract(
        "anthropic",
        "/v1/messages",
        {
            "usage": {
                "input_tokens": fresh,
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": short + long,
                "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
                "output_tokens": output,
            }
        },
    )

    assert usage.input_tokens == usage.context.prompt_total == fresh + read + short + long
    assert usage.output_tokens == output


@given(prompt=COUNT, cached=COUNT, audio=COUNT, cached_audio=COUNT, output=COUNT, thoughts=COUNT, tool=COUNT)
def test_gemini_buckets_add_up_to_the_providers_total(
    prompt: int, cached: int, audio: int, cached_audio: int, output: int, thoughts: int, tool: int
) -> None:
    usage = extract(
        "google",
        "/v1beta/models/m:generateContent",
        {
            "usageMetadata": {
                "promptTokenCount": prompt,
                "cachedContentTokenCount": cached,
                "candidatesTokenCount": output,
                "thoughtsTokenCount": thoughts,
                "toolUsePromptTokenCount": tool,
                "totalTokenCount": prompt + output + thoughts + tool,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": audio}],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": cached_audio}],
            }
        },
    )

    assert usage.total_tokens == prompt + output + thoughts + tool


@pytest.mark.tries
@settings(max_examples=examples(400, one_in=8))
@given(
    payload=st.recursive(
        JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=6) | st.lists(inner, max_size=3), max_leaves=20
    )
)
def test_no_payload_raises_or_bills_below_zero(payload: Any) -> None:
    for provider, endpoint, model in (
        ("openai", "/v1/chat/completions", "gpt-4o"),
        ("openai", "/v1/responses", "gpt-5"),
        ("anthropic", "/v1/messages", "claude-opus-5"),
        ("google", "/v1beta/models/m:generateContent", "gemini-2.5-flash"),
        ("xai", "", "grok-4.3"),
        ("openai", "/v1/realtime", "gpt-realtime"),
        ("openai", "/v1/images/edits", "gpt-image-1"),
        ("openai", "/v1/audio/transcriptions", "whisper-1"),
    ):
        priced = price(extract(provider, endpoint, payload), default_book().rates(provider, model, NOW))
        assert priced.cost_nano is None or priced.cost_nano >= 0
        assert priced.known_nano >= 0
        json.dumps(priced.breakdown)


@given(
    buckets=st.dictionaries(
        st.sampled_from(["input_uncached", "cache_read", "cache_write_30m", "output_text"]),
        st.integers(1, MAX_COUNT),
        max_size=4,
    ),
    unit=st.sampled_from(["input_uncached", "cache_read", "output_text"]),
    more=st.integers(1, 10**6),
)
def test_more_usage_never_costs_less(buckets: dict[str, int], unit: str, more: int) -> None:
    less = price(Usage(buckets), rates("openai", "gpt-6-sol")).cost_nano
    greater = price(Usage({**buckets, unit: buckets.get(unit, 0) + more}), rates("openai", "gpt-6-sol")).cost_nano

    assert less is not None
    assert greater is not None
    assert greater > less


@given(st.integers(0, 10**30), st.integers(1, 10**12))
def test_rounding_is_up_by_less_than_one(numerator: int, denominator: int) -> None:
    nano = ceil_ratio(numerator, denominator)

    assert 0 <= nano - Fraction(numerator, denominator) < 1
    assert nano == ceil_nano(Fraction(numerator, denominator) / 10**9)


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(0, 10**20) | st.integers(0, 10**11) | st.integers(0, 10**9).map(lambda dollars: dollars * 10**9))
def test_whole_nano_dollars_are_written_as_their_ratio_is(nano: int) -> None:
    assert usd_text(nano) == _nano_text(nano, 1) == _nano_text(nano * 7, 7)
    assert Fraction(usd_text(nano)) * 10**9 == nano


@settings(deadline=None)
@given(
    text=st.text(max_size=400),
    limit=st.integers(1, 4000),
    n=st.integers(1, 4),
    cached=st.floats(0, 1),
    spent=st.floats(0, 1),
    model=st.sampled_from(
        [
            ("openai", "gpt-4o"),
            ("openai", "gpt-6-sol"),
            ("openai", "gpt-5-mini"),
            ("simulator", "sim-small"),
            ("anthropic", "claude-haiku-5-5"),
        ]
    ),
    exact=st.booleans(),
)
def test_a_quote_is_never_below_the_price_of_what_the_call_may_use(
    text: str, limit: int, n: int, cached: float, spent: float, model: tuple[str, str], exact: bool
) -> None:
    provider, name = model
    endpoint = "/v1/messages" if provider == "anthropic" else "/v1/chat/completions"
    body: dict[str, Any] = {"model": name, "messages": [{"role": "user", "content": text}], "max_tokens": limit}
    if provider != "anthropic":
        body["n"] = n
    size = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    held = quote(provider, endpoint, body, size, rates(provider, name), exact=exact)
    assert held.amount_nano is not None
    prompt = count_tokens(text, rates(provider, name).meta.tokenizer)[0] + 7  # the text and the framing of one message
    read = int(prompt * cached)
    used = {"input_uncached": prompt - read, "cache_read": read, "output_text": int(limit * held.outputs * spent)}

    priced = price(Usage(used, context=UsageContext(prompt_total=prompt)), rates(provider, name))

    assert priced.cost_nano is not None
    assert priced.cost_nano <= held.amount_nano


@pytest.mark.tries
@settings(max_examples=examples(300, one_in=8), deadline=None)
@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_its_bound(text: str) -> None:
    for family in ("o200k", "cl100k"):
        tokens, exact = count_tokens(text, family)
        assert exact
        assert tokens <= bound(text, family) == len(text.encode("utf-8", "surrogatepass")) + 1


@given(st.text(max_size=300))
def test_every_family_has_a_bound_that_covers_the_bytes_of_ascii(text: str) -> None:
    for family in (*FACTORS, "", "unheard-of"):
        assert bound(text, family) > 0
        assert bound(text + "x", family) >= bound(text, family)


@given(st.text(max_size=300))
def test_the_bound_of_json_covers_the_bound_of_its_text(text: str) -> None:
    body = {"messages": [{"content": text}]}
    for escaped in (True, False):
        size = len(json.dumps(body, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
        for family in (*FACTORS, ""):
            assert bound_json(size, other_bytes(body), family) >= bound(text, family)
