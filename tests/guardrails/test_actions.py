"""What people and API clients may write: each bad input a clear refusal, each good one effective, audited and in the ledger's lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.models import BudgetLine
from guardrails import actions, calendars
from guardrails.domain.periods import Era, Period, bounds_at
from guardrails.models import Budget, Raise
from tests.cast import Cast, Person
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.errors import Invalid, NotAllowed, NotThere, Taken, WrongState
from workspaces.models import AuditRecord, Plan, Workspace
from workspaces.policy_signal import PolicyChange

pytestmark = pytest.mark.django_db


def make(alice: Person, **more: Any) -> Budget:
    return actions.create_budget(workspace=alice.workspace, by=alice.actor, **{"cap": "50", "period": "month", **more})


@pytest.mark.parametrize(
    "cap",
    [
        "-5",
        "0",
        "0.0",
        "NaN",
        "inf",
        "1e3",
        "1,000",
        "٥٠",
        "five",
        "",
        " ",
        "9000000.01",
        "99999999999999",
        "1.0000000001",
        5.0,
        None,
        True,
        [],
        "+5",
    ],
)
def test_an_amount_that_cannot_be_a_cap_is_refused_by_name(alice: Person, cap: Any) -> None:
    with pytest.raises(Invalid) as caught:
        make(alice, cap=cap)
    assert caught.value.field == "cap"


@pytest.mark.parametrize("cap", ["0", "-1", "1.5", "٣", 9_000_000_000_000_001, "9" * 30, None, 2.0])
def test_a_cap_in_calls_is_a_whole_number(alice: Person, cap: Any) -> None:
    with pytest.raises(Invalid) as caught:
        make(alice, cap=cap, unit="calls")
    assert caught.value.field == "cap"


@pytest.mark.parametrize(
    ("cap", "nano"),
    [("0.000000001", 1), ("50", 50 * 10**9), (" 0.25 ", 25 * 10**7), ("9000000", 9 * 10**15), (3, 3 * 10**9)],
)
def test_a_cap_is_read_exactly(alice: Person, cap: Any, nano: int) -> None:
    assert make(alice, cap=cap).cap == nano


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"alert_percent": 95, "throttle_percent": 90}, "alert_percent"),
        ({"throttle_percent": 100, "kill_percent": 90}, "throttle_percent"),
        ({"kill_percent": 101}, "kill_percent"),
        ({"alert_percent": 0}, "alert_percent"),
        ({"alert_percent": -1}, "alert_percent"),
        ({"notify": [50, 101]}, "notify"),
        ({"notify": "50"}, "notify"),
        ({"strategy": "shrug"}, "strategy"),
        ({"on_tight": "maybe"}, "on_tight"),
        ({"period": "fortnight"}, "period"),
        ({"unit": "eur"}, "unit"),
        ({"reset_day": 32}, "reset_day"),
        ({"period": "week", "reset_day": 8}, "reset_day"),
        ({"period": "day", "reset_day": 2}, "reset_day"),
        ({"scope": "planet", "value": "x"}, "scope"),
        ({"scope": "", "value": "x"}, "value"),
        ({"scope": "user", "value": ""}, "value"),
        ({"scope": "user", "value": "a\nb"}, "value"),
        ({"scope": "user", "value": "x" * 129}, "value"),
        ({"scope": "tag:"}, "scope"),
        ({"scope": "tag:a b", "value": "x"}, "scope"),
        ({"scope": "virtual_key", "value": "not-a-key"}, "value"),
        ({"upgrade_url": "javascript:alert(1)"}, "upgrade_url"),
        ({"message": "two\nlines"}, "message"),
        ({"period": "total", "throttle_percent": 90}, "throttle_per_minute"),
        ({"kind": "plan_quota"}, "kind"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_each_bad_setting_names_its_field(alice: Person, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        make(alice, **settings)
    assert caught.value.field == field


def test_two_identical_budgets_are_refused_each_value_and_workspace_too(alice: Person) -> None:
    for scope in ({}, {"scope": "user", "value": None}, {"scope": "user", "value": "ann"}):
        make(alice, **scope)
        with pytest.raises(Taken):
            make(alice, cap="7", **scope)
    make(alice, period="day")
    make(alice, unit="tokens", cap=100)


def test_the_database_itself_keeps_the_promises(alice: Person) -> None:
    made = make(alice)
    for broken in (
        {"cap": 0},
        {"cap": 9_000_000_000_000_001},
        {"alert_percent": 101},
        {"kill_percent": 60},
        {"period": "era"},
        {"value": "x"},
    ):
        with tenancy.entered(alice.workspace), pytest.raises(IntegrityError), transaction.atomic():
            Budget.objects.filter(pk=made.pk).update(**broken)


def test_every_change_raises_the_version_and_is_audited_and_reaches_the_ledgers_lines(alice: Person) -> None:
    acme = alice.workspace
    version = acme.policy_version
    made = make(alice, notify=[50, 100])
    actions.update_budget(workspace=acme, by=alice.actor, budget_id=made.pk, cap="60", name="Prod")
    with tenancy.entered(acme):
        line = BudgetLine.objects.get(budget_id=made.pk)
        assert (line.cap, line.name, line.thresholds, line.unit) == (60 * 10**9, "Prod", [50, 100], "nano")
    actions.delete_budget(workspace=acme, by=alice.actor, budget_id=made.pk)
    assert Workspace.objects.get(pk=acme.pk).policy_version == version + 3
    with tenancy.entered(acme):
        assert not BudgetLine.objects.filter(budget_id=made.pk).exists()
        done = list(AuditRecord.objects.filter(workspace_id=acme.pk, action__startswith="budget.").order_by("number"))
    assert [record.action for record in done] == ["budget.create", "budget.change", "budget.delete"]
    assert done[1].before == {"cap": 50 * 10**9, "name": made.name}


def test_what_makes_another_budget_cannot_be_changed(alice: Person) -> None:
    made = make(alice)
    with pytest.raises(Invalid):
        actions.update_budget(workspace=alice.workspace, by=alice.actor, budget_id=made.pk, unit="calls")


def test_globex_cannot_touch_what_is_acmes(alice: Person, bob: Person) -> None:
    made = make(alice)
    with pytest.raises(NotThere):
        actions.update_budget(workspace=bob.workspace, by=bob.actor, budget_id=made.pk, cap="1")
    with pytest.raises(NotThere):
        actions.delete_budget(workspace=bob.workspace, by=bob.actor, budget_id=made.pk)
    with pytest.raises(NotThere):
        actions.request_raise(
            workspace=bob.workspace,
            by=bob.actor,
            budget_id=made.pk,
            amount="1",
            reason="x",
            expires_at=timezone.now() + timedelta(days=1),
        )


def test_presets_are_made_once_and_then_changed(alice: Person) -> None:
    first = actions.daily_hard_stop(workspace=alice.workspace, by=alice.actor, cap_usd="10")
    second = actions.daily_hard_stop(workspace=alice.workspace, by=alice.actor, cap_usd="20")
    assert (first.pk, second.cap, first.period, first.throttle_percent) == (second.pk, 20 * 10**9, "day", None)
    control = actions.monthly_control(workspace=alice.workspace, by=alice.actor, cap_usd="100")
    assert (control.alert_percent, control.throttle_percent, control.kill_percent) == (70, 90, 100)


def test_member_caps_belong_to_the_team_plan(alice: Person) -> None:
    with pytest.raises(NotAllowed):
        actions.member_caps(workspace=alice.workspace, by=alice.actor, cap_usd="10")
    Workspace.objects.filter(pk=alice.workspace.pk).update(plan=Plan.TEAM)
    alice.workspace.refresh_from_db()
    made = actions.member_caps(workspace=alice.workspace, by=alice.actor, cap_usd="10")
    assert (made.by, made.value) == ("member", None)


def test_a_member_asks_for_more_and_somebody_who_manages_budgets_decides(cast: Cast) -> None:
    made, ends = make(cast.alice), datetime.now(UTC) + timedelta(days=2)
    asked = actions.request_raise(
        workspace=cast.acme, by=cast.ann.actor, budget_id=made.pk, amount="25", reason="launch week", expires_at=ends
    )
    with pytest.raises(NotAllowed):
        actions.decide_raise(workspace=cast.acme, by=cast.ann.actor, raise_id=asked.pk, approve=True)
    done = actions.decide_raise(workspace=cast.acme, by=cast.alice.actor, raise_id=asked.pk, approve=True)
    assert (done.state, done.decided_by, done.amount) == ("approved", cast.alice.email, 25 * 10**9)
    with pytest.raises(WrongState):
        actions.decide_raise(workspace=cast.acme, by=cast.alice.actor, raise_id=asked.pk, approve=False)
    assert actions.withdraw_raise(workspace=cast.acme, by=cast.alice.actor, raise_id=asked.pk).state == "withdrawn"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": "-1"}, "amount"),
        ({"amount": "9000000"}, "amount"),
        ({"reason": " "}, "reason"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
        ({"expires_at": datetime(2999, 1, 1, tzinfo=UTC)}, "expires_at"),
    ],
)
def test_a_raise_that_cannot_be_is_refused_by_name(alice: Person, change: dict[str, Any], field: str) -> None:
    made = make(alice)
    wanted = {"amount": "1", "reason": "why not", "expires_at": timezone.now() + timedelta(days=1), **change}
    with pytest.raises(Invalid) as caught:
        actions.request_raise(workspace=alice.workspace, by=alice.actor, budget_id=made.pk, **wanted)
    assert caught.value.field == field
    with tenancy.entered(alice.workspace):
        assert not Raise.objects.exists()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"metric": "rps"}, "metric"),
        ({"limit": 0}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e3"}, "limit"),
        ({"limit": 10**10}, "limit"),
        ({"metric": "concurrency", "burst": 5}, "burst"),
        ({"scope": "planet"}, "scope"),
    ],
)
def test_a_rate_limit_that_cannot_be_is_refused_by_name(alice: Person, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        actions.create_rate_limit(
            workspace=alice.workspace, by=alice.actor, **{"metric": "rpm", "limit": 10, **settings}
        )
    assert caught.value.field == field


def test_the_same_rate_limit_twice_is_refused(alice: Person) -> None:
    actions.create_rate_limit(workspace=alice.workspace, by=alice.actor, metric="rpm", limit=10)
    with pytest.raises(Taken):
        actions.create_rate_limit(workspace=alice.workspace, by=alice.actor, metric="rpm", limit=20)


def test_budgets_follow_the_workspace_to_another_zone_when_their_period_ends(alice: Person) -> None:
    made = make(alice, period="day")
    before = bounds_at(Period.DAY, (Era("UTC"),), int(timezone.now().timestamp() * 1000))
    workspace_actions.change_workspace(workspace=alice.workspace, by=alice.actor, time_zone="Asia/Tokyo")
    acme = alice.workspace
    calendars.follow(PolicyChange(acme.pk, acme.policy_version, acme.state))
    with tenancy.entered(acme):
        rule = Budget.objects.get(pk=made.pk).rule()
    assert rule.bounds_at(before.start_ms) == before
    following = rule.bounds_at(before.end_ms)
    assert following.start_ms == before.end_ms
    assert rule.bounds_at(following.end_ms).start_ms % 86_400_000 == 15 * 3_600_000  # midnight in Tokyo
