"""Every page there is, in both themes, on a desk and on a phone: nothing serious for axe, nothing sticking out, nothing on the console.

In the ordinary run each page is seen once, by turns light on a desk and dark on a phone; with SLUICE_TEST_ALL (and for `make pictures`) both ways.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from playwright.sync_api import Browser, Page

from guardrails.demo import story
from tests.e2e.accessibility import violations
from tests.e2e.conftest import CALM, DESK, PHONE, Complaints, Site, opened, picture

HOME = f"/w/{story.SLUG}"
ID = "[0-9a-f]{8}-[0-9a-f-]{27}"
FRAGMENTS = {"overview_live", "overview_spend", "guardrails_live", "alerts_live", "explorer_csv"}
"""Routes that answer parts of pages, or files."""

PAGES = {
    "overview": "", "explorer": "explorer/?range=7d&by=feature&then=model", "calls": "calls/", "guardrails": "guardrails/",
    "budget_new": "guardrails/budgets/new/", "limit_new": "guardrails/limits/new/", "alerts": "alerts/",
    "alert_preferences": "alerts/preferences/", "endpoints": "alerts/webhooks/", "anomalies": "alerts/anomalies/",
    "anomaly_settings": "alerts/anomalies/settings/", "waste": "waste/", "connect": "connect/", "keys": "keys/", "key_new": "keys/new/",
    "vault": "vault/", "credential_new": "vault/new/", "alias_new": "vault/aliases/new/", "fallbacks": "vault/fallbacks/",
    "members": "members/", "directory": "directory/", "audit": "audit/", "tokens": "tokens/", "settings": "settings/",
}  # fmt: skip
FOUND = {
    "call": ("calls/", f"/calls/{ID}/$"), "budget_edit": ("guardrails/", f"/budgets/{ID}/$"), "raise_new": ("guardrails/", "/raise/$"),
    "limit_edit": ("guardrails/", f"/limits/{ID}/$"), "key": ("keys/", f"/keys/{ID}/$"), "key_revoke": ("keys/", "/revoke/$"),
    "credential_rotate": ("vault/", "/rotate/$"),
    "waste_finding": ("waste/", f"/waste/{ID}/$"), "alert": ("alerts/", f"/alerts/{ID}/$"), "anomaly": ("alerts/anomalies/", f"/anomalies/{ID}/$"),
}  # fmt: skip
"""Pages of one thing: the page with a link to it, and what the link looks like."""
MAY_BE_NONE = {"alert", "anomaly"}
"""Made by the worker in its own time, and not of every small demo."""
NOT_IN_THE_DEMO = {"alias_edit", "alias_delete", "endpoint", "credential_delete"}
"""It has no alias, no webhook and no disabled credential."""
OUTSIDE = (
    "/reference/", "/reference/budgets/", "/account/", "/workspaces/new/", "/accounts/password/change/", "/accounts/sessions/", "/accounts/2fa/",
    "/accounts/email/", "/accounts/logout/",
)  # fmt: skip
ENTRANCE = ("/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/accounts/login/nowhere/")
BROKEN = ("explorer/?range=century&by=password", "calls/?customer=nobody-at-all", "calls/not-a-call/")
"""What is asked for wrongly, or finds nothing."""
PICTURED = {"guardrails", "waste", "anomalies", "members", "settings"}
"""The overview, the explorer and the calls are pictured by `test_money_pages`."""


def routes_in_a_workspace() -> Iterator[str]:
    """Names of the routes under `/w/<slug>/` that answer a GET."""

    def walk(patterns: list[URLPattern | URLResolver], before: str) -> Iterator[str]:
        for one in patterns:
            path = before + str(one.pattern)
            if isinstance(one, URLResolver):
                yield from walk(one.url_patterns, path)
            elif path.startswith("w/") and "GET" in getattr(one.callback, "methods", ()):
                yield one.name or path

    return walk(get_resolver().url_patterns, "")


def test_no_page_of_a_workspace_is_left_out_of_the_walk() -> None:
    assert set(routes_in_a_workspace()) == set(PAGES) | set(FOUND) | FRAGMENTS | NOT_IN_THE_DEMO


def listed(page: Page, address: str) -> str:
    """A page's text, without painting it."""
    answer = page.request.get(address)
    assert answer.ok, address
    return answer.text().partition("<main")[2]


def seen(page: Page, address: str, name: str = "") -> list[str]:
    """What is wrong with a page, as sentences."""
    page.goto(address)
    found = [f"{address}: {one}" for one in violations(page)]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append(f"{address} sticks out at {page.viewport_size}")
    if name:
        picture(page, name)
    return found


@pytest.fixture
def looks(browser: Browser, site: Site, demo: Path, complaints: Complaints) -> Iterator[tuple[Page, Page]]:
    """The same person on a desk in the light, and on a phone in the dark."""
    desk = opened(browser, site, demo, complaints, "light", DESK)
    phone = opened(browser, site, demo, complaints, "dark", PHONE)
    yield desk, phone
    desk.context.close()
    phone.context.close()


def test_every_page_is_sound_in_both_themes_and_on_a_phone(looks: tuple[Page, Page]) -> None:
    desk, _ = looks
    everything = bool(os.environ.get("SLUICE_TEST_PICTURES") or os.environ.get("SLUICE_TEST_ALL"))
    pages = {name: f"{HOME}/{path}" for name, path in PAGES.items()}
    for name, (where, link) in FOUND.items():
        links = re.findall(r'href="([^"?]+)"', listed(desk, f"{HOME}/{where}"))
        there = [address for address in links if re.search(link, address)]
        assert there or name in MAY_BE_NONE, f"no link to {name} on {where}"
        if there:
            pages[name] = there[0]
    others = [*(f"{HOME}/{path}" for path in BROKEN), *OUTSIDE]
    wrong = []
    for place, (name, address) in enumerate([*pages.items(), *(("", address) for address in others)]):
        for turn, page in enumerate(looks):
            if everything or place % 2 == turn:
                kept = f"{name}-{('light', 'phone')[turn]}" if name in PICTURED else ""
                wrong += seen(page, address, kept)
    assert wrong == []


def test_the_entrance_is_sound_in_both_themes_and_on_a_phone(
    browser: Browser, site: Site, complaints: Complaints
) -> None:
    wrong = []
    for theme, size in (("light", DESK), ("dark", PHONE)):
        page = opened(browser, site, None, complaints, theme, size)
        for address in ENTRANCE:
            wrong += seen(page, address)
        page.context.close()
    assert wrong == []


def test_a_lead_sees_a_department_and_no_door_to_the_rest(browser: Browser, site: Site, demo: Path) -> None:
    context = browser.new_context(base_url=site.url, **CALM)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(story.address_of(story.LEAD))
    page.get_by_label("Password").fill(story.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{HOME}/explorer/?range=30d&by=department")
    assert page.locator("#groups").inner_text().count("Support") == 1
    assert "Engineering" not in page.locator("#groups").inner_text()
    assert page.get_by_role("link", name="Vault").count() == 0
    assert (page.goto(f"{HOME}/keys/") or pytest.fail("no answer")).status == 403
    context.close()
