"""The inbox, preferences and the REST API of alerts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from guardrails.signals import audience
from guardrails.signals.models import Notice, Preference
from tests.cast import Cast
from tests.signals.conftest import Spending
from workspaces import tenancy

pytestmark = pytest.mark.django_db
API = Callable[..., APIClient]
V1 = "/api/v1/workspaces/acme"


@pytest.fixture
def told(spending: Spending) -> Notice:
    spending.spend(spending.budget(), 95, customer="<script>alert(1)</script>")
    spending.tell()
    with tenancy.entered(spending.workspace):
        return Notice.objects.get()


def test_an_alert_stands_in_the_inbox_at_once_and_is_counted_until_it_was_seen(
    told: Notice, alice_client: Client, ann_client: Client
) -> None:
    before = alice_client.get("/w/acme/calls/").content.decode()
    assert '<span class="badge-count">1<' in before
    inbox = alice_client.get("/w/acme/alerts/").content.decode()
    assert told.title.replace('"', "&quot;") in inbox
    assert "badge-count" not in alice_client.get("/w/acme/calls/").content.decode()
    assert "badge-count" in ann_client.get("/w/acme/calls/").content.decode(), "Ann has not looked yet"


def test_an_alert_s_page_says_what_the_mail_says_and_runs_nothing(told: Notice, alice_client: Client) -> None:
    page = alice_client.get(f"/w/acme/alerts/{told.pk}/").content.decode()
    for part in ("$95.00", "Raise the cap", "By customer", "&lt;script&gt;alert(1)"):
        assert part in page
    assert "<script>alert" not in page


def test_archiving_is_for_those_who_manage_alerts_and_can_be_undone(
    told: Notice, alice_client: Client, ann_client: Client
) -> None:
    assert ann_client.post(f"/w/acme/alerts/{told.pk}/archive/").status_code == 403
    alice_client.post(f"/w/acme/alerts/{told.pk}/archive/")
    assert "Nothing to tell" in alice_client.get("/w/acme/alerts/").content.decode()
    assert "archived by" in alice_client.get("/w/acme/alerts/?state=archived").content.decode()
    alice_client.post(f"/w/acme/alerts/{told.pk}/archive/", {"back": "1"})
    alice_client.post("/w/acme/alerts/archive/", {"up_to": str(told.pk)})
    assert "Nothing to tell" in alice_client.get("/w/acme/alerts/").content.decode()


def test_the_live_list_is_silent_until_something_comes(told: Notice, alice_client: Client) -> None:
    assert alice_client.get(f"/w/acme/alerts/live/?seen={told.pk}").status_code == 204
    assert alice_client.get("/w/acme/alerts/live/?seen=").status_code == 200


def test_preferences_keep_what_was_typed_and_say_what_is_wrong(
    cast: Cast, spending: Spending, ann_client: Client
) -> None:
    budget = spending.budget()
    chosen = {
        "mail": "daily",
        "which": "some",
        "budgets": [str(budget.pk)],
        "quiet_from": "22:00",
        "quiet_to": "07:00",
        "weekly": "on",
    }
    assert ann_client.post("/w/acme/alerts/preferences/", chosen).status_code == 302
    with tenancy.entered(cast.acme):
        saved = Preference.objects.get(user_id=cast.ann.user.pk)
    assert (saved.mail, saved.budgets, saved.quiet_from, saved.quiet_to, saved.weekly) == (
        "daily",
        [budget.pk],
        1320,
        420,
        True,
    )
    wrong = ann_client.post("/w/acme/alerts/preferences/", chosen | {"quiet_to": ""})
    assert wrong.status_code == 422
    assert "Quiet hours have a beginning and an end." in wrong.content.decode()
    assert ann_client.post("/w/acme/alerts/preferences/", chosen | {"quiet_from": "25:99"}).status_code == 422


def test_the_spend_line_is_dollars_and_nothing_else(cast: Cast, alice_client: Client, ann_client: Client) -> None:
    assert alice_client.post("/w/acme/alerts/spend-line/", {"line": "$1,500"}).status_code == 302
    assert 'value="1500"' in alice_client.get("/w/acme/alerts/preferences/").content.decode()
    assert alice_client.post("/w/acme/alerts/spend-line/", {"line": "lots"}).status_code == 422
    assert alice_client.post("/w/acme/alerts/spend-line/", {"line": ""}).status_code == 302
    assert ann_client.post("/w/acme/alerts/spend-line/", {"line": "1"}).status_code == 403


def test_the_api_lists_shows_and_archives_alerts(told: Notice, api: API) -> None:
    alice, ann, bob = api("alice"), api("ann"), api("bob")
    (row,) = alice.get(f"{V1}/alerts/").json()["results"]
    assert (row["kind"], row["facts"]["threshold"]) == ("threshold", 90)
    assert alice.get(f"{V1}/alerts/?kind=stopped").json()["results"] == []
    assert alice.get(f"{V1}/alerts/?state=nonsense").status_code == 400
    assert alice.get(f"{V1}/alerts/?budget_id=1").status_code == 400
    assert alice.get(f"{V1}/alerts/?kind=%00").status_code == 200
    assert ann.post(f"{V1}/alerts/{told.pk}/archive/").status_code == 403
    assert bob.get(f"{V1}/alerts/{told.pk}/").status_code == 404
    assert bob.get(f"/api/v1/workspaces/globex/alerts/{told.pk}/").status_code == 404
    assert alice.post(f"{V1}/alerts/{told.pk}/archive/").json()["archived_by"] == "alice@example.com"
    assert alice.post(f"{V1}/alerts/{told.pk}/restore/").json()["archived_at"] is None


def test_the_api_keeps_preferences_and_the_spend_alert(api: API) -> None:
    ann, alice = api("ann"), api("alice")
    assert ann.get(f"{V1}/alert-preferences/").json()["mail"] == "off", "a viewer hears nothing unless they want to"
    changed = ann.patch(
        f"{V1}/alert-preferences/", {"mail": "immediate", "quiet_from": "22:00", "quiet_to": "06:30"}, format="json"
    )
    assert changed.json()["quiet_to"] == "06:30"
    assert ann.patch(f"{V1}/alert-preferences/", {"seen_id": "x"}, format="json").status_code == 400
    assert alice.put(f"{V1}/spend-alert/", {"line": "1500"}, format="json").json()["line"] == "1500"
    assert alice.get(f"{V1}/spend-alert/").json()["maturity"] == "none"
    assert ann.put(f"{V1}/spend-alert/", {"line": None}, format="json").status_code == 403


def test_the_api_makes_tests_rotates_and_deletes_webhooks(api: API, settings: Any) -> None:
    alice, ann, bob = api("alice"), api("ann"), api("bob")
    made = alice.post(f"{V1}/webhooks/", {"name": "Ops", "url": "http://127.0.0.1:9/x"}, format="json").json()
    assert made["signing_secret"].startswith("whsec_")
    one = f"{V1}/webhooks/{made['id']}/"
    assert "signing_secret" not in alice.get(one).json()
    assert (
        alice.post(f"{V1}/webhooks/", {"name": "Ops", "url": "http://127.0.0.1:9/x"}, format="json").status_code == 409
    )
    assert alice.post(f"{one}rotate-secret/").json()["signing_secret"] != made["signing_secret"]
    assert alice.post(f"{one}test/").status_code == 202
    (row,) = alice.get(f"{one}deliveries/").json()["results"]
    assert (row["state"], row["title"]) == ("waiting", "A test from Sluice")
    assert alice.post(f"{one}deliveries/{row['id']}/replay/").status_code == 409
    assert alice.patch(one, {"paused": True}, format="json").json()["paused"] is True
    assert alice.post(f"{one}test/").status_code == 409
    assert ann.get(f"{V1}/webhooks/").status_code == 403
    assert bob.get(one).status_code == 404
    assert bob.get(f"/api/v1/workspaces/globex/webhooks/{made['id']}/").status_code == 404
    assert alice.delete(one).status_code == 204
    assert alice.get(one).status_code == 404


def test_seen_moves_forward_only(told: Notice, cast: Cast) -> None:
    from guardrails.signals import actions

    assert cast.alice.membership is not None
    with tenancy.entered(cast.acme):
        actions.mark_seen(workspace=cast.acme, membership=cast.alice.membership, newest=told.pk)
        older = type(told.pk)(int=told.pk.int - 1)
        actions.mark_seen(workspace=cast.acme, membership=cast.alice.membership, newest=older)
        assert Preference.objects.get().seen_id == told.pk
    assert datetime.now(UTC) > told.at


def test_looking_at_the_inbox_is_no_choice_of_what_to_hear(told: Notice, cast: Cast, ann_client: Client) -> None:
    ann_client.get("/w/acme/alerts/")
    assert cast.ann.membership is not None
    cast.ann.membership.role = "owner"
    cast.ann.membership.save(update_fields=["role"])
    with tenancy.entered(cast.acme):
        (ann,) = [one for one in audience.hearers(cast.acme) if one.user == cast.ann.user]
        assert (ann.preference.mail, ann.preference.weekly) == ("immediate", True), (
            "what an owner hears, not what a viewer heard"
        )
