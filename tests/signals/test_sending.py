"""Mail servers fail and senders die: nothing is lost, nothing comes a third time, and a flood of crossings is a handful of mails."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from billing.domain import keys
from guardrails.signals import mail, telling
from guardrails.signals.models import Delivery, DeliveryState, Notice
from tests.billing.ledger.conftest import Books, Events
from tests.cast import Cast
from tests.signals.conftest import Mailbox, Spending
from workspaces import tenancy
from workspaces.models import Workspace


def due_now(workspace: Workspace) -> None:
    """As if the time until the next try, or until a dead sender's lease ends, were over."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with tenancy.entered(workspace):
        Delivery.objects.filter(state="waiting").update(due_at=past)
        Delivery.objects.filter(state="waiting", leased_until__isnull=False).update(leased_until=past)


def the_mail(workspace: Workspace) -> Delivery:
    with tenancy.entered(workspace):
        return Delivery.objects.get(channel="mail")


@pytest.mark.django_db
def test_a_mail_server_that_is_down_costs_time_and_no_mail(spending: Spending, mailbox: Mailbox, settings: Any) -> None:
    spending.spend(spending.budget(), 60)
    spending.tell()
    settings.EMAIL_PORT = 1
    assert mail.send_due() == 0
    waiting = the_mail(spending.workspace)
    assert (waiting.state, waiting.tries, waiting.began_at) == ("waiting", 0, None)
    assert waiting.due_at > datetime.now(UTC) + timedelta(seconds=5)
    settings.EMAIL_PORT = mailbox.port
    assert mail.send_due() == 0, "not before its time"
    due_now(spending.workspace)
    assert mail.send_due() == 1
    assert len(mailbox.mails) == 1


@pytest.mark.django_db
def test_a_try_again_is_tried_again_and_a_no_is_taken(spending: Spending, mailbox: Mailbox) -> None:
    budget = spending.budget()
    spending.spend(budget, 60)
    spending.tell()
    mailbox.answers = ["451 4.3.0 try again later"]
    assert mail.send_due() == 0
    assert "451" in the_mail(spending.workspace).answer
    due_now(spending.workspace)
    mailbox.refused.add("alice@example.com")
    mail.send_due()
    given_up = the_mail(spending.workspace)
    assert (given_up.state, given_up.answer) == ("failed", "The mail server refused the address (550).")
    due_now(spending.workspace)
    assert mail.send_due() == 0


@pytest.mark.django_db
def test_what_could_not_be_sent_for_two_days_is_given_up(spending: Spending, mailbox: Mailbox, settings: Any) -> None:
    spending.spend(spending.budget(), 60)
    spending.tell()
    with tenancy.entered(spending.workspace):
        Delivery.objects.update(made_at=datetime.now(UTC) - timedelta(days=2, hours=1))
    settings.EMAIL_PORT = 1
    mail.send_due()
    assert the_mail(spending.workspace).state == DeliveryState.FAILED


@pytest.mark.django_db(transaction=True)
def test_a_sender_killed_after_the_server_took_a_mail_sends_at_most_one_copy_more(
    committed_cast: Cast, events: Events, books: Books, mailbox: Mailbox, sluice_environment: dict[str, str]
) -> None:
    spending = Spending(committed_cast.acme, events, books)
    spending.spend(spending.budget(), 60)
    spending.tell()
    dying = {**sluice_environment, "EMAIL_URL": f"smtp://127.0.0.1:{mailbox.port}", "SLUICE_CRASH_AT": "mail_accepted"}
    words = [
        sys.executable,
        "-c",
        "import django; django.setup(); from guardrails.signals import mail; mail.send_due()",
    ]
    assert subprocess.run(words, env=dying, timeout=60, check=False).returncode == 137
    assert len(mailbox.mails) == 1
    assert mail.send_due() == 0, "the dead sender's lease still runs"
    due_now(spending.workspace)
    assert mail.send_due() == 1
    assert mail.send_due() == 0
    assert len({got["Message-ID"] for got in mailbox.mails}) == 1
    assert len(mailbox.mails) == 2
    assert the_mail(spending.workspace).state == DeliveryState.SENT


@pytest.mark.django_db
def test_a_sender_that_dies_twice_in_the_middle_is_not_tried_a_third_time(spending: Spending, mailbox: Mailbox) -> None:
    spending.spend(spending.budget(), 60)
    spending.tell()
    for expected in ("waiting", "waiting", "uncertain"):
        due_now(spending.workspace)
        with tenancy.entered(spending.workspace):
            Delivery.objects.filter(channel="mail").update(began_at=datetime.now(UTC), leased_until=datetime.now(UTC))
        if expected == "waiting":
            mailbox.answers = ["451 later"]
        mail.send_due()
    assert the_mail(spending.workspace).state == DeliveryState.UNCERTAIN
    assert mailbox.mails == []


@pytest.mark.django_db
def test_ten_thousand_crossings_at_once_are_one_mail_and_soon_told(
    spending: Spending, mailbox: Mailbox, cast: Cast
) -> None:
    budget = spending.budget(scope="customer", value=None, name="Each customer")
    now = datetime.now(UTC)

    def cross(count: int, threshold: int) -> None:
        start = budget.rule().bounds_at(int(now.timestamp() * 1000)).start_ms
        with tenancy.entered(cast.acme), connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO billing_crossing (workspace_id, budget_id, counter, period_start, threshold, at, settled, cap, recorded_at) "
                "SELECT %s, %s, %s || md5(n::text || %s), to_timestamp(%s / 1000.0), %s, %s, 95000000000 + n, 100000000000, %s "
                "FROM generate_series(1, %s) n",
                [
                    cast.acme.pk,
                    budget.pk,
                    keys.counter_suffix(budget.pk, start) + ":",
                    str(uuid4()),
                    start,
                    threshold,
                    now,
                    now,
                    count,
                ],
            )

    cross(10_000, 90)
    began = datetime.now(UTC)
    assert spending.tell(now) == 1
    assert (datetime.now(UTC) - began).total_seconds() < 20
    mail.send_due()
    (got,) = mailbox.mails
    assert "10,000 customers passed a threshold" in got["Subject"]
    for _ in range(3):
        cross(500, 75)
        spending.tell(now)
    mail.send_due()
    assert len(mailbox.mails) == 1, "what comes within the hour waits for its end"
    with tenancy.entered(cast.acme):
        more = Notice.objects.get(key__endswith=":more")
    assert more.facts["many"]["count"] == 1500
    due_now(cast.acme)
    mail.send_due()
    assert len(mailbox.mails) == 2
    assert "1,500 customers" in mailbox.mails[1]["Subject"]


@pytest.mark.django_db
def test_sixty_budgets_at_once_are_a_few_mails_and_a_round_up(spending: Spending, mailbox: Mailbox, cast: Cast) -> None:
    for n in range(20):
        spending.spend(spending.budget(scope="feature", value=f"f{n}", name=f"Feature {n}"), 60 + n, drain=False)
    spending.drain()
    assert spending.tell() == telling.MOST_ALONE + 1
    mail.send_due()
    assert len(mailbox.mails) == telling.MOST_ALONE + 1
    assert any("12 more budgets" in got["Subject"] for got in mailbox.mails)
