"""The cost explorer and the call log over real ledger lines: narrowed, saved, exported, and never confused by what customers are called."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.saved.models import SavedView
from tests.cast import Cast, make_user, signed_in
from tests.counted import reads
from tests.web.test_books_and_guardrails import Book, book
from workspaces import actions, tenancy
from workspaces.models import Role

__all__ = ["book"]

pytestmark = pytest.mark.django_db

NASTY = ['<img src=x onerror="alert(1)">', "=HYPERLINK(1)", "abc\u202egnp.exe"]


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return answer.content.decode()


def exported(client: Client, query: str) -> list[dict[str, str]]:
    answer = client.get(f"/w/acme/explorer/export.csv?{query}")
    assert answer["Content-Type"].startswith("text/csv")
    body = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    return list(csv.DictReader(io.StringIO(body)))


@pytest.fixture
def spent(cast: Cast, book: Book) -> Cast:
    for number, customer in enumerate(["initech", "hooli", "initech", ""]):
        book(cast.acme, customer=customer, cost=1_000_000_000 * (number + 1), model=f"model-{number % 2}")
    book(cast.globex, customer="globex-only", cost=77)
    return cast


def test_customers_are_ranked_and_calls_without_one_are_a_row_of_their_own(spent: Cast, alice_client: Client) -> None:
    page = text(alice_client.get("/w/acme/explorer/?range=7d"))
    table = page[page.index('id="groups"') :]
    assert re.findall(r"(?:initech|hooli|Without a customer)</", table) == [
        "initech</",
        "hooli</",
        "Without a customer</",
    ]
    assert "$10.00" in table, "the whole"
    assert "globex" not in page


@pytest.mark.parametrize("query", ["by=customer&then=model", "by=model&customer=initech", "by=virtual_key", "by=tag:plan", "range=today&by=model",
                                   "metric=latency&by=provider", "metric=cache_hits&by=session&range=90d", "by=user&grain=week"])  # fmt: skip
def test_any_question_is_answered_with_few_queries(spent: Cast, alice_client: Client, query: str) -> None:
    with CaptureQueriesContext(connection) as asked:
        page = text(alice_client.get(f"/w/acme/explorer/?{query}"))
    assert "plot" in page
    assert len(reads(asked)) <= 15, "\n".join(read[:120] for read in reads(asked))


@pytest.mark.parametrize(
    "query", ["by=password&from=x&metric=z&grain=q", "then=customer&customer=%00", "view=nonsense", "view=" + "0" * 36]
)
def test_a_broken_address_is_told_and_never_an_error(spent: Cast, alice_client: Client, query: str) -> None:
    answer = alice_client.get(f"/w/acme/explorer/?{query}")
    assert answer.status_code == (404 if query.startswith("view=") else 200)
    assert ("note-warn" in answer.content.decode()) == (answer.status_code == 200)
    assert alice_client.get(f"/w/acme/calls/?{query}").status_code == 200


def test_the_export_has_every_group_and_adds_up(spent: Cast, alice_client: Client) -> None:
    rows = exported(alice_client, "range=7d&by=customer")
    assert [row["Customer"] for row in rows] == ["initech", "hooli", "(not in any group above)", "(total)"]
    assert [row["Cost (USD)"] for row in rows] == ["4", "2", "4", "10"]
    pairs = exported(alice_client, "range=7d&by=customer&then=model&compare=none")
    assert sum(float(row["Cost (USD)"]) for row in pairs[:-1]) == 10


def test_names_are_inert_on_every_page_and_in_the_export(cast: Cast, alice_client: Client, book: Book) -> None:
    calls = [book(cast.acme, customer=name) for name in NASTY]
    pages = [
        "",
        "?by=customer",
        "explorer/",
        "explorer/?customer=%3Cb%3E&by=model",
        "calls/",
        f"calls/{calls[0]}/",
        "calls/?q=%3Cb%3E",
    ]
    for path in pages:
        page = text(alice_client.get(f"/w/acme/{path}"))
        assert "<img" not in page
        assert "<b>&" not in page
        assert "\u202e" not in page
    cells = [row["Customer"] for row in exported(alice_client, "range=7d")]
    assert "'=HYPERLINK(1)" in cells
    assert "abc⟨U+202E⟩gnp.exe" in cells


def test_who_may_not_export_is_not_offered_it(spent: Cast, ann_client: Client) -> None:
    assert "export.csv" not in text(ann_client.get("/w/acme/explorer/"))
    assert ann_client.get("/w/acme/explorer/export.csv").status_code == 403


# --- Saved views ------------------------------------------------------------------------------------------------------
def save(client: Client, name: str, query: str, **more: str) -> Any:
    return client.post("/w/acme/explorer/views/", {"name": name, "query": query, **more}, follow=True)


def test_a_view_is_private_until_it_is_shared_and_only_its_owner_or_an_admin_deletes_it(
    spent: Cast, alice_client: Client, ann_client: Client
) -> None:
    save(ann_client, "Mine", "range=7d&by=model")
    assert "Mine" in text(ann_client.get("/w/acme/explorer/"))
    assert "Mine" not in text(alice_client.get("/w/acme/explorer/"))
    save(alice_client, "Ours", "range=90d&by=feature", shared="on")
    with tenancy.entered(spent.acme):
        mine, ours = SavedView.objects.get(name="Mine"), SavedView.objects.get(name="Ours")
    page = text(ann_client.get(f"/w/acme/explorer/?view={ours.pk}"))
    assert "Shared by" in page
    assert "Last 90 days" in page
    assert alice_client.get(f"/w/acme/explorer/?view={mine.pk}").status_code == 404
    assert ann_client.post(f"/w/acme/explorer/views/{ours.pk}/delete/").status_code == 403
    assert alice_client.post(f"/w/acme/explorer/views/{mine.pk}/delete/").status_code == 404
    assert alice_client.post(f"/w/acme/explorer/views/{ours.pk}/delete/").status_code == 302
    assert signed_in(spent.bob).get(f"/w/globex/explorer/?view={mine.pk}").status_code == 404


def test_a_view_that_somebody_tampered_with_is_told(spent: Cast, alice_client: Client) -> None:
    save(alice_client, "Odd", "range=7d&by=model")
    with tenancy.entered(spent.acme):
        SavedView.objects.update(query="range=forever&by=password&metric=%3Cscript%3E&customer=%00&" + "a=1&" * 80)
        view = SavedView.objects.get()
    page = text(alice_client.get(f"/w/acme/explorer/?view={view.pk}"))
    assert "<script>" not in page
    assert "Odd" in page


def test_a_name_is_needed_and_saving_under_the_same_one_replaces_it(spent: Cast, alice_client: Client) -> None:
    assert "was not saved" in text(save(alice_client, " ", "by=model"))
    save(alice_client, "Week", "range=7d&by=model")
    save(alice_client, "week", "range=30d&by=model")
    with tenancy.entered(spent.acme):
        (view,) = SavedView.objects.all()
    assert "range=30d" in view.query


# --- The log ----------------------------------------------------------------------------------------------------------
def test_a_word_becomes_the_filter_it_fits_and_an_id_opens_its_call(
    spent: Cast, alice_client: Client, book: Book
) -> None:
    call = book(spent.acme, customer="soylent")
    page = text(alice_client.get("/w/acme/calls/?q=soylent"))
    assert "soylent" in page
    assert "hooli" not in page
    assert alice_client.get(f"/w/acme/calls/?q={call}")["Location"] == f"/w/acme/calls/{call}/"
    assert "No call matches" in text(alice_client.get("/w/acme/calls/?q=nobody"))


def test_a_lead_without_the_right_to_calls_is_not_led_to_them(spent: Cast) -> None:
    treasurer = make_user("treasurer")
    actions.add_member(workspace=spent.acme, by=spent.alice.actor, user=treasurer, role=Role.BILLING)
    client = Client()
    client.force_login(treasurer)
    for path in ("", "explorer/"):
        assert "/w/acme/calls/" not in text(client.get(f"/w/acme/{path}"))
