"""The mails as people see them: in Chromium, as wide as a phone and as a desk. `MAIL_PICTURES=<folder>` keeps the pictures."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from guardrails import actions as guardrails_actions
from guardrails.anomalies import telling as anomalies
from guardrails.anomalies.models import Incident
from guardrails.domain.anomalies.kinds import Kind
from guardrails.signals import actions, digests, mail, outlooks, stages
from guardrails.signals.models import Delivery
from tests.cast import Cast
from tests.e2e.conftest import ARGUMENTS, CHROMIUM
from tests.signals.conftest import Mailbox, Spending, text_of
from workspaces import tenancy
from workspaces.audit import SYSTEM

WIDTHS = {"phone": 360, "desk": 1100}
NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)
LONG = "a-customer-whose-name-has-no-space-and-does-not-end-before-the-screen-of-any-phone-does"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.django_db
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_no_mail_is_wider_than_a_phone_and_every_lever_can_be_pressed(
    spending: Spending, mailbox: Mailbox, cast: Cast, tmp_path: Path
) -> None:
    pages = {
        **budgets(spending, mailbox, cast), "anomaly": anomaly(spending, mailbox, cast), **months(spending, mailbox, cast)
    }  # fmt: skip
    assert len(pages) == 7
    folder = Path(os.environ.get("MAIL_PICTURES") or tmp_path)
    for name, html in pages.items():
        (folder / f"mail-{name}.html").write_text(html)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for size, width in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": 800})
            for name, html in pages.items():
                page.set_content(html)
                page.screenshot(path=folder / f"mail-{name}-{size}.png", full_page=True)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, size)
                for box in page.evaluate(_BUTTONS):
                    assert box["height"] >= 36, (name, size, box)
                    assert box["right"] <= width, (name, size, box)
        browser.close()


_BUTTONS = """[...document.querySelectorAll('a')].filter(a => getComputedStyle(a).display === 'inline-block')
    .map(a => ({text: a.textContent, height: a.getBoundingClientRect().height, right: a.getBoundingClientRect().right}))"""


def newest(mailbox: Mailbox, cast: Cast) -> str:
    with tenancy.entered(cast.acme):
        Delivery.objects.filter(state="waiting").update(due_at=datetime.now(UTC) - timedelta(seconds=1))
    assert mail.send_due() >= 1
    return text_of(mailbox.mails[-1], "html")


def budgets(spending: Spending, mailbox: Mailbox, cast: Cast) -> dict[str, str]:
    budget, before = spending.budget(throttle_percent=90, cap="1000"), datetime.now(UTC) - timedelta(minutes=30)
    spending.spend(budget, 500, customer=LONG, feature="support-chat", agent="triage", at=before)
    spending.spend(
        budget, 260, customer="Müller & Söhne", feature="search", agent="market-scout", model="claude-opus-4-5"
    )
    spending.tell()
    found = {"threshold": newest(mailbox, cast)}
    spending.spend(budget, 150, customer="initech", feature="support-chat")
    spending.tell()
    found["slowed"] = newest(mailbox, cast)
    spending.spend(budget, 90, customer="initech", feature="support-chat")
    spending.tell()
    found["stopped"] = newest(mailbox, cast)
    guardrails_actions.update_budget(workspace=cast.acme, by=SYSTEM, budget_id=budget.pk, cap="5000")
    stages.look_soon(cast.acme)
    stages.look(datetime.now(UTC))
    found["normal"] = newest(mailbox, cast)
    return found


def anomaly(spending: Spending, mailbox: Mailbox, cast: Cast) -> str:
    now = datetime.now(UTC)
    with tenancy.entered(cast.acme):
        incident = Incident.objects.create(
            workspace_id=cast.acme.pk, kind=Kind.LOOP, dimension="session", value="run-7f3a-2026-11-21T03:12", started_at=now,
            last_seen_at=now, observed=412, usual=0.4, cost_nano=18_420_000_000, calls=1_240,
            facts={"beside": [["agent", "market-scout"], ["feature", "market-research"]], "a_day_nano": 640_000_000_000},
        )  # fmt: skip
        anomalies.tell(cast.acme, incident, now)
    return newest(mailbox, cast)


def months(spending: Spending, mailbox: Mailbox, cast: Cast) -> dict[str, str]:
    budget = spending.budget(cap="8000000", period="total", name="All")
    for day in range(1, 41):
        at = NOON - timedelta(days=day, hours=2)
        spending.spend(
            budget, 80 + day % 5, at=at, drain=False, customer="initech" if day % 2 else LONG, feature="chat"
        )
    spending.drain()
    actions.set_spend_line(workspace=cast.acme, by=SYSTEM, line_usd="1500")
    assert outlooks.look_at(cast.acme, NOON) == 1
    found = {"forecast": newest(mailbox, cast)}
    assert digests.make(datetime(2026, 9, 14, 0, 10, tzinfo=UTC)) == 1
    return {**found, "digest": newest(mailbox, cast)}
