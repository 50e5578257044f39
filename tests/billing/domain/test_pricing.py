"""Prices: exact, rounded up once, provider's own first, and never a silent zero."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from msgspec.structs import replace

from billing.domain.events import PriceStatus
from billing.domain.extraction.record import NOTHING, Usage, UsageContext
from billing.domain.pricing import PriceBook, Rates, price
from billing.domain.usage import extract
from billing.prices import default_book
from tests.billing.domain.vectors.own import GENERATE, chat, gemini, message

CHAT = "/v1/chat/completions"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def rates(provider: str, model: str, at: datetime = NOW, book: PriceBook | None = None) -> Rates:
    found = (book or default_book()).rates(provider, model, at)
    assert found is not None
    return found


def tokens(**buckets: int) -> Usage:
    return Usage(buckets=buckets, context=UsageContext(prompt_total=sum(buckets.values())))


def test_a_cost_is_rounded_up_once_and_not_per_line() -> None:
    priced = price(tokens(input_uncached=1, cache_read=1, output_text=1), rates("openai", "gpt-5-mini"))

    assert sum((line.nano for line in priced.lines), Fraction(0)) == 250 + 25 + 2000
    assert priced.cost_nano == 2275
    assert price(tokens(cache_read=1), rates("openai", "gpt-6-luna")).cost_nano == 10
    half_nano = price(Usage({"cache_read": 1}, context=UsageContext(tier="flex")), rates("openai", "gpt-5-nano"))
    assert half_nano.cost_nano == 3  # 2.5 nano-dollars


def test_the_breakdown_adds_up_to_the_cost() -> None:
    priced = price(tokens(input_uncached=86, cache_read=1920, output_text=300), rates("openai", "gpt-4o"))

    assert priced.cost_nano == 5_615_000
    assert priced.breakdown == [
        {"unit": "input_uncached", "quantity": 86, "rate_per_m_usd": "2.5", "cost_usd": "0.000215"},
        {"unit": "cache_read", "quantity": 1920, "rate_per_m_usd": "1.25", "cost_usd": "0.0024"},
        {"unit": "output_text", "quantity": 300, "rate_per_m_usd": "10", "cost_usd": "0.003"},
    ]


def test_a_bucket_without_a_rate_is_a_hole_and_no_zero() -> None:
    priced = price(tokens(input_uncached=100, output_audio=100), rates("openai", "gpt-4o"))

    assert priced.cost_nano is None
    assert priced.status is PriceStatus.PARTIAL
    assert priced.known_nano == 250_000
    assert "unit_not_priced:output_audio" in priced.flags


def test_a_fee_without_a_rate_is_a_hole_and_no_zero() -> None:
    assert price(Usage({"input_uncached": 1}, {"teleport": 1}), rates("openai", "gpt-4o")).cost_nano is None


def test_usage_that_cannot_be_used_has_no_price() -> None:
    priced = price(replace(tokens(input_uncached=5), measured=False), rates("openai", "gpt-4o"))

    assert priced.cost_nano is None
    assert priced.status is PriceStatus.UNPRICED


def test_an_error_costs_nothing_even_on_a_model_nobody_priced() -> None:
    assert price(NOTHING, None).cost_nano == 0


def test_an_unknown_model_has_no_price_and_is_named() -> None:
    priced = price(extract("openai", CHAT, chat("gpt-99", 10, 10)), None)

    assert (priced.cost_nano, priced.status) == (None, PriceStatus.UNPRICED)
    assert priced.flags == ("model_not_priced:gpt-99",)


def test_the_served_model_decides() -> None:
    usage = extract("openai", CHAT, chat("gpt-4o-mini-2024-07-18", 1_000_000, 0))

    assert price(usage, rates("openai", "gpt-4o")).cost_nano == 150_000_000


def test_a_served_model_nobody_priced_is_estimated_at_the_one_asked_for() -> None:
    priced = price(extract("openai", CHAT, chat("gpt-4o-internal", 1_000_000, 0)), rates("openai", "gpt-4o"))

    assert (priced.cost_nano, priced.status) == (2_500_000_000, PriceStatus.ESTIMATED)
    assert "served_model_unknown:gpt-4o-internal" in priced.flags


def test_a_stated_cost_that_differs_from_ours_is_taken_and_flagged() -> None:
    usage = extract("xai", CHAT, chat("grok-4.5", 100, 20, cost_in_usd_ticks=15_000_000))
    priced = price(usage, rates("xai", "grok-4.5"))

    assert priced.cost_nano == 1_500_000
    assert "provider_cost_differs" in priced.flags


def test_a_stated_cost_that_agrees_is_not_flagged() -> None:
    usage = extract("xai", CHAT, chat("grok-4.5", 100, 20, cost_in_usd_ticks=3_200_000))

    assert price(usage, rates("xai", "grok-4.5")).flags == ()


@pytest.mark.parametrize("ticks", [-5, 1.5, "5", None, True, 10**30])
def test_a_stated_cost_that_is_no_cost_is_ignored(ticks: Any) -> None:
    usage = extract("xai", CHAT, chat("grok-4.5", 100, 20, cost_in_usd_ticks=ticks))

    assert price(usage, rates("xai", "grok-4.5")).cost_nano == 320_000


def test_a_float_cost_means_the_number_that_was_written() -> None:
    usage = extract("openrouter", CHAT, chat("openai/gpt-4o", 194, 2, cost=0.000505))

    assert usage.context.stated_cost_usd == Decimal("0.000505")
    assert price(usage, None).cost_nano == 505_000


def test_counted_usage_is_an_estimate() -> None:
    assert (
        price(replace(tokens(input_uncached=5), counted=True), rates("openai", "gpt-4o")).status
        is PriceStatus.ESTIMATED
    )


def test_two_unknowns_are_both_named() -> None:
    usage = extract(
        "anthropic",
        "/v1/messages",
        message("claude-opus-5", 1, 1, server_tool_use={"code_execution_requests": 1}, service_tier="priority"),
    )

    assert set(usage.unknowable) == {"priority_tier", "container_time"}
    assert price(usage, rates("anthropic", "claude-opus-5")).cost_nano is None


def test_a_grounded_answer_within_an_unknown_quota_is_partial() -> None:
    usage = extract("google", GENERATE, gemini("gemini-3.1-pro-preview", 10, 10, grounding={"webSearchQueries": ["a"]}))
    priced = price(usage, rates("google", "gemini-3.1-pro-preview"))

    assert priced.status is PriceStatus.PARTIAL
    assert priced.cost_nano == 140_000 + 14_000_000
