"""The main job in the browser: from the landing page to the number on the dashboard."""

from __future__ import annotations

import re
import time
from urllib.error import HTTPError

from playwright.sync_api import Page, expect

from tests.e2e.conftest import PASSWORD, PHONE, Site, picture


def sign_up(page: Page, site: Site, address: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="Sign up").click()
    page.get_by_label("Work e-mail").fill(address)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
    link = re.search(r"https?://\S+/accounts/confirm-email/\S+", site.mail_to(address))
    assert link, "the mail has a link"
    page.goto(link.group(0))
    page.get_by_role("button", name="Confirm and continue").click()


def create_workspace(page: Page, name: str, slug: str) -> None:
    expect(page.get_by_role("heading", name="Create your workspace")).to_be_visible()
    page.get_by_label("Name").fill(name)
    expect(page.get_by_label("Address")).to_have_value(slug)
    page.get_by_label("Time zone").select_option("Europe/Berlin")
    page.get_by_role("button", name="Create workspace").click()
    expect(page).to_have_url(re.compile(f"/w/{slug}/$"))


def test_a_newcomer_goes_from_sign_up_to_the_number_on_the_dashboard(page: Page, site: Site) -> None:
    sign_up(page, site, "ada@northwind.example")
    create_workspace(page, "Northwind Bikes", "northwind-bikes")
    expect(page.locator("[data-step=provider]")).to_have_class(re.compile("is-next"))
    picture(page, "onboarding")

    # A provider key: the simulator needs none, and is checked.
    page.get_by_role("link", name="Add a provider key").click()
    page.get_by_role("radio", name="Simulator").check()
    expect(page.get_by_label("Key", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Check and seal").click()
    expect(page.locator("#credentials")).to_contain_text("verified")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("[data-step=provider]")).to_have_class(re.compile("is-done"))

    # A virtual key, shown once, with a copy button that copies it.
    page.get_by_role("link", name="Make a virtual key").click()
    page.get_by_label("Name").fill("Shop assistant")
    page.get_by_role("button", name="Make the key").click()
    secret = page.locator("#new-key").inner_text()
    assert re.fullmatch(r"slk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", secret)
    page.locator(".secret").get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    for language in ("Python", "TypeScript", "curl", "LangChain", "Vercel AI SDK"):
        page.get_by_role("tab", name=language).click()
        expect(page.get_by_role("tabpanel")).to_contain_text(secret)
    picture(page, "virtual-key")
    page.get_by_role("link", name="I have copied it").click()
    expect(page.locator("[data-step=key]")).to_have_class(re.compile("is-done"))
    assert secret not in page.content()

    # The first call ticks the rest off and appears within two seconds, without reloading.
    page.evaluate("window.neverReloaded = true")
    site.call(secret)
    answered = time.monotonic()
    expect(page.locator("[data-figure=month-calls]")).to_have_text("1", timeout=10_000)
    appeared_s = time.monotonic() - answered
    assert page.evaluate("window.neverReloaded") is True
    assert appeared_s < 2, f"the call appeared after {appeared_s:.2f} s"
    expect(page.get_by_text("That is your first call")).to_be_visible()
    expect(page.locator("[data-figure=month-usd]")).to_contain_text(re.compile(r"\$0\.0*[1-9]"))
    expect(page.locator("[data-figure=month-tokens]")).not_to_have_text("0")
    expect(page.locator("#spend-table")).to_contain_text("sim-small")
    expect(page.locator("#live-calls")).to_contain_text("Shop assistant")

    # The button makes another one, and its result says what it cost.
    page.get_by_role("button", name="Send a test call").click()
    expect(page.locator("#test-call-result")).to_contain_text("The call went through")
    expect(page.locator("#test-call-result")).to_contain_text(re.compile(r"Cost\s*\$0\.0"))
    expect(page.locator("[data-figure=month-calls]")).to_have_text("2", timeout=5_000)
    expect(page.locator("#live-calls")).to_contain_text("Test call")

    # One call's page says how the cent came about and what it was for.
    page.get_by_role("link", name="Calls", exact=True).click()
    page.locator("#calls tbody tr").filter(has_text="Shop assistant").get_by_role("link").click()
    expect(page.get_by_role("heading", name=re.compile("came about"))).to_be_visible()
    expect(page.locator("main")).to_contain_text("Input tokens")
    expect(page.locator("main")).to_contain_text("acme")
    expect(page.locator("main")).to_contain_text("measured")
    picture(page, "call")

    # Revoked: refused from its next call on.
    page.get_by_role("link", name="Virtual keys").click()
    row = page.locator("#keys tbody tr").filter(has_text="Shop assistant")
    row.get_by_role("link", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke the key").click()
    expect(row).to_contain_text("revoked")
    assert refused_with(site, secret) == 401


def refused_with(site: Site, key: str) -> int:
    """The status that an application with this key gets."""
    try:
        site.call(key)
    except HTTPError as error:
        error.close()
        return error.code
    return 200


def test_the_theme_is_kept_and_the_phone_has_a_menu(page: Page, site: Site) -> None:
    sign_up(page, site, "grace@harbor.example")
    create_workspace(page, "Harbor", "harbor")
    page.get_by_label("Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")

    page.set_viewport_size(PHONE)
    expect(page.get_by_role("link", name="Vault")).to_be_hidden()
    page.get_by_label("Open the menu").click()
    page.get_by_role("link", name="Vault").click()
    expect(page.get_by_role("heading", name="The vault is empty")).to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide, "nothing sticks out on a phone"


def test_a_budget_set_in_the_browser_refuses_the_next_call(page: Page, site: Site) -> None:
    sign_up(page, site, "lin@canal.example")
    create_workspace(page, "Canal", "canal")
    page.goto("/w/canal/vault/new/")
    page.get_by_role("radio", name="Simulator").check()
    page.get_by_role("button", name="Check and seal").click()
    page.goto("/w/canal/keys/new/")
    page.get_by_label("Name").fill("Loop")
    page.get_by_role("button", name="Make the key").click()
    secret = page.locator("#new-key").inner_text()
    site.call(secret)

    page.get_by_role("link", name="Guardrails").click()
    stop = page.locator("form").filter(has=page.get_by_label("Daily Hard Stop, dollars a day"))
    stop.get_by_role("textbox").fill("0.00000001")
    stop.get_by_role("button", name="Switch on").click()
    expect(page.locator("#budgets")).to_contain_text("Daily Hard Stop")
    assert refused_with(site, secret) == 402

    stop.get_by_role("textbox").fill("5")
    stop.get_by_role("button", name="Change").click()
    expect(page.locator("#budgets")).to_contain_text("of $5.00")
    assert refused_with(site, secret) == 200
    picture(page, "guardrails")

    # A draft is tried out beside its form, and follows what is typed.
    page.get_by_role("link", name="New budget").click()
    page.get_by_label("Cap", exact=True).fill("0.000001")
    expect(page.locator("#preview")).to_contain_text("At the pace of the last 7 days this stops")
    page.get_by_role("button", name="Backtest the last 30 days").click()
    expect(page.locator("#backtest")).to_contain_text("It would have saved")
    page.get_by_label("Cap", exact=True).fill("1000")
    expect(page.locator("#backtest")).to_contain_text("It would have stopped nothing")
    picture(page, "budget-tried-out")
