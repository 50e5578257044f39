"""`manage.py price --json`: one line in, one line out, whatever the line."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.management.commands.price import price_lines
from billing.prices import default_book

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
GOOD = {
    "provider": "openai",
    "endpoint": "/v1/chat/completions",
    "model": "gpt-4o",
    "request": {},
    "response_or_usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    "streamed": False,
    "at": "2026-11-21T12:00:00Z",
}


class Lines(list[str]):
    def write(self, line: str) -> None:
        self.append(line)


def answers(*lines: str) -> list[dict[str, Any]]:
    out = Lines()
    price_lines(io.StringIO("\n".join(lines) + "\n"), out, default_book(), now=NOW)
    return [json.loads(line) for line in out]


def test_a_line_is_answered_with_cost_status_buckets_and_breakdown() -> None:
    [answer] = answers(json.dumps(GOOD))

    assert answer["cost_usd"] == "0.0035"
    assert answer["status"] == "exact"
    assert answer["buckets"] == {"input_uncached": 1000, "output_text": 100}
    assert [line["cost_usd"] for line in answer["breakdown"]] == ["0.0025", "0.001"]


def test_a_bad_line_stops_nothing() -> None:
    bad = [
        "oops",
        "[]",
        '{"provider": 5}',
        json.dumps({**GOOD, "at": "yesterday"}),
        "[" * 100_000,
        '{"provider":"openai","n":' + "9" * 5000 + "}",
    ]

    *refused, last = answers(*bad, json.dumps(GOOD))

    assert len(refused) == len(bad)
    assert all(set(answer) == {"error"} for answer in refused)
    assert last["cost_usd"] == "0.0035"


def test_a_cost_that_cannot_be_known_is_null() -> None:
    [answer] = answers(json.dumps({**GOOD, "model": "gpt-99", "response_or_usage": {**GOOD["response_or_usage"]}}))

    assert answer["cost_usd"] is None
    assert answer["status"] == "unpriced"


@pytest.mark.parametrize("field", ["request", "streamed", "at", "endpoint"])
def test_what_is_not_needed_may_be_left_out(field: str) -> None:
    [answer] = answers(json.dumps({key: value for key, value in GOOD.items() if key != field}))

    assert answer["cost_usd"] == "0.0035"
