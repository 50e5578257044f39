"""What stands beside the money: the status of alerts, anomalies and waste on the overview, what moved together, and the caps on members."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone

from billing.domain import keys
from billing.ledger.queries import Mover
from billing.views.overview import _is_close, _is_same_news
from guardrails import actions as guardrail_actions
from guardrails.actions import create_budget
from guardrails.signals import facts, telling
from guardrails.signals.models import Kind, Severity
from tests.cast import Cast, signed_in
from tests.web.test_books_and_guardrails import Book, book
from workspaces import actions, tenancy
from workspaces.models import Membership, Role

__all__ = ["book"]
pytestmark = pytest.mark.django_db


def _alert(cast: Cast, title: str, severity: Severity) -> None:
    now = timezone.now()
    with tenancy.entered(cast.acme):
        telling.notify(
            cast.acme, kind=Kind.THRESHOLD, severity=severity, key=title, title=title, facts={}, at=now, now=now, by_mail=False
        )  # fmt: skip


def test_the_overview_says_how_alerts_anomalies_and_waste_stand(cast: Cast, alice_client: Client, book: Book) -> None:
    book(cast.acme)
    page = alice_client.get("/w/acme/").content.decode()
    quiet = page[page.index('id="signals-head"') : page.index('id="spend-head"')]
    for said in ("No open alert", "No anomaly", "No waste found"):
        assert said in quiet
    _alert(cast, "The gravest", Severity.CRITICAL)
    _alert(cast, "The newest <b>", Severity.INFO)
    page = alice_client.get("/w/acme/").content.decode()
    loud = page[page.index('id="signals-head"') : page.index('id="spend-head"')]
    assert "The gravest" in loud, "of what is open, the gravest is looked at first"
    assert "2 open alerts" in loud


def test_what_moved_together_is_one_piece_of_news() -> None:
    agent, feature = Mover("agent", "scout", 500, 30), Mover("feature", "research", 499, 30)
    assert _is_same_news(feature, [agent])
    assert not _is_same_news(Mover("agent", "other", 500, 30), [agent]), "two agents are two pieces of news"
    assert not _is_same_news(Mover("model", "gpt", 700, 30), [agent])
    assert not _is_close(0, 0)


def test_each_member_stands_beside_the_cap_that_is_used_most(cast: Cast, alice_client: Client) -> None:
    assert "Set a cap" in alice_client.get("/w/acme/members/").content.decode()
    create_budget(workspace=cast.acme, by=cast.alice.actor, cap="20", period="month", scope="member", value=None)
    create_budget(
        workspace=cast.acme, by=cast.alice.actor, cap="7", period="day", scope="member", value=cast.alice.user.email
    )
    page = alice_client.get("/w/acme/members/").content.decode()
    assert "of $20.00 a month" in page
    assert "Set a cap" not in page


def test_a_link_begins_a_budget_on_what_it_came_from_and_takes_nothing_at_its_word(
    cast: Cast, alice_client: Client
) -> None:
    page = alice_client.get(
        "/w/acme/guardrails/budgets/new/?scope=member&value=%22%3E%3Cb%3Ebob&cap=5"
    ).content.decode()
    assert '<option value="member" selected>' in page
    assert "&quot;&gt;&lt;b&gt;bob" in page
    assert "<b>bob" not in page
    assert alice_client.get("/w/acme/guardrails/budgets/new/?scope=nonsense&key=x").status_code == 200


def test_the_last_owner_is_not_offered_to_leave(cast: Cast, alice_client: Client) -> None:
    mine = Membership.objects.get(workspace=cast.acme, user=cast.alice.user)
    leave = f"/w/acme/members/{mine.id}/remove/"
    assert leave not in alice_client.get("/w/acme/members/").content.decode()
    actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=cast.mallory.user, role=Role.OWNER)
    assert leave in alice_client.get("/w/acme/members/").content.decode()


def test_who_may_not_change_budgets_sees_caps_and_no_way_to_set_them(cast: Cast) -> None:
    guardrail_actions.create_budget(
        workspace=cast.acme, by=cast.alice.actor, cap="20", period="month", scope="member", value=cast.alice.user.email
    )
    actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=cast.mallory.user, role=Role.VIEWER)
    page = signed_in(cast.mallory).get("/w/acme/members/").content.decode()
    assert "of $20.00 a month" in page
    assert "Set a cap" not in page
    assert not re.search(r"/guardrails/budgets/[0-9a-f-]{36}/", page)


def test_a_counter_that_redis_cannot_name_is_named_by_the_books(cast: Cast, book: Book) -> None:
    book(cast.acme, customer="initech")
    budget = create_budget(
        workspace=cast.acme, by=cast.alice.actor, cap="20", period="month", scope="customer", value=None
    )
    with tenancy.entered(cast.acme):
        start_ms = budget.rule().bounds_at(int(timezone.now().timestamp() * 1000)).start_ms
        known = keys.counter_suffix(str(budget.pk), start_ms, keys.value_digest("initech"))
        other = keys.counter_suffix(str(budget.pk), start_ms, keys.value_digest("hooli"))
        assert facts.values_of(cast.acme, [known, other]) == {known: "initech"}


def test_the_vault_says_who_touched_a_key_last_and_the_audit_log_what_was_set(cast: Cast, alice_client: Client) -> None:
    made = actions.add_credential(
        workspace=cast.acme, by=cast.alice.actor, provider="openai", secret="sk-" + "x" * 40, verify=False
    )
    page = alice_client.get("/w/acme/vault/").content.decode()
    assert re.search(rf"Added by <span class=\"inert\">{cast.alice.email}", page)
    actions.disable_credential(workspace=cast.acme, by=cast.ann.actor, credential_id=made.pk)
    page = alice_client.get("/w/acme/vault/").content.decode()
    assert re.search(rf"Disabled by <span class=\"inert\">{cast.ann.email}", page)
    create_budget(workspace=cast.acme, by=cast.alice.actor, cap="1234.5", period="month")
    log = alice_client.get("/w/acme/audit/").content.decode()
    assert "$1,234.50" in log
    assert re.search(r"<summary[^>]*>and \d+ more", log)
