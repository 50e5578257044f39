"""Raises and the other things a budget's page can do: ask, approve, decline, end; every setting of a budget; the kill switch."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from guardrails import actions, queries
from guardrails.models import Budget
from tests.cast import Cast, make_user
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.ids import uuid7
from workspaces.models import Role, Workspace

pytestmark = pytest.mark.django_db

ASKED = {"amount": "$20", "lasts": "3", "reason": "Launch day"}


@pytest.fixture
def budget(cast: Cast) -> Budget:
    return actions.create_budget(workspace=cast.acme, by=cast.alice.actor, cap="10", period="day", name="Production")


def somebody(cast: Cast, role: Role) -> Client:
    user = make_user(f"some-{role}")
    workspace_actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def page_of(client: Client, path: str = "") -> str:
    answer = client.get(f"/w/acme/guardrails/{path}")
    assert answer.status_code == 200
    return answer.content.decode()


def raise_path(budget: Budget) -> str:
    return f"/w/acme/guardrails/budgets/{budget.pk}/raise/"


def acts(page: str) -> dict[str, str]:
    """{"approve": address, ...} of the raises on a page."""
    return {act: path for path, act in re.findall(r'action="(/w/acme/guardrails/raises/[0-9a-f-]{36}/(\w+)/)"', page)}


def cap_now(workspace: Workspace, budget: Budget) -> int:
    status = queries.budget(workspace, budget.pk, timezone.now())
    assert status is not None
    assert status.standing is not None
    return status.standing.cap // 10**9


def test_a_member_asks_the_owner_approves_and_the_cap_on_the_page_is_higher(
    cast: Cast, alice_client: Client, budget: Budget
) -> None:
    member = somebody(cast, Role.MEMBER)
    assert "Request a raise" in page_of(member)
    answer = member.post(raise_path(budget), ASKED, follow=True)
    assert "once somebody approves it" in answer.content.decode()
    assert set(acts(page_of(member))) == {"withdraw"}, "one's own request can be taken back, not approved"
    assert cap_now(cast.acme, budget) == 10

    live = alice_client.get("/w/acme/guardrails/live/").content.decode()
    assert "<html" not in live, "a fragment"
    assert "Launch day" in live
    assert "1 waiting" in live
    assert set(acts(live)) == {"approve", "decline"}
    answer = alice_client.post(acts(live)["approve"], follow=True)
    page = answer.content.decode()
    assert "$20.00 more from the next call on" in page
    assert "of $30.00" in page.replace('<span class="quiet">', "")
    assert "raised by $20.00" in page
    assert "in force" in page
    assert cap_now(cast.acme, budget) == 30

    alice_client.post(acts(page_of(alice_client))["withdraw"])
    assert cap_now(cast.acme, budget) == 10
    assert acts(page_of(alice_client)) == {}


def test_a_declined_request_changes_nothing_and_a_second_decision_is_said_to_be_late(
    cast: Cast, alice_client: Client, budget: Budget
) -> None:
    somebody(cast, Role.MEMBER).post(raise_path(budget), ASKED)
    found = acts(page_of(alice_client))
    assert "The cap stays" in alice_client.post(found["decline"], follow=True).content.decode()
    assert "already" in alice_client.post(found["approve"], follow=True).content.decode()
    assert cap_now(cast.acme, budget) == 10


def test_who_decides_raises_in_one_step_until_the_budget_resets(
    cast: Cast, alice_client: Client, budget: Budget
) -> None:
    assert "Raise it now" in alice_client.get(raise_path(budget)).content.decode()
    answer = alice_client.post(raise_path(budget), ASKED | {"lasts": "reset"})
    assert answer.status_code == 302
    (row,) = queries.raises(cast.acme)
    status = queries.budget(cast.acme, budget.pk, timezone.now())
    assert status is not None
    assert row.expires_at == status.resets_at
    assert cap_now(cast.acme, budget) == 30


def test_a_budget_that_never_resets_is_raised_for_days_only(cast: Cast, alice_client: Client) -> None:
    total = actions.create_budget(workspace=cast.acme, by=cast.alice.actor, cap="10", period="total")
    assert alice_client.post(raise_path(total), ASKED | {"lasts": "reset"}).status_code == 422
    alice_client.post(raise_path(total), ASKED)
    (row,) = queries.raises(cast.acme)
    assert timedelta(days=2, hours=23) < row.expires_at - timezone.now() <= timedelta(days=3)


@pytest.mark.parametrize(
    "change",
    [{"amount": "0"}, {"amount": "-5"}, {"amount": "1e3"}, {"amount": "٥"}, {"amount": "8999999"}, {"amount": ""}, {"reason": ""}, {"lasts": "999"}],
)  # fmt: skip
def test_a_raise_that_cannot_be_is_refused_beside_its_field(
    cast: Cast, alice_client: Client, budget: Budget, change: dict[str, str]
) -> None:
    answer = alice_client.post(raise_path(budget), ASKED | change)
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()
    assert queries.raises(cast.acme) == []


def test_a_viewer_sees_raises_and_can_do_nothing_about_them(cast: Cast, ann_client: Client, budget: Budget) -> None:
    somebody(cast, Role.MEMBER).post(raise_path(budget), ASKED)
    page = page_of(ann_client)
    assert "Launch day" in page
    assert acts(page) == {}
    assert "/raise/" not in page
    (row,) = queries.raises(cast.acme)
    for act in ("approve", "decline", "withdraw"):
        assert ann_client.post(f"/w/acme/guardrails/raises/{row.pk}/{act}/").status_code == 403


def test_a_plans_quota_cannot_be_raised(cast: Cast, alice_client: Client) -> None:
    quota = next(status.budget for status in queries.budgets(cast.acme, timezone.now()))
    assert alice_client.get(f"/w/acme/guardrails/budgets/{quota.id}/raise/").status_code == 404


# --- Every setting of a budget ----------------------------------------------------------------------------------------
SETTINGS = {
    "cap": "40", "name": "Production", "strategy": "throttle", "alert_percent": "", "throttle_percent": "80", "kill_percent": "95",
    "throttle_per_minute": "12", "notify": "60%, 90", "on_tight": "clamp", "message": "Ask Alice.", "upgrade_url": "https://example.com/up",
}  # fmt: skip


def edit_path(budget: Budget) -> str:
    return f"/w/acme/guardrails/budgets/{budget.pk}/"


def stored(cast: Cast, budget: Budget) -> Budget:
    with tenancy.entered(cast.acme):
        return Budget.objects.get(pk=budget.pk)


def test_every_setting_of_a_budget_is_edited_in_its_form_and_shown_again(
    cast: Cast, alice_client: Client, budget: Budget
) -> None:
    assert alice_client.post(edit_path(budget), SETTINGS).status_code == 302
    row = stored(cast, budget)
    assert (row.strategy, row.on_tight, row.message, row.upgrade_url) == (
        "throttle",
        "clamp",
        "Ask Alice.",
        "https://example.com/up",
    )
    assert (row.alert_percent, row.throttle_percent, row.kill_percent) == (None, 80, 95)
    assert (row.throttle_per_minute, row.notify) == (12, [60, 90])
    page = alice_client.get(edit_path(budget)).content.decode()
    for shown in ('value="12"', 'value="60, 90"', 'value="Ask Alice."', 'value="https://example.com/up"', 'value="95"'):
        assert shown in page
    assert re.search(r'value="clamp"\s+selected', page)
    again = SETTINGS | {"message": "", "upgrade_url": "", "throttle_per_minute": "", "notify": "", "on_tight": "reject"}
    alice_client.post(edit_path(budget), again)
    row = stored(cast, budget)
    assert (row.message, row.upgrade_url, row.throttle_per_minute, row.notify, row.on_tight) == (
        "",
        "",
        0,
        [],
        "reject",
    )


@pytest.mark.parametrize(
    "change",
    [{"alert_percent": "85"}, {"kill_percent": "101"}, {"throttle_percent": "0"}, {"notify": "fifty"}, {"throttle_per_minute": "-1"},
     {"upgrade_url": "javascript:alert(1)"}, {"on_tight": "explode"}],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_beside_its_field(
    cast: Cast, alice_client: Client, budget: Budget, change: dict[str, Any]
) -> None:
    answer = alice_client.post(edit_path(budget), SETTINGS | change)
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()
    assert stored(cast, budget).cap == 10_000_000_000


def test_a_new_budget_s_reset_day_counts_where_there_is_one(cast: Cast, alice_client: Client) -> None:
    new = SETTINGS | {"unit": "usd", "scope": "tag", "tag": "team", "value": "search", "reset_day": "15"}
    for period, day in (("month", 15), ("day", 1)):
        assert alice_client.post("/w/acme/guardrails/budgets/new/", new | {"period": period}).status_code == 302
        with tenancy.entered(cast.acme):
            row = Budget.objects.get(period=period)
        assert (row.by, row.value, row.reset_day) == ("tag:team", "search", day)
    refused = alice_client.post("/w/acme/guardrails/budgets/new/", new | {"period": "week", "tag": "a b"})
    assert refused.status_code == 422
    assert 'id="id_tag_error"' in refused.content.decode()


# --- The kill switch and barred models --------------------------------------------------------------------------------
def test_the_kill_switch_stops_all_calls_says_so_on_every_page_and_lets_them_through_again(
    cast: Cast, alice_client: Client, ann_client: Client
) -> None:
    assert "Stop all calls" in page_of(alice_client)
    assert "Stop all calls" not in page_of(ann_client)
    alice_client.post("/w/acme/guardrails/suspend/")
    assert alice_client.post("/w/acme/guardrails/suspend/").status_code == 302, "twice is as good as once"
    assert Workspace.objects.get(pk=cast.acme.pk).state == "suspended"
    for path in ("", "calls/", "guardrails/"):
        assert "All calls of this workspace are stopped" in ann_client.get(f"/w/acme/{path}").content.decode()
    alice_client.post("/w/acme/guardrails/resume/")
    assert Workspace.objects.get(pk=cast.acme.pk).state == "active"
    assert "All calls of this workspace are stopped" not in page_of(ann_client)


def test_a_barred_model_is_shown_and_allowed_again(cast: Cast, alice_client: Client, ann_client: Client) -> None:
    actions.bar_model(
        workspace=cast.acme, provider="openai", model="gpt-x", rid=uuid7(), held_nano=10**9, cost_nano=2 * 10**9
    )
    assert "/lift/" not in page_of(ann_client)
    page = page_of(alice_client)
    assert "openai/gpt-x" in page
    lift = re.search(r'action="([^"]+/lift/)"', page)
    assert lift
    alice_client.post(lift.group(1))
    assert "openai/gpt-x" not in page_of(alice_client)
