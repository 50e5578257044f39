"""The ledger taken away: every line once, every cent, no formula; and as FOCUS the rows of a line sum to it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from billing.domain import focus
from billing.ledger import export
from tests.billing.ledger.focus_spec import wrong_rows
from tests.cast import Cast

ACME = "/api/v1/workspaces/acme/"


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    return b"".join(answer).decode()


@pytest.fixture
def booked(events: Any, books: Any, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Cast:
    monkeypatch.setattr(export, "PAGE", 2)
    for number in range(5):
        events.call(cast.acme.id, cost=1_500 + number, held=9_000, dims={"customer": "=cmd()", "feature": "chat"})
    rid = events.emit("hold", cast.acme.id, held=9_000)
    events.emit("expire", cast.acme.id, rid, cost=9_000, held=9_000)
    events.emit("adjust", cast.acme.id, rid, cost=-7_999, held=9_000)
    events.call(cast.globex.id, cost=77)
    for workspace in (cast.acme, cast.globex):
        books.drain(workspace.id)
    return cast


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators")
class TestThroughTheApi:
    def test_every_line_is_there_once_in_order_and_the_sum_is_the_ledgers(self, booked: Cast, api: Any) -> None:
        rows = list(csv.DictReader(io.StringIO(text_of(api("alice").get(ACME + "ledger/export/")))))
        assert len(rows) == 7
        assert len({(row["attempt_id"], row["leg"]) for row in rows}) == 7
        assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
        assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(5 * 1_500 + 10 + 9_000 - 7_999).scaleb(-9)
        assert {row["customer"] for row in rows} == {"'=cmd()", ""}
        assert rows[-1]["cost_usd"].startswith("-")

    def test_json_lines_hold_the_same(self, booked: Cast, api: Any) -> None:
        lines = text_of(api("alice").get(ACME + "ledger/export/?as=jsonl")).splitlines()
        rows = [json.loads(line) for line in lines]
        assert len(rows) == 7
        assert rows[0]["customer"] == "=cmd()", "JSON needs no apostrophe"
        assert set(export.COLUMNS) == set(rows[0])

    def test_focus_sums_to_the_ledger_and_marks_corrections(self, booked: Cast, api: Any) -> None:
        rows = list(csv.DictReader(io.StringIO(text_of(api("alice").get(ACME + "ledger/export/?as=focus")))))
        assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal(5 * 1_500 + 10 + 9_000 - 7_999).scaleb(-9)
        assert {row["ChargeClass"] for row in rows} == {"", "Correction"}
        assert {row["BillingCurrency"] for row in rows} == {"USD"}
        assert json.loads(rows[0]["Tags"])["customer"] == "=cmd()"

    def test_who_may_not_export_and_what_cannot_be_asked(self, booked: Cast, api: Callable[..., APIClient]) -> None:
        assert api("ann").get(ACME + "ledger/export/").status_code == 403
        alice = api("alice")
        for wrong in ("as=xlsx", "from=2001-01-01", "from=2026-11-02&to=2026-11-01", "customer=x"):
            assert alice.get(f"{ACME}ledger/export/?{wrong}").status_code == 400, wrong


AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
PARTS = st.fixed_dictionaries(
    {
        "unit": st.sampled_from(["input_uncached", "output_text", "cache_read"]),
        "quantity": st.integers(0, 10**9),
        "rate_per_m_usd": st.decimals("0", "1000", places=4).map(str),
        "cost_usd": st.one_of(
            st.decimals("0", "100000", places=12).map(str), st.sampled_from(["", "NaN", "Infinity", "x"])
        ),
    }
)


@given(cost=st.integers(-(10**15), 10**15), breakdown=st.lists(PARTS, max_size=6))
def test_the_rows_of_a_line_sum_to_it_whatever_its_parts_say(cost: int, breakdown: list[dict[str, Any]]) -> None:
    line = focus.Line(
        "a", "c", 0, AT, AT, (AT, AT + timedelta(days=30)), "openai", "gpt", "/v1/x", "measured", "exact", cost,
        breakdown, {}, "k", "Key", "acme", "Acme",
    )  # fmt: skip
    made = list(focus.rows(line))
    assert sum((Decimal(row["BilledCost"]) for row in made), Decimal(0)) == Decimal(cost).scaleb(-9)
    for row in made:
        assert tuple(row) == focus.COLUMNS
        assert row["ChargePeriodEnd"] > row["ChargePeriodStart"]
    assert not wrong_rows(made)
