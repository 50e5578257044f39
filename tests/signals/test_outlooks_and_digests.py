"""The Monthly Spend Alert and the week in numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.ledger.queries import Days
from guardrails.signals import actions, digests, mail, outlooks
from guardrails.signals.models import Delivery, Kind, Notice
from tests.cast import Cast
from tests.signals.conftest import Mailbox, Spending, text_of
from workspaces import tenancy
from workspaces.audit import SYSTEM

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)


@pytest.fixture
def steady(spending: Spending) -> Spending:
    """$80 a day for forty days before September 15, on a budget that nothing crosses."""
    budget = spending.budget(cap="8000000", period="total", name="All")
    for day in range(1, 41):
        at = NOON - timedelta(days=day, hours=2)
        spending.spend(budget, 80, at=at, drain=False, customer="initech" if day % 2 else "hooli", feature="chat")
    spending.drain()
    return spending


def notices(cast: Cast, kind: str) -> list[Notice]:
    with tenancy.entered(cast.acme):
        return list(Notice.objects.filter(kind=kind).order_by("id"))


def test_it_says_where_the_month_goes_and_when_it_crosses_the_line_once(
    steady: Spending, cast: Cast, mailbox: Mailbox
) -> None:
    actions.set_spend_line(workspace=cast.acme, by=SYSTEM, line_usd="1500")
    assert outlooks.look_at(cast.acme, NOON) == 1
    assert outlooks.look_at(cast.acme, NOON + timedelta(hours=6)) == 0
    with tenancy.entered(cast.acme):
        Delivery.objects.update(due_at=datetime.now(UTC))
    mail.send_due()
    (got,) = mailbox.mails
    said = text_of(got)
    assert "You are on track for a $2,360 month; it crosses your line of $1,500.00 on Sun 20 Sep." in said
    assert "80% probability" in said
    assert "initech" in said


def test_without_a_line_the_month_before_is_one(steady: Spending, cast: Cast) -> None:
    assert outlooks.look_at(cast.acme, NOON) == 0, "as dear as the month before"
    steady.spend(
        steady.budget(cap="8000000", name="Other", period="total", scope="feature", value="x"),
        3000,
        at=NOON - timedelta(hours=1),
    )
    with tenancy.entered(cast.acme):
        seen = outlooks.outlook.of_month(cast.acme, NOON)
        _, whose, _ = outlooks.line(cast.acme, seen)
    assert whose == "last_month"


def test_a_newcomers_second_month_is_not_dearer_than_the_few_days_of_the_first(spending: Spending, cast: Cast) -> None:
    budget, first = spending.budget(cap="8000000", period="total", name="All"), datetime(2026, 9, 1, 6, tzinfo=UTC)
    for day in range(13):
        spending.spend(budget, 80, at=first - timedelta(days=day, hours=1), drain=False)
    spending.drain()
    assert outlooks.look_at(cast.acme, first) == 0
    for day in range(13, 31):
        spending.spend(budget, 20, at=first - timedelta(days=day, hours=1), drain=False)
    spending.drain()
    assert outlooks.look_at(cast.acme, first + timedelta(hours=4)) == 1, "beside a whole month that it grows is news"


def test_only_workspaces_with_spend_that_were_not_looked_at_lately_are(spending: Spending, cast: Cast) -> None:
    now = datetime.now(UTC)
    assert outlooks.look(now) == 0
    budget = spending.budget(cap="8000000", period="total")
    for day in range(12):
        spending.spend(budget, 200, at=now - timedelta(days=day, minutes=1), drain=False)
    spending.drain()
    actions.set_spend_line(workspace=cast.acme, by=SYSTEM, line_usd="9000")
    outlooks.look(now)
    with tenancy.entered(cast.acme):
        first = outlooks.LookAhead.objects.get().looked_at
    outlooks.look(now + timedelta(hours=1))
    with tenancy.entered(cast.acme):
        assert outlooks.LookAhead.objects.get().looked_at == first


def test_the_week_in_numbers_goes_to_the_owner_on_monday_morning(
    steady: Spending, cast: Cast, mailbox: Mailbox
) -> None:
    monday = datetime(2026, 9, 14, 0, 10, tzinfo=UTC)
    assert digests.make(monday) == 1
    assert digests.make(monday + timedelta(minutes=5)) == 0
    assert digests.make(monday - timedelta(days=1)) == 0
    (digest,) = notices(cast, Kind.DIGEST)
    assert digest.facts["spent_nano"] == 7 * 80 * 10**9
    with tenancy.entered(cast.acme):
        (delivery,) = Delivery.objects.all()
        assert delivery.due_at.hour == 8
        Delivery.objects.update(due_at=datetime.now(UTC))
    mail.send_due()
    (got,) = mailbox.mails
    assert got["Subject"].strip() == "[Acme] Your week to 13 Sep: $560.00 for 7 calls"
    said = text_of(got)
    assert "against the week before" in said
    assert "What moved, by customer" in said
    assert "weekly" in got["List-Id"]
    # Each of these is said also where there is nothing to say.
    for title, nothing in (
        ("Anomalies", "Of the week: none"), ("Savings", "No lever was pulled yet: $0.00"), ("Waste", "Looked for: not yet"),
    ):  # fmt: skip
        assert f"\n{title}\n  {nothing}" in said.replace("\r\n", "\n")


def test_another_signal_can_add_to_the_week(steady: Spending, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        digests, "SECTIONS", [lambda workspace, week: {"title": "Waste", "rows": [["Duplicates", "$3.00", "", ""]]}]
    )
    with tenancy.entered(cast.acme):
        facts = digests.week_of(cast.acme, Days(NOON.date() - timedelta(days=8), NOON.date() - timedelta(days=2)), NOON)
    assert facts["extra"][0]["title"] == "Waste"
