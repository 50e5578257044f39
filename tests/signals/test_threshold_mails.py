"""A budget crosses a threshold; the right people get one mail that says what, how fast, who and what then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from guardrails import actions as guardrails_actions
from guardrails.signals import actions, mail
from guardrails.signals.models import Delivery, Kind, Notice
from tests.cast import Cast, make_user
from tests.signals.conftest import Mailbox, Spending, text_of
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.audit import SYSTEM
from workspaces.models import Role

pytestmark = pytest.mark.django_db


def notices(cast: Cast) -> list[Notice]:
    with tenancy.entered(cast.acme):
        return list(Notice.objects.filter(workspace_id=cast.acme.pk).order_by("id"))


def states(cast: Cast) -> list[tuple[str, str]]:
    with tenancy.entered(cast.acme):
        return list(Delivery.objects.filter(workspace_id=cast.acme.pk).order_by("id").values_list("channel", "state"))


def test_the_owner_gets_one_mail_and_never_a_second(spending: Spending, mailbox: Mailbox, cast: Cast) -> None:
    budget = spending.budget()
    spending.spend(budget, 55, customer="initech", feature="chat")
    assert spending.tell() == 1
    assert spending.tell() == 0
    assert mail.send_due() == 1
    assert mail.send_due() == 0
    (got,) = mailbox.mails
    assert got["To"] == "alice@example.com"
    assert got["Subject"] == '[Acme] Budget "Production" passed 50%: $55.00 of $100.00'
    spending.spend(budget, 1)
    assert spending.tell() == 0


def test_the_mail_says_what_how_fast_who_and_what_then_in_both_forms(spending: Spending, mailbox: Mailbox) -> None:
    now = datetime.now(UTC)
    budget = spending.budget(throttle_percent=90, reset_day=(now - timedelta(days=10)).day)
    spending.spend(budget, 60, customer="initech", feature="chat", agent="triage", at=now - timedelta(minutes=30))
    spending.tell()
    spending.spend(budget, 20, customer="hooli", feature="search", agent="triage")
    spending.tell()
    mail.send_due()
    got = mailbox.mails[-1]
    for form in ("plain", "html"):
        said = " ".join(text_of(got, form).split())
        for part in (
            "$80.00",
            "of $100.00",
            "an hour",
            "initech",
            "hooli",
            "triage",
            "gpt-5",
            "75%",
            "calls are slowed down",
            "calls are refused",
        ):
            assert part in said, f"{part!r} is missing in {form}: {said}"
    text = text_of(got)
    assert f"/guardrails/budgets/{budget.pk}/raise/" in text
    assert f"/guardrails/budgets/{budget.pk}/" in text
    assert "/w/acme/calls/?customer=initech" in text_of(got, "html")
    assert "/w/acme/keys/" in text


def test_headers_make_it_a_machine_s_mail_that_is_easy_to_leave(
    spending: Spending, mailbox: Mailbox, cast: Cast
) -> None:
    budget = spending.budget()
    spending.spend(budget, 95)
    spending.tell()
    with tenancy.entered(cast.acme):
        uid = Delivery.objects.get(channel="mail").uid
    mail.send_due()
    (got,) = mailbox.mails
    assert got["Message-ID"] == f"<{uid}@testserver>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert got["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = got["List-Unsubscribe"].strip(" <>").removeprefix("http://testserver")
    visitor = Client(enforce_csrf_checks=True)
    assert visitor.get(link).status_code == 200
    spending.budget(cap="90", name="Other", period="week")
    assert visitor.post(link, {"List-Unsubscribe": "One-Click"}).status_code == 200
    spending.spend(budget, 5)
    spending.tell()
    assert mail.send_due() == 0
    assert visitor.get(link[:-3] + "xyz/").status_code == 404


def test_several_thresholds_at_once_are_one_mail_of_the_highest(
    spending: Spending, mailbox: Mailbox, cast: Cast
) -> None:
    spending.spend(spending.budget(), 92)
    assert spending.tell() == 1
    assert [one.facts["threshold"] for one in notices(cast)] == [90]


def test_a_stage_says_what_the_gateway_does_and_its_end_is_told(
    spending: Spending, mailbox: Mailbox, cast: Cast
) -> None:
    budget = spending.budget(throttle_percent=80, notify=[50])
    spending.spend(budget, 85)
    spending.tell()
    spending.spend(budget, 15)
    spending.tell()
    kinds = [(one.kind, one.severity) for one in notices(cast)]
    assert kinds == [(Kind.THROTTLED, "warning"), (Kind.STOPPED, "critical")]
    mail.send_due()
    assert "calls are refused" in mailbox.mails[-1]["Subject"]


def test_who_hears_owners_and_the_member_whose_cap_it_is_and_nobody_unverified(
    spending: Spending, mailbox: Mailbox, cast: Cast
) -> None:
    for name, role in (("carol", Role.MEMBER), ("dave", Role.MEMBER), ("erin", Role.ADMIN)):
        workspace_actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=make_user(name), role=role)
    EmailAddress.objects.filter(email="erin@example.com").update(verified=False)
    budget = spending.budget(scope="member", value=None, name="Member cap")
    # The money Redis knows the value's name; the books only its digest.
    from billing.domain import keys
    from guardrails.limiter.connection import sync_store

    start = budget.rule().bounds_at(int(datetime.now(UTC).timestamp() * 1000)).start_ms
    suffix = keys.counter_suffix(budget.pk, start, keys.value_digest("carol@example.com"))
    sync_store().hset(keys.workspace_prefix(cast.acme.pk) + suffix, mapping={"s": 1, "h": 0, "v": "carol@example.com"})
    spending.spend(budget, 95, value="carol@example.com", member="carol@example.com")
    spending.tell()
    mail.send_due()
    assert sorted(got["To"] for got in mailbox.mails) == ["alice@example.com", "carol@example.com"]
    assert "carol@example.com" in mailbox.mails[0]["Subject"]
    assert ("mail", "skipped") in states(cast)


def test_what_a_member_chose_is_what_they_get(spending: Spending, mailbox: Mailbox, cast: Cast) -> None:
    ours, other = spending.budget(), spending.budget(period="week", name="Weekly")
    assert cast.alice.membership is not None
    assert cast.ann.membership is not None
    with tenancy.entered(cast.acme):
        actions.set_preference(workspace=cast.acme, membership=cast.alice.membership, by=SYSTEM, mail="daily")
        actions.set_preference(
            workspace=cast.acme, membership=cast.ann.membership, by=SYSTEM, mail="immediate", budgets=[str(other.pk)]
        )
    spending.spend(ours, 95)
    spending.spend(other, 95)
    spending.tell()
    mail.send_due()
    assert [got["To"] for got in mailbox.mails] == ["ann@example.com"]
    assert "Weekly" in mailbox.mails[0]["Subject"]
    with tenancy.entered(cast.acme):
        Delivery.objects.filter(channel="daily").update(due_at=datetime.now(UTC))
    mail.send_due()
    daily = mailbox.mails[-1]
    assert daily["To"] == "alice@example.com"
    assert "2 alerts" in daily["Subject"]
    assert "Production" in text_of(daily)
    assert mail.send_due() == 0


def test_quiet_hours_hold_a_mail_back_unless_calls_are_refused(
    spending: Spending, mailbox: Mailbox, cast: Cast
) -> None:
    now = datetime.now(UTC)
    quiet = {"quiet_from": f"{now - timedelta(hours=1):%H:%M}", "quiet_to": f"{now + timedelta(hours=2):%H:%M}"}
    assert cast.alice.membership is not None
    with tenancy.entered(cast.acme):
        actions.set_preference(workspace=cast.acme, membership=cast.alice.membership, by=SYSTEM, **quiet)
    budget = spending.budget()
    spending.spend(budget, 60)
    spending.tell()
    assert mail.send_due() == 0
    spending.spend(budget, 40)
    spending.tell()
    assert mail.send_due() == 1
    assert "used up" in mailbox.mails[0]["Subject"]
    assert len(notices(cast)) == 2, "the inbox has both at once"


def test_a_name_with_line_breaks_never_reaches_a_header(spending: Spending, mailbox: Mailbox, cast: Cast) -> None:
    budget = spending.budget()
    with tenancy.entered(cast.acme):
        type(budget).objects.filter(pk=budget.pk).update(name="Prod\r\nBcc: mallory@example.com\u202e\x00"[:-1])
    cast.acme.name = "Acme\r\nX-Evil: 1"
    cast.acme.save(update_fields=["name"])
    spending.spend(budget, 60, customer="a\r\nBcc: b@c")
    spending.tell()
    mail.send_due()
    (got,) = mailbox.mails
    assert got["Bcc"] is None
    assert got["X-Evil"] is None
    assert "\n" not in got["Subject"]
    assert "Bcc: mallory@example.com" in got["Subject"], "as text inside the subject, harmless"


def test_after_a_raise_it_is_back_to_normal(spending: Spending, mailbox: Mailbox, cast: Cast) -> None:
    from guardrails.signals import stages

    budget = spending.budget()
    spending.spend(budget, 100)
    spending.tell()
    guardrails_actions.update_budget(workspace=cast.acme, by=SYSTEM, budget_id=budget.pk, cap="500")
    stages.look_soon(cast.acme)
    assert stages.look(datetime.now(UTC)) == 1
    assert stages.look(datetime.now(UTC)) == 0
    mail.send_due()
    got = mailbox.mails[-1]
    assert got["Subject"].startswith('[Acme] Back to normal: "Production"')
    assert "pass again" in text_of(got)


def test_a_new_period_lets_calls_through_again_and_says_so(spending: Spending, cast: Cast) -> None:
    from guardrails.signals import stages

    budget = spending.budget(period="day")
    spending.spend(budget, 100)
    spending.tell()
    assert stages.look(datetime.now(UTC)) == 0
    assert stages.look(datetime.now(UTC) + timedelta(days=1)) == 1
    assert notices(cast)[-1].facts["why"] == "reset"


def test_a_stopped_budget_that_is_deleted_leaves_no_mark(spending: Spending, cast: Cast) -> None:
    from guardrails.signals import stages

    budget = spending.budget()
    spending.spend(budget, 100)
    spending.tell()
    guardrails_actions.delete_budget(workspace=cast.acme, by=SYSTEM, budget_id=budget.pk)
    stages.look_soon(cast.acme)
    assert stages.look(datetime.now(UTC)) == 0


def test_another_tenant_sees_none_of_it(spending: Spending, cast: Cast, bob_client: Client) -> None:
    spending.spend(spending.budget(), 60)
    spending.tell()
    (notice,) = notices(cast)
    with tenancy.entered(cast.globex):
        assert Notice.objects.count() == 0
        assert Delivery.objects.count() == 0
    assert Notice.objects.count() == 0, "outside every workspace there is nothing"
    assert bob_client.get(f"/w/globex/alerts/{notice.pk}/").status_code == 404
