"""The providers' own price pages against our table, in the forms in which they publish them."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from billing.prices import default_book, pages
from billing.prices.drift import Rule
from billing.prices.pages import Printed

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANTHROPIC = """
# Pricing
## Model pricing
| Model | Base input tokens | 5m cache writes | 1h cache writes | Cache hits and refreshes | Output tokens |
|---|---|---|---|---|---|
| Claude Fable 5.1 | $10 / MTok | $12.50 / MTok | $20 / MTok | $0.25 / MTok1 | $50 / MTok |
| Claude Opus 4.8 | $5 / MTok | $6.25 / MTok | $10 / MTok | $0.50 / MTok | $25 / MTok |
| Claude Mythos 5 (limited availability) | $10 / MTok | $12.50 / MTok | $20 / MTok | $1 / MTok | $50 / MTok |

### Batch processing
| Model | Batch input | Batch output |
| --- | --- | --- |
| Claude Opus 4.8 | $2.50 / MTok | $12.50 / MTok |

| Feature | Price |
| --- | --- |
| Web search | $10 per 1,000 searches |
"""
OPENAI = """
## Text tokens
### Standard
| Model | Input | Cached input | Output |
| --- | --- | --- | --- |
| gpt-4o | $2.50 | $1.25 | $10.00 |
| o3-pro | $20.00 | - | $80.00 |

### Flex
| Model | Input | Cached input | Output |
| --- | --- | --- | --- |
| o3 | $1.00 | $0.25 | $4.00 |
"""
GEMINI = """
## Gemini 2.5 Pro

*`gemini-2.5-pro`*

### Standard

| | Free Tier | Paid Tier, per 1M tokens in USD |
| --- | --- | --- |
| Input price | Free of charge | $1.25, prompts <= 200k tokens $2.50, prompts > 200k tokens |
| Output price (including thinking tokens) | Free of charge | $10.00, prompts <= 200k tokens $15.00, prompts > 200k |
| Context caching price | Not available | $0.125, prompts <= 200k tokens $0.25, prompts > 200k $4.50 / 1,000,000 tokens per hour (storage price) |
| Grounding with Google Search | Not available | 1,500 RPD (free), then $35 / 1,000 grounded prompts |
"""


@pytest.mark.parametrize(
    ("provider", "page", "rates"), [("anthropic", ANTHROPIC, 17), ("openai", OPENAI, 8), ("google", GEMINI, 6)]
)
def test_a_page_that_says_what_we_say_is_no_difference(provider: str, page: str, rates: int) -> None:
    compared = pages.compare(default_book(), provider, page, (), AT)
    assert compared.differences == ()
    assert compared.rates == rates


def test_a_moved_price_and_a_new_model_are_differences_until_somebody_decides() -> None:
    moved = ANTHROPIC.replace("$6.25", "$6.00").replace("Claude Mythos 5 ", "Claude Saga 9 ")
    found = pages.compare(default_book(), "anthropic", moved, (), AT).unexplained
    assert {(one.model, one.unit, one.ours, one.theirs) for one in found if one.ours} == {
        ("claude-opus-4.8", "cache_write_5m", "6.25", "6")
    }
    assert len([one for one in found if one.model == "claude-saga-9" and not one.ours]) == 5
    decided = [
        Rule("not sold to us", model="claude-saga-9"),
        Rule("a promotion", unit="cache_write_5m", provider="anthropic"),
    ]
    assert pages.compare(default_book(), "anthropic", moved, decided, AT).unexplained == []


def test_prices_of_longer_prompts_stand_in_the_same_cell() -> None:
    found = pages.read(GEMINI)
    assert Printed("gemini-2.5-pro", "standard", 200_000, "cache_read", Fraction(1, 4)) in found
    assert Printed("gemini-2.5-pro", "standard", 0, "cache_read", Fraction(1, 8)) in found


@pytest.mark.parametrize(
    "text", ["", "|", "| | |", "|---|", "| Model | Input |\n| x |", "# a\n| a | $1 |", "| Model | Input |\n" * 50]
)
def test_no_page_breaks_the_reading(text: str) -> None:
    assert pages.read(text) == []


def test_the_command_reads_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pricing.md"
    page.write_text(ANTHROPIC)
    call_command("price_drift", page=[f"anthropic={page}"])
    assert "17 rates compared, 0 differ" in capsys.readouterr().out
    page.write_text(ANTHROPIC.replace("$25 /", "$26 /"))
    with pytest.raises(SystemExit):
        call_command("price_drift", page=[f"anthropic={page}"])
    for wrong in ("anthropic", f"nobody={page}", f"anthropic={tmp_path / 'none.md'}"):
        with pytest.raises(CommandError):
            call_command("price_drift", page=[wrong])
