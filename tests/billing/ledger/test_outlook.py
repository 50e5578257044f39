"""The month's outlook is the forecast of the books' own days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing import outlook
from billing.domain.forecast import Maturity
from tests.cast import Cast
from workspaces import tenancy

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)
USD = 10**9


def test_a_month_of_a_dollar_a_day_ends_at_thirty_dollars(events: Any, books: Any, cast: Cast) -> None:
    for day in range(1, 40):
        at = NOON - timedelta(days=day, hours=3)
        events.call(cast.acme.id, cost=USD, at_ms=int(at.timestamp() * 1000), dims={"customer": f"c{day % 2}"})
    events.call(cast.globex.id, cost=10**15, at_ms=int(NOON.timestamp() * 1000))
    for workspace in (cast.acme, cast.globex):
        books.drain(workspace.id)
    with tenancy.entered(cast.acme):
        seen = outlook.of_month(cast.acme, NOON)
        half = outlook.of_month(cast.acme, NOON, {"customer": "c0"})
    assert (seen.spent_nano, seen.maturity) == (14 * USD, Maturity.FAIR)
    assert abs(seen.expected_nano - 29.5 * USD) < USD
    assert half.spent_nano == 7 * USD
    assert half.expected_nano < seen.expected_nano
