"""The price book: names, dates, windows and a workspace's own rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.domain.extraction.record import Usage, UsageContext
from billing.domain.money import BadAmount
from billing.domain.pricing import PriceBook, Rates, price
from billing.prices import default_book

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MILLION = Usage({"input_uncached": 1_000_000})


def found(book: PriceBook, provider: str, model: str, at: datetime = NOW) -> Rates:
    rates = book.rates(provider, model, at)
    assert rates is not None
    return rates


def cost(book: PriceBook, provider: str, model: str, at: datetime = NOW) -> int | None:
    return price(MILLION, book.rates(provider, model, at)).cost_nano


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-ultra",
        "gpt-4",
        "gpt-4o-2024-99-99",
        "gpt-4o-2031-01-01",
        "claude-opus-5-turbo",
        "gemini-2.5-flash-imaginary",
        "",
        " ",
        "gpt-4o\x00",
    ],
)
def test_an_invented_name_has_no_price(model: str) -> None:
    if model == "gpt-4":
        assert cost(default_book(), "openai", "gpt-4") == 30_000_000_000
    else:
        assert default_book().rates("openai", model, NOW) is None
        assert default_book().rates("anthropic", model, NOW) is None
        assert default_book().rates("google", model, NOW) is None


@pytest.mark.parametrize(
    "provider, model",
    [
        ("openai", "GPT-4o"),
        ("gemini", "models/gemini-2.5-flash"),
        ("vertex", "publishers/google/models/gemini-2.5-flash"),
        ("x-ai", "grok-4.3"),
        ("openai", "gpt-6-sol-2026-09-01"),
    ],
)
def test_a_model_answers_to_the_spellings_in_use(provider: str, model: str) -> None:
    assert default_book().rates(provider, model, NOW) is not None


def test_a_price_is_the_one_of_its_second() -> None:
    change = datetime(2026, 8, 16, 16, tzinfo=UTC)

    assert cost(default_book(), "deepseek", "deepseek-v4-pro", change - timedelta(seconds=1)) == 435_000_000
    assert cost(default_book(), "deepseek", "deepseek-v4-pro", change) == 660_000_000


def test_a_moment_means_the_same_in_every_zone() -> None:
    beijing = datetime(2026, 11, 16, 10, tzinfo=UTC).astimezone().replace(hour=10).astimezone(UTC)

    assert cost(default_book(), "deepseek", "deepseek-flash", beijing) is not None


def test_an_owners_price_replaces_the_list_price() -> None:
    book = default_book().with_overrides(
        [{"provider": "openai", "model": "gpt-4o", "units": {"input_uncached": "2", "output_text": "8"}}]
    )

    assert cost(book, "openai", "gpt-4o") == 2_000_000_000
    assert cost(book, "openai", "gpt-4o-mini") == 150_000_000
    assert cost(default_book(), "openai", "gpt-4o") == 2_500_000_000


def test_an_own_model_gets_a_price_of_its_own() -> None:
    book = default_book().with_overrides(
        [{"provider": "vllm", "model": "acme-8b", "units": {"input_uncached": "0.1", "output_text": "0.1"}}]
    )

    assert cost(book, "vllm", "acme-8b") == 100_000_000
    assert book.rates("vllm", "another", NOW) is None


def test_a_local_provider_can_be_free() -> None:
    book = default_book().with_overrides([{"provider": "vllm", "model": "*", "free": True}])

    assert cost(book, "vllm", "anything") == 0


def test_a_discount_holds_between_its_dates() -> None:
    book = default_book().with_overrides(
        [
            {
                "provider": "*",
                "model": "*",
                "discount": "0.10",
                "from": "2026-11-01T00:00:00Z",
                "to": "2026-12-01T00:00:00Z",
            }
        ]
    )

    assert cost(book, "openai", "gpt-4o") == 2_250_000_000
    assert cost(book, "openai", "gpt-4o", NOW + timedelta(days=30)) == 2_500_000_000
    assert cost(book, "openai", "gpt-4o") == 2_250_000_000


@pytest.mark.parametrize(
    "row",
    [
        {"discount": "1.5"},
        {"discount": "-0.1"},
        {"units": {"input_uncached": "-1"}},
        {"units": {"input_uncached": "free"}},
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_when_it_is_written(row: dict[str, object]) -> None:
    with pytest.raises((ValueError, BadAmount)):
        default_book().with_overrides([{"provider": "openai", "model": "gpt-4o", **row}])


def test_names_from_clients_do_not_fill_the_memory() -> None:
    book = default_book().with_overrides([])
    for number in range(PriceBook.MAX_CACHED + 100):
        book.rates("openai", f"invented-{number}", NOW)

    assert len(book._found) <= PriceBook.MAX_CACHED


def test_the_dearest_of_several_tiers_bounds_each_of_them() -> None:
    rates = found(default_book(), "openai", "gpt-5.4")
    dearest = rates.dearest(["standard", "flex", "priority"], 100_000, regional=False)

    assert dearest is not None
    for tier in ("standard", "flex", "priority"):
        one = rates.compiled(tier, 100_000)
        assert one is not None
        for unit in ("input_uncached", "cache_read", "output_text"):
            assert dearest.numerators[unit] * one.denominator >= one.numerators[unit] * dearest.denominator


def test_every_model_of_the_table_has_rates_that_compile() -> None:
    book = default_book()
    for provider in ("openai", "anthropic", "google", "deepseek", "xai", "mistral", "groq", "openrouter", "simulator"):
        for model in book.models(provider):
            for at in (NOW, NOW + timedelta(days=60)):
                rates = book.rates(provider, model, at)
                for tier in rates.tiers if rates else ():
                    compiled = rates.compiled(tier) if rates else None
                    assert compiled is None or all(rate >= 0 for rate in compiled.numerators.values())


def test_the_context_of_the_simulator_is_fixed() -> None:
    meta = default_book().meta("simulator", "sim-small")

    assert meta is not None
    assert (meta.context_window, meta.max_output_tokens) == (128_000, 16_384)
    assert UsageContext().tier == "standard"


def test_a_small_prompt_does_not_lend_its_rate_to_a_long_one() -> None:
    rates = found(default_book(), "openai", "gpt-5.4")

    assert rates.compiled("priority", 1_000) is not None
    assert rates.compiled("priority", 272_001) is None
    assert rates.compiled("priority", 1_000) is not None


def test_a_sibling_is_priced_at_its_own_second_however_long_the_process_runs() -> None:
    book = default_book().with_overrides([])
    before, after = datetime(2026, 11, 30, 12, tzinfo=UTC), datetime(2026, 12, 1, 12, tzinfo=UTC)

    costs = []
    for at in (before, after):
        rates = found(book, "google", "gemini-2.5-flash", at)  # its own price does not change, the sibling's doubles
        sibling = rates.served("gemini-4-argon")
        assert sibling is not None
        costs.append(price(MILLION, sibling).cost_nano)

    assert costs == [2_000_000_000, 4_000_000_000]


def test_a_bound_covers_the_peak_that_may_begin_meanwhile() -> None:
    off_peak = found(default_book(), "deepseek", "deepseek-flash", datetime(2026, 11, 21, 12, tzinfo=UTC))
    dearest = off_peak.dearest(["standard"], 100, regional=False)

    assert dearest is not None
    assert dearest.printed["input_uncached"] == "0.3"
    assert price(MILLION, off_peak).cost_nano == 150_000_000


def test_an_owners_price_leaves_the_other_tiers_at_the_list_price() -> None:
    book = default_book().with_overrides(
        [{"provider": "openai", "model": "gpt-4o", "units": {"input_uncached": "2", "output_text": "8"}}]
    )
    batch = Usage({"input_uncached": 1_000_000}, context=UsageContext(tier="batch"))

    assert price(batch, book.rates("openai", "gpt-4o", NOW)).cost_nano == 1_250_000_000


@pytest.mark.parametrize("model", ["us.anthropic.claude-opus-5", "anthropic.claude-opus-5"])
def test_bedrock_in_a_region_costs_a_tenth_more(model: str) -> None:
    assert cost(default_book(), "bedrock", model) == 5_500_000_000
    assert cost(default_book(), "bedrock", "global.anthropic.claude-opus-5") == 5_000_000_000
