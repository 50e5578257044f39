"""The morning after: what somebody with a surprising bill finds on the pages about money, in both themes and on a phone.

`make pictures` runs the same walk with the whole demo and keeps its pictures in docs/pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from guardrails.demo import story
from tests.e2e.accessibility import violations
from tests.e2e.conftest import DESK, PHONE, Complaints, Site, opened, picture

HOME = f"/w/{story.SLUG}"


@pytest.fixture
def desk(browser: Browser, site: Site, demo: Path, complaints: Complaints) -> Iterator[Page]:
    page = opened(browser, site, demo, complaints, "light", DESK)
    yield page
    page.context.close()


def test_the_first_screen_says_how_much_who_and_where_it_is_heading(desk: Page) -> None:
    desk.goto(f"{HOME}/")
    for figure in ("today-usd", "month-usd", "forecast-usd", "budget-left"):
        expect(desk.locator(f"[data-figure={figure}]")).to_contain_text("$")
    expect(desk.locator("#spend-table")).to_contain_text("ticket-summary")
    expect(desk.locator("#movers tbody tr").first).to_contain_text("$")
    expect(desk.locator("#burn-downs")).to_contain_text("Monthly Budget Control")
    expect(desk.locator("#live-calls tbody tr")).to_have_count(8)
    assert violations(desk) == []
    picture(desk, "overview-light")

    # Stacked by something else, without losing the place.
    desk.get_by_text("By feature", exact=True).click()
    desk.get_by_role("link", name="Customer", exact=True).click()
    expect(desk.locator("#spend-table")).to_contain_text("Meridian Bank")

    # A column says what it is made of, and leads to its calls.
    column = desk.locator(".plot-column").nth(28)
    column.hover()
    expect(desk.locator(".plot-tip")).to_contain_text("Total")
    column.click()
    expect(desk).to_have_url(re.compile("/calls/"))


def test_which_customer_cost_the_most_this_week_is_two_clicks_away(desk: Page) -> None:
    desk.goto(f"{HOME}/")
    desk.get_by_role("link", name="Cost explorer").click()
    expect(desk.locator("#groups tbody tr").first).to_contain_text("Meridian Bank")
    desk.locator("summary").filter(has_text="Last 30 days").click()
    desk.get_by_role("link", name="Last 7 days").click()
    expect(desk.locator("#groups tbody tr").first).to_contain_text("Meridian Bank")
    assert violations(desk) == []
    picture(desk, "explorer-light")

    # Which feature of theirs, and its calls.
    desk.locator("#groups").get_by_role("link", name="Meridian Bank", exact=True).click()
    expect(desk.locator(".chip").first).to_contain_text("Meridian Bank")
    expect(desk.locator("#groups tbody tr").first).to_contain_text("ticket-summary")
    desk.get_by_role("link", name="Calls of ticket-summary").click()
    expect(desk.locator("#calls tbody tr").first).to_contain_text("Meridian Bank")


def test_a_view_is_saved_opened_and_deleted_and_a_select_answers_at_once(desk: Page) -> None:
    desk.goto(f"{HOME}/explorer/?range=30d&by=agent")
    expect(desk.locator("#groups tbody tr").first).to_contain_text("market-scout")
    desk.get_by_label("Show").select_option("tokens")
    expect(desk).to_have_url(re.compile("metric=tokens"))
    desk.get_by_label("Then group by").select_option("model")
    expect(desk.locator("#groups thead")).to_contain_text("Model")
    desk.locator("summary").filter(has_text="Save view").click()
    desk.get_by_label("Name").fill("Agents <b>by</b> model")
    desk.get_by_role("button", name="Save", exact=True).click()
    expect(desk.get_by_role("heading", name="Agents <b>by</b> model")).to_be_visible()
    expect(desk.locator("#groups thead")).to_contain_text("Tokens")
    desk.locator("summary").filter(has_text="Save view").click()
    desk.get_by_role("button", name="Delete this view").click()
    expect(desk.locator("#toasts")).to_contain_text("is deleted")


def test_a_call_is_found_and_explains_each_cent(desk: Page) -> None:
    desk.goto(f"{HOME}/calls/")
    expect(desk.locator("#calls tbody tr")).to_have_count(50)
    assert violations(desk) == []
    picture(desk, "calls-light")
    desk.get_by_role("searchbox").fill("Meridian Bank")
    desk.get_by_role("searchbox").press("Enter")
    expect(desk.locator(".chip").first).to_contain_text("Customer Meridian Bank")
    desk.locator("#calls tbody tr").filter(has_text="ticket-summary").first.get_by_role("link").click()
    expect(desk.get_by_role("heading", name=re.compile("came about"))).to_be_visible()
    for said in ("Input tokens", "per million", "Monthly Budget Control", "First byte", "Meridian Bank", "measured"):
        expect(desk.locator("main")).to_contain_text(said)
    assert violations(desk) == []
    picture(desk, "call-light")


def test_nothing_needs_sight_of_colours_or_more_than_a_phone(
    browser: Browser, site: Site, demo: Path, complaints: Complaints
) -> None:
    dark = opened(browser, site, demo, complaints, "dark", DESK)
    phone = opened(browser, site, demo, complaints, "light", PHONE)
    for name, path in (("overview", ""), ("explorer", "explorer/?range=7d"), ("calls", "calls/")):
        dark.goto(f"{HOME}/{path}")
        assert violations(dark) == [], f"{name} in the dark"
        picture(dark, f"{name}-dark")
        phone.goto(f"{HOME}/{path}")
        wide = phone.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, f"{name} sticks out on a phone"
        picture(phone, f"{name}-phone")
    dark.context.close()
    phone.context.close()


def test_the_numbers_are_there_without_javascript(browser: Browser, site: Site, demo: Path) -> None:
    context = browser.new_context(base_url=site.url, storage_state=demo, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{HOME}/explorer/?range=7d&by=feature")
    expect(page.locator("#groups")).to_contain_text("ticket-summary")
    assert page.locator(".plot-column rect").count() > 14, "the chart is drawn by the server"
    context.close()
