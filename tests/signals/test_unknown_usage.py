"""A provider's answer states usage that nobody has taught us: its owners hear of it, once a day for each provider, model and key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.ledger.unknown_usage import MOST_A_DAY
from guardrails.signals import mail, unknown
from guardrails.signals.models import Delivery, Kind, Notice
from tests.billing.ledger.conftest import Books, Events
from tests.cast import Cast
from tests.signals.conftest import Mailbox, text_of
from workspaces import tenancy

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def answered(
    events: Events, cast: Cast, path: str, at: datetime, *, model: str = "gpt-9", status: str = "partial"
) -> None:
    events.call(
        cast.acme.id,
        provider="openai",
        model=model,
        flags=["over", f"schema_drift:{path}"],
        price_status=status,
        at_ms=ms(at),
    )


def told(cast: Cast) -> list[Notice]:
    with tenancy.entered(cast.acme):
        return list(Notice.objects.filter(kind=Kind.UNKNOWN_USAGE).order_by("id"))


def test_owners_hear_once_a_day_of_each_provider_model_and_key(
    events: Events, books: Books, cast: Cast, mailbox: Mailbox
) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - 2 * DAY
    for _ in range(3):
        answered(events, cast, "holographic_tokens", noon)
    answered(events, cast, "holographic_tokens", noon, model="gpt-9-mini")
    answered(events, cast, "note", noon, status="exact")
    books.drain(cast.acme.id)
    assert unknown.tell(datetime.now(UTC)) == 3
    assert unknown.tell(datetime.now(UTC)) == 0
    answered(events, cast, "holographic_tokens", noon + timedelta(hours=1))
    answered(events, cast, "holographic_tokens", noon + DAY)
    books.drain(cast.acme.id)
    assert unknown.tell(datetime.now(UTC)) == 1, "the next day"

    first = told(cast)[0]
    assert first.title == "An answer of openai contains usage we do not know: holographic_tokens"
    assert first.severity == "warning"
    mail.send_due()
    assert {got["To"] for got in mailbox.mails} == {"alice@example.com"}, "owners only"
    said = [text_of(got) for got in mailbox.mails]
    assert len(said) == 4
    assert "entries are marked partial" in said[0]
    assert "/calls/" in said[0]
    assert sum("the cost stands" in one for one in said) == 1


def test_a_provider_that_renames_everything_fills_no_mailbox(
    events: Events, books: Books, cast: Cast, mailbox: Mailbox
) -> None:
    now = datetime.now(UTC)
    for number in range(MOST_A_DAY + 30):
        answered(events, cast, f"key_{number}", now)
    books.drain(cast.acme.id)
    answered(events, cast, "one_more", now)
    books.drain(cast.acme.id)
    unknown.tell(now)
    assert len(told(cast)) == MOST_A_DAY
    with tenancy.entered(cast.acme):
        assert Delivery.objects.count() == unknown.MOST_MAILS_A_DAY


def test_it_is_the_workspace_s_own(events: Events, books: Books, cast: Cast) -> None:
    answered(events, cast, "holographic_tokens", datetime.now(UTC))
    books.drain(cast.acme.id)
    unknown.tell(datetime.now(UTC))
    with tenancy.entered(cast.globex):
        assert not Notice.objects.exists()
