"""What an answer says that is new is told to the operator, once."""

from __future__ import annotations

import logging

import pytest

from billing.ledger import doubts


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "_told", set())


def test_a_new_usage_key_is_told_once_for_each_provider(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for provider in ("openai", "openai", "xai"):
            doubts.tell(provider, ["over", "schema_drift:warp_tokens", "clamped"])
        doubts.tell("openai", ["provider_cost_differs"])
    assert [record.getMessage().split()[0] for record in caplog.records] == ["openai", "xai", "openai"]
    assert "[schema_drift:warp_tokens]" in caplog.records[0].getMessage()


def test_an_endless_number_of_new_keys_does_not_pile_up(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(2 * doubts.MOST):
            doubts.tell("openai", [f"schema_drift:key_{number}"])
    assert len(caplog.records) == doubts.MOST
