"""Settings of how amounts are shown and how long calls are: for the eye only, never for the books."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client

from billing.domain import money
from billing.ledger import forgetting, reconcile
from billing.models import Entry
from tests.cast import Cast
from tests.web.test_books_and_guardrails import Book, book
from workspaces import tenancy
from workspaces.domain.currencies import Display, rate_from
from workspaces.models import Workspace

__all__ = ["book"]

DAY_MS = 86_400_000


def save(client: Client, **values: Any) -> Any:
    given = {"currency": "USD", "rate": "", "calls_shown_days": ""} | values
    return client.post("/w/acme/settings/display/", given)


@pytest.mark.parametrize("currency, rate, nano, shown", [
    ("EUR", "0.5", 2 * 10**9, "≈€1.00"), ("JPY", "150", 10**7, "≈¥1.50"), ("CHF", "0.8", -(10**9), "≈-CHF\u00a00.80"), ("EUR", "0.5", 0, "€0.00"),
])  # fmt: skip
def test_a_converted_amount_is_marked(currency: str, rate: str, nano: int, shown: str) -> None:
    display = Display(currency, Decimal(rate))
    assert display.show(money.show_usd(display.convert(nano)), nano) == shown


@pytest.mark.parametrize("text", ["", "abc", "0", "-1", "NaN", "1e9", "Infinity"])
def test_a_rate_that_is_none_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        rate_from(text)


@pytest.mark.django_db
def test_pages_show_another_currency_and_books_and_api_do_not(
    cast: Cast, alice_client: Client, book: Book, api: Callable[..., Any]
) -> None:
    book(cast.acme, cost=10 * 10**9, customer="initech")
    assert save(alice_client, currency="EUR", rate="0.9").status_code == 302
    overview = alice_client.get("/w/acme/").content.decode()
    assert "≈€9.00" in overview
    assert "converted to EUR at 0.9 a dollar" in overview
    explorer = alice_client.get("/w/acme/explorer/?range=7d").content.decode()
    assert "≈€9.00" in explorer
    assert "$10" in explorer, "the exact dollars stand in the titles"
    usage = api("alice").get("/api/v1/workspaces/acme/usage/").json()
    assert [row["cost_usd"] for row in usage["results"]] == ["10"]

    assert save(alice_client).status_code == 302
    assert "€" not in alice_client.get("/w/acme/").content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("given, said", [
    ({"currency": "EUR"}, "Write the rate as a number"), ({"currency": "EUR", "rate": "-3"}, "A rate is between"),
    ({"currency": "XXX", "rate": "1"}, "valid choice"), ({"calls_shown_days": "17"}, "valid choice"),
])  # fmt: skip
def test_a_wrong_setting_is_told_beside_its_field_and_kept(
    alice_client: Client, given: dict[str, str], said: str
) -> None:
    answer = save(alice_client, **given)
    assert answer.status_code == 422
    assert said in answer.content.decode()


@pytest.mark.django_db
def test_single_calls_go_out_of_sight_and_sums_stay(
    cast: Cast, alice_client: Client, book: Book, api: Callable[..., Any]
) -> None:
    old = book(cast.acme, cost=10**9, at_ms=int(time.time() * 1000) - 40 * DAY_MS, customer="initech")
    new = book(cast.acme, cost=10**9, customer="initech")
    assert alice_client.get(f"/w/acme/calls/{old}/").status_code == 200
    save(alice_client, calls_shown_days="30")
    assert alice_client.get(f"/w/acme/calls/{old}/").status_code == 404
    assert alice_client.get(f"/w/acme/calls/{new}/").status_code == 200
    calls = api("alice").get("/api/v1/workspaces/acme/calls/").json()["results"]
    assert [call["call_id"] for call in calls] == [new]
    explorer = alice_client.get("/w/acme/explorer/?range=90d&by=customer").content.decode()
    assert "$2.00" in explorer


@pytest.mark.django_db
def test_calls_that_are_kept_no_longer_are_deleted_and_the_books_still_agree(
    cast: Cast, alice_client: Client, book: Book
) -> None:
    for workspace in (cast.acme, cast.globex):
        book(workspace, cost=10**9, at_ms=int(time.time() * 1000) - 40 * DAY_MS, customer="initech")
        book(workspace, cost=10**9, customer="initech")
    save(alice_client, calls_shown_days="30")
    now = datetime.now(UTC)
    assert forgetting.forget_due(now) == 0, "for a day it can be taken back"
    Workspace.objects.filter(pk=cast.acme.pk).update(calls_shown_set_at=now - timedelta(days=2))
    with pytest.raises(DatabaseError, match="never edited"), transaction.atomic(), tenancy.entered(cast.acme):
        Entry.objects.filter(at__gt=now - timedelta(days=29)).delete()
    assert forgetting.forget_due(now) == 1
    assert forgetting.forget_due(now) == 0
    for workspace, lines in ((cast.acme, 1), (cast.globex, 2)):
        with tenancy.entered(workspace):
            assert Entry.objects.filter(workspace_id=workspace.pk).count() == lines
        books = reconcile.books(workspace)
        assert (books.ledger_nano, books.entries, books.differences) == (2 * 10**9, 2, ())
    assert "1 line of calls before" in alice_client.get("/w/acme/audit/").content.decode()


@pytest.mark.django_db
def test_what_is_kept_of_a_call_is_said_and_fingerprints_are_switched_there(
    cast: Cast, alice_client: Client, ann_client: Client
) -> None:
    page = alice_client.get("/w/acme/settings/").content.decode()
    assert "they pass through and are written nowhere" in page
    assert "<b>On.</b> A keyed hash" in page
    answer = alice_client.post("/w/acme/waste/fingerprints/", {"on": "0", "back": "settings"})
    assert answer["Location"] == "/w/acme/settings/"
    assert "<b>Off.</b> No hash of a call" in alice_client.get("/w/acme/settings/").content.decode()
    assert "fingerprints/" not in ann_client.get("/w/acme/settings/").content.decode(), (
        "a viewer is told, and has no switch"
    )
