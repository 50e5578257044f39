"""Whole answers against prices worked out by hand: the shared samples, and a case for every rule of BILLING.md 1.1 to 1.4."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from billing.domain.evaluate import evaluate
from billing.prices import default_book
from tests.billing.domain.vectors import more, own, rules, shapes

SHARED = json.loads((Path(__file__).parent / "vectors" / "usage_samples.json").read_text(), parse_float=Decimal)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("sample", SHARED, ids=lambda sample: sample["name"])
def test_a_shared_sample_costs_what_was_worked_out_by_hand(sample: dict[str, Any]) -> None:
    answer = evaluate(sample, default_book(), now=NOW)

    expected = sample["expected_cost_usd"]
    assert answer["cost_usd"] == (
        None if expected is None else str(expected).rstrip("0").rstrip(".") if "." in expected else expected
    ), answer
    if expected and Decimal(expected) and "provider_stated" not in str(answer["breakdown"]):
        assert sum(Decimal(line["cost_usd"]) for line in answer["breakdown"]) == Decimal(expected)


@pytest.mark.parametrize(
    "case", [*own.ALL, *more.MORE, *shapes.SHAPES, *rules.RULES], ids=lambda case: f"{case.provider}: {case.name}"
)
def test_an_answer_costs_what_was_worked_out_by_hand(case: own.Case) -> None:
    answer = evaluate(json.loads(json.dumps(case.line(), default=float), parse_float=Decimal), default_book(), now=NOW)

    if case.cost is None:
        assert answer["cost_usd"] is None, answer
        assert answer["status"] in ("partial", "unpriced")
    else:
        assert answer["cost_usd"] is not None, answer
        assert 0 <= Decimal(answer["cost_usd"]) - case.cost < Decimal("1e-9"), (
            answer
        )  # rounded up once, to the nano-dollar
    if case.status:
        assert answer["status"] == case.status, answer
    assert not [flag for flag in answer["flags"] if flag.startswith("schema_drift")], answer


def test_every_own_case_has_a_name_of_its_own() -> None:
    names = [(case.provider, case.name) for case in [*own.ALL, *more.MORE, *shapes.SHAPES, *rules.RULES]]

    assert len(names) == len(set(names))
