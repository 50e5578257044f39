"""The short ways through a plain chat say what the careful ones say: of its body, its bound and its usage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from billing.domain import plain, server_tools
from billing.domain.extraction.openai import QUIRKS
from billing.domain.limits import BadLimit
from billing.domain.modalities import CONVERSATION, STORED, only_texts, survey
from billing.domain.quote import Quote, careful_quote, quote
from billing.domain.rates import Rates
from billing.domain.usage import PROVIDER_ALIASES, carefully, extract, plainly
from billing.prices import default_book
from tests.rig.effort import examples

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NAMES = st.sampled_from(
    [
        "role",
        "content",
        "name",
        "type",
        "audio",
        "inlineData",
        "fileData",
        "cache_control",
        "image_url",
        "input",
        "parts",
    ]
)
DEEP = st.recursive(
    SCALARS | st.sampled_from(["image_url", "input_audio", "item_reference", "file"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(st.dictionaries(NAMES, SCALARS | DEEP, max_size=3) | SCALARS, max_size=4)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "model",
            "stream_options",
            "metadata",
            "tools",
            "prompt",
            "input",
            "system",
            "cache_control",
            "conversation",
            "previous_response_id",
            "cachedContent",
            "cached_content",
            "contents",
            "prediction",
            "response_format",
        ]
    ),
    SCALARS | DEEP,
    max_size=4,
)


@pytest.mark.tries
@settings(max_examples=examples(500, one_in=8), deadline=None)
@given(fields=FIELDS, messages=MESSAGES | SCALARS)
def test_a_plain_chat_is_surveyed_as_the_walk_surveys_it(fields: dict[str, Any], messages: Any) -> None:
    body = {**fields, "messages": messages}
    walked = survey(body, "openai", "gpt-4o", texts=True)  # texts are only gathered by the walk
    walked.texts = []

    assert survey(body, "openai", "gpt-4o") == walked


def test_a_chat_of_texts_goes_the_short_way() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": None}]

    assert only_texts(
        {"model": "m", "messages": messages, "temperature": 0.5, "stream_options": {"include_usage": True}}
    )
    assert not only_texts({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]})
    assert not only_texts({"model": "m", "messages": messages, "conversation": "conv_1"})


# --- The bound --------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@cache
def priced() -> list[tuple[str, Rates]]:
    """Every model of the list, and one that costs nothing."""
    book = default_book().with_overrides([{"provider": "openai", "model": "ours", "free": True, "context": 4_000}])
    pairs = [
        (provider, model) for provider in (*QUIRKS, "anthropic", "cohere", "ollama") for model in book.models(provider)
    ]
    return [
        (provider, rates)
        for provider, model in [*pairs, ("openai", "ours")]
        if (rates := book.rates(provider, model, NOW))
    ]


CHAT_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user"]), "content": st.text(max_size=5)},
        optional={"name": st.text(max_size=3), "type": st.just("message"), "cache_control": st.just({"type": "ephemeral"})},
    )
    | st.fixed_dictionaries({"role": st.just("user"), "content": st.just([{"type": "image_url", "image_url": {"url": "https://x/y"}}])}),
    max_size=4,
)  # fmt: skip
LIMITS = (
    st.none()
    | st.integers(-1, 300)
    | st.integers(100_000, 20_000_000)
    | st.booleans()
    | st.floats(0, 10)
    | st.text(max_size=2)
)
CHATS = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": CHAT_MESSAGES},
    optional={
        "max_completion_tokens": LIMITS, "max_tokens": LIMITS, "n": st.none() | st.integers(-1, 130) | st.booleans(),
        "temperature": st.floats(0, 2), "stop": st.lists(st.text(max_size=2), max_size=2), "metadata": DEEP, "stream_options": DEEP, "user": DEEP,
        "logit_bias": st.dictionaries(st.text(max_size=2), st.integers(), max_size=2), "service_tier": st.sampled_from(["auto", "flex", "x"]),
        "prediction": st.just({"type": "content", "content": "x"}), "web_search_options": st.just({}), "modalities": st.just(["text", "audio"]),
        "prompt_cache_retention": st.just("24h"), "unheard_of": st.integers(),
    },
)  # fmt: skip


def either(quoted: Any, *arguments: Any, **named: Any) -> Quote | str:
    try:
        found: Quote = quoted(*arguments, **named)
    except BadLimit as error:
        return str(error)
    return found


@pytest.mark.tries
@settings(max_examples=examples(1500, one_in=12), deadline=None)
@given(
    st.integers(0, 10**6),
    CHATS,
    st.integers(0, 3_000) | st.integers(100_000, 10**7),
    st.sampled_from(["/v1/chat/completions", "/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]),
    st.none() | st.integers(1, 100_000),
    st.sampled_from(["", "https://eu.api.openai.com/v1", "https://us-east-1.api.x.ai/v1"]),
)
def test_a_plain_chat_is_bounded_as_the_careful_way_bounds_it(
    place: int, body: dict[str, Any], size: int, endpoint: str, default: int | None, address: str
) -> None:
    provider, rates = priced()[place % len(priced())]
    asked = (provider, endpoint, body, size, rates)

    assert either(quote, *asked, default_limit=default, base_url=address) == either(
        careful_quote, *asked, default_limit=default, base_url=address
    )


def test_the_plain_way_is_taken_by_plain_chats() -> None:
    rates = default_book().rates("openai", "gpt-4o", NOW)
    assert rates is not None
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "metadata": {"a": "b"}}

    quote("openai", "/v1/chat/completions", body, 90, rates)

    terms = rates.plain["openai", "/v1/chat/completions", ""]
    assert terms is not None
    assert terms.bound(body, 90, None) is not None


def test_no_field_of_a_plain_chat_costs_anything_or_names_something_stored() -> None:
    assert not [name for name in plain.FIELDS if server_tools._may_cost(name)]
    assert plain.FIELDS & (CONVERSATION | set(STORED)) == {"messages"}


# --- The usage --------------------------------------------------------------------------------------------------------

COUNTS = st.integers(-1, 40) | st.none() | st.booleans() | st.floats(0, 3) | st.text(max_size=1) | st.just(10**10)
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "accepted_prediction_tokens", "image_tokens", "odd"]),
    st.integers(0, 3) | COUNTS,
    max_size=3,
)  # fmt: skip
USAGES = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": st.integers(1, 30) | COUNTS, "completion_tokens": st.integers(1, 30) | COUNTS, "total_tokens": COUNTS,
        "prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS, "cost": st.floats(0, 1), "queue_time": st.floats(0, 1),
        "prompt_cache_hit_tokens": st.integers(0, 3), "input_tokens": st.integers(0, 3), "cost_in_usd_ticks": st.integers(0, 9),
    },
)  # fmt: skip
ANSWERS = st.fixed_dictionaries(
    {"usage": USAGES | st.none() | st.lists(st.integers(), max_size=1)},
    optional={
        "id": st.text(max_size=3) | st.integers(), "model": st.sampled_from(["gpt-4o", "gpt-4o-search-preview"]), "choices": st.just([{}]),
        "service_tier": st.sampled_from(["default", "flex", "priority", 1]), "usage_breakdown": st.just({"models": [{"usage": {}}]}),
    },
)  # fmt: skip


@pytest.mark.tries
@settings(max_examples=examples(1500, one_in=12), deadline=None)
@given(
    ANSWERS,
    st.sampled_from([*QUIRKS, *PROVIDER_ALIASES, "unheard-of"]),
    st.sampled_from(["/v1/chat/completions", "/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]),
    st.sampled_from([None, {}, {"model": "gpt-4o"}, {"model": "gpt-4o-search-preview"}, {"model": 3}]),
    st.sampled_from(["", "https://eu.api.openai.com/v1", "https://us-east-1.api.x.ai/v1"]),
    st.booleans(),
)
def test_what_is_kept_of_an_answer_is_read_as_the_careful_way_reads_it(
    body: dict[str, Any], provider: str, endpoint: str, request: dict[str, Any] | None, address: str, adds_up: bool
) -> None:
    usage = body["usage"]
    kept = {name: body[name] for name in ("id", "model", "service_tier", "usage") if name in body}
    if adds_up and isinstance(usage, dict):
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        usage["total_tokens"] = sum(count for count in counts if type(count) is int)
    for payload in (kept, body):
        read = extract(provider, endpoint, payload, request=request, base_url=address)
        assert read == carefully(provider, endpoint, payload, request, base_url=address)
    read_at_once = plainly(provider, endpoint, kept, json.dumps(usage).encode(), request, address)
    if read_at_once is not None:
        assert structs.replace(read_at_once, raw=usage) == carefully(
            provider, endpoint, kept, request, base_url=address
        )


@pytest.mark.parametrize(
    "stated",
    [
        b'{"prompt_tokens":9.0,"completion_tokens":3,"total_tokens":12}',
        b'{"prompt_tokens":9,"completion_tokens":3e0,"total_tokens":12}',
        b'{"prompt_tokens":9,"completion_tokens":true,"total_tokens":10}',
        b'{"prompt_tokens":"9","completion_tokens":3,"total_tokens":12}',
        b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"prompt_tokens":8}',
        b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"completion_tokens_details":{"audio_tokens":0.0}}',
        b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"cost":1}',
        b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"\xff":1}',
        b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12',
        b"[]",
        b"",
    ],
)
def test_usage_as_it_was_written_is_read_at_once_only_where_every_count_is_a_whole_number(stated: bytes) -> None:
    assert plain.plain_buckets(stated) is None


def test_plain_usage_goes_the_short_way() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    }

    assert plain.plain_buckets(usage) == {"input_uncached": 5, "cache_read": 4, "output_text": 3}
    assert plain.plain_buckets(json.dumps(usage).encode()) == plain.plain_buckets(usage)


@pytest.mark.tries
@settings(max_examples=examples(600, one_in=8), deadline=None)
@given(st.integers(0, 10**6), CHATS, st.integers(0, 3_000) | st.integers(100_000, 10**7), st.integers(1, 10**6))
def test_the_least_a_call_can_cost_is_not_more_than_it_costs_when_counted(
    place: int, body: dict[str, Any], size: int, limit: int
) -> None:
    """Refusals rely on it (`guardrails.spent`): what is refused unread must be refused when read too."""
    provider, rates = priced()[place % len(priced())]
    asked = (provider, "/v1/chat/completions", body, size, rates)
    bounded, counted = either(quote, *asked), either(careful_quote, *asked, exact=True)
    if (
        isinstance(bounded, str)
        or isinstance(counted, str)
        or bounded.amount_nano is None
        or counted.amount_nano is None
    ):
        return

    assert bounded.least(min(limit, bounded.output_tokens_cap)) <= counted.at_limit(
        min(limit, bounded.output_tokens_cap)
    )
    assert not counted.amount_nano or bounded.least(1) <= counted.amount_nano
