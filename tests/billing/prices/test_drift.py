"""Our table against a second opinion: every difference needs a reason, and a reason explains no more than it says."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.prices import default_book, drift
from billing.prices.drift import Rule, Unreadable

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
GPT_4O = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 2.5e-06,
    "output_cost_per_token": 1e-05,
    "input_cost_per_token_batches": 1.25e-06,
    "max_input_tokens": 128000,
    "supports_vision": True,
}


def differences(listed: dict[str, Any], *rules: Rule) -> list[str]:
    return [str(found) for found in drift.compare(default_book(), listed, rules, AT).differences]


def test_what_both_say_is_no_difference() -> None:
    found = drift.compare(default_book(), {"gpt-4o": GPT_4O}, (), AT)
    assert (found.rates, found.differences) == (3, ())


def test_another_rate_a_missing_model_and_a_missing_tier_are_differences() -> None:
    listed = {
        "gpt-4o": {**GPT_4O, "output_cost_per_token": 1.1e-05},
        "gpt-9": {**GPT_4O, "output_cost_per_token": 0, "input_cost_per_token_batches": None},
        "claude-opus-5": {"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token_flex": 1e-06},
        "not-ours": {**GPT_4O, "litellm_provider": "elsewhere"},
        "a-picture": {**GPT_4O, "mode": "image_generation", "input_cost_per_token": 1},
    }
    assert differences(listed) == [
        "anthropic/claude-opus-5 flex input_uncached: ours none, theirs 1",
        "openai/gpt-4o standard output_text: ours 10, theirs 11",
        "openai/gpt-9 standard input_uncached: ours none, theirs 2.5",
    ]


def test_rates_of_long_prompts_are_compared_beyond_their_threshold() -> None:
    row = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token_above_272k_tokens": 1e-06}
    assert differences({"gpt-5.4": row}) == [
        "openai/gpt-5.4 standard input_uncached above 272,000 tokens: ours 5, theirs 1"
    ]


def test_where_the_hour_decides_theirs_may_be_the_dearer_one() -> None:
    row = {"litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 3e-07}
    assert differences({"deepseek-flash": row}) == []


@pytest.mark.parametrize(
    "rule, explains",
    [
        ({"provider": "openai", "model": "gpt-4o"}, True),
        ({"model": "gpt-4"}, False),
        ({"above": True}, False),
        ({"ratio": "0.5"}, True),
        ({"ratio": "0.6"}, False),
        ({"rates": ("openai/gpt-4o standard input_uncached: ours 2.5, theirs 5",)}, True),
        ({"rates": ("openai/gpt-4o standard input_uncached: ours 2.5, theirs 4",)}, False),
    ],
)
def test_a_reason_explains_what_it_names_and_nothing_else(rule: dict[str, Any], explains: bool) -> None:
    listed = {"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 5e-06}}
    found = drift.compare(default_book(), listed, [Rule("decided", **rule)], AT)
    assert [difference.reason for difference in found.differences] == ["decided" if explains else ""]
    assert len(found.unexplained) == int(not explains)
    assert found.unused == (() if explains else ("decided",))


def test_every_reason_in_the_repository_can_be_read() -> None:
    assert len(drift.read_rules()) > 5


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"allow": [{}]}', '{"allow": [{"reason": " "}]}', '{"allow": [{"reason": "x", "model": "("}]}'],
)
def test_a_broken_list_of_reasons_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "drift.json").write_text(text)
    with pytest.raises(Unreadable):
        drift.read_rules(tmp_path / "drift.json")


def test_the_command_fails_on_a_difference_without_a_reason_only(tmp_path: Path) -> None:
    listed, allowed = tmp_path / "litellm.json", tmp_path / "drift.json"
    listed.write_text(json.dumps({"gpt-4o": {**GPT_4O, "input_cost_per_token": 5e-06}}))
    allowed.write_text('{"allow": []}')
    out = io.StringIO()
    with pytest.raises(SystemExit) as exit_status:
        call_command("price_drift", litellm=listed, allowed=allowed, stdout=out)
    assert exit_status.value.code == 1
    assert "openai/gpt-4o standard input_uncached: ours 2.5, theirs 5" in out.getvalue()

    allowed.write_text('{"allow": [{"reason": "a promotion of theirs", "model": "gpt-4o"}]}')
    out = io.StringIO()
    call_command("price_drift", "--json", litellm=listed, allowed=allowed, stdout=out)
    said = json.loads(out.getvalue())
    assert (said["unexplained"], said["explained"][0]["reason"]) == ([], "a promotion of theirs")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"gpt-4o": {}}'])
def test_a_file_that_is_no_price_list_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "litellm.json").write_text(text)
    with pytest.raises(CommandError):
        call_command("price_drift", litellm=tmp_path / "litellm.json")
