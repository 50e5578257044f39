"""What the pages say of money: the overview and its live fragment, the call log, budgets. Numbers come through the real ledger writer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.domain.events import Basis, CallContext, Outcome, PriceStatus, encode
from billing.domain.keys import partition_of, stream_key
from billing.domain.money import NANO_PER_USD as USD
from billing.ledger import writer
from billing.ledger.stream import MoneyStream
from billing.views import overview
from guardrails import actions as guardrail_actions
from tests.cast import Cast, signed_in
from tests.counted import reads, statements
from workspaces import actions
from workspaces.ids import uuid7
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db

Book = Callable[..., str]


@pytest.fixture
def book(money_redis_url: str) -> Iterator[Book]:
    """Book one call of a workspace through the stream and the ledger writer. Returns the call's id."""
    client, stream, seq = redis.Redis.from_url(money_redis_url), MoneyStream(money_redis_url), iter(range(1, 10_000))

    def one(
        workspace: Workspace,
        *,
        cost: int = 1_234_500,
        key: str = "",
        model: str = "gpt-4o-mini",
        customer: str = "",
        dims: dict[str, str] | None = None,
        at_ms: int | None = None,
        **outcome: Any,
    ) -> str:
        call, rid = str(uuid7(at_ms)), str(uuid7(at_ms))
        dims = {**({"customer": customer} if customer else {}), **(dims or {})}
        context = CallContext(
            call=call,
            key=key or str(uuid4()),
            provider="openai",
            model=model,
            endpoint="/v1/chat/completions",
            dims=dims,
        )
        told = {
            "basis": Basis.MEASURED,
            "price_status": PriceStatus.EXACT,
            "http_status": 200,
            "buckets": {"input_uncached": 1000, "output_text": 234},
            "breakdown": [
                {"unit": "input_uncached", "quantity": 1000, "rate_per_m_usd": "0.15", "cost_usd": "0.00015"}
            ],
            "duration_ms": 812,
            "first_byte_ms": 90,
            "overhead_us": 640,
        } | outcome
        at_ms = int(uuid7().hex[:12], 16)
        common = {"w": workspace.pk, "r": rid, "t": at_ms, "h": 2 * cost, "b": json.dumps([]), "x": encode(context)}
        client.xadd(stream_key(partition_of(workspace.pk)), {**common, "k": "hold", "q": next(seq), "c": 0})
        client.xadd(
            stream_key(partition_of(workspace.pk)),
            {**common, "k": "settle", "q": next(seq), "c": cost, "p": encode(Outcome(**told))},
        )
        writer.drain(stream, partition_of(workspace.pk))
        return call

    yield one
    stream.close()
    client.close()


def figure(page: str, name: str) -> str:
    found = re.search(rf'data-figure="{name}">([^<]*)<', page)
    assert found, f"no figure {name}"
    return found.group(1)


def live_address(page: str) -> str:
    found = re.search(r'id="pulse" hx-get="([^"]+)"', page)
    assert found
    return found.group(1)


def test_a_new_workspace_shows_four_steps_that_tick_themselves_off(cast: Cast, alice_client: Client) -> None:
    def done() -> list[str]:
        page = alice_client.get("/w/acme/").content.decode()
        return re.findall(r'class="task is-done" data-step="(\w+)"', page)

    assert done() == []
    actions.add_credential(
        workspace=cast.acme, by=cast.alice.actor, provider="openai", secret="sk-" + "x" * 40, verify=False
    )
    assert done() == ["provider"]
    actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="Shop")
    assert done() == ["provider", "key"]


def test_a_viewer_is_told_whom_to_ask_instead_of_a_button_that_refuses(ann_client: Client) -> None:
    page = ann_client.get("/w/acme/").content.decode()
    assert "Ask an owner or admin" in page
    assert "/vault/new/" not in page


def test_the_first_call_ends_the_onboarding_in_the_live_fragment(cast: Cast, alice_client: Client, book: Book) -> None:
    live = live_address(alice_client.get("/w/acme/").content.decode())
    assert alice_client.get(live).status_code == 204, "nothing happened: nothing is sent"
    key = actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="Shop").row
    ticked = alice_client.get(live)
    assert ticked.status_code == 200, "a step was done in another window"
    live = live_address(ticked.content.decode())

    book(cast.acme, key=str(key.id))
    answer = alice_client.get(live)
    page = answer.content.decode()
    assert "That is your first call" in page
    assert "data-step" not in page
    assert figure(page, "month-calls") == "1"
    assert figure(page, "today-usd") == "$0.0012"
    assert figure(page, "month-tokens") == "1,234"
    assert re.search(r'id="spend-table".*gpt-4o-mini.*1,234', page, re.DOTALL)
    assert re.search(r'id="live-calls".*Shop', page, re.DOTALL)
    assert "<html" not in page, "a fragment"

    live = live_address(page)
    assert alice_client.get(live).status_code == 204
    book(cast.acme, key=str(key.id))
    again = alice_client.get(live).content.decode()
    assert figure(again, "month-calls") == "2"
    assert "That is your first call" not in again


def test_a_quiet_live_request_is_light(cast: Cast, alice_client: Client, book: Book) -> None:
    book(cast.acme)
    live = live_address(alice_client.get("/w/acme/").content.decode())
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert alice_client.get(live).status_code == 204
    assert len(reads(asked)) <= 6, reads(asked)


def test_the_overview_makes_few_queries_however_much_there_is_to_show(
    cast: Cast, alice_client: Client, book: Book
) -> None:
    for number in range(12):
        book(cast.acme, model=f"model-{number}", customer=f"customer-{number}", cost=1_000_000 * (number + 1))
    alice_client.get("/w/acme/")  # the session then knows where she was last
    with CaptureQueriesContext(connection) as asked:
        page = alice_client.get("/w/acme/").content.decode()
    most = 15  # 14, and one more early in a month, when the charted days hold that month whole
    assert len(reads(asked)) <= most, "\n".join(read[:160] for read in reads(asked))
    assert "Everything else" in page
    with CaptureQueriesContext(connection) as asked:
        assert alice_client.get("/w/acme/guardrails/").status_code == 200
    assert len(statements(asked)) <= 15, "\n".join(one[:160] for one in statements(asked))


@pytest.mark.parametrize(("day", "before"), [(1, "$1.00 last month by then"), (2, "$3.00 last month by then")])
def test_a_month_is_compared_with_the_last_one_until_the_same_hour_of_its_day(
    cast: Cast, alice_client: Client, book: Book, monkeypatch: pytest.MonkeyPatch, day: int, before: str
) -> None:
    this = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).replace(day=day, hour=9, minute=30)
    last = (this.replace(day=1) - timedelta(days=1)).replace(day=1)
    for at in (this.replace(day=1, hour=8), last.replace(hour=8), last.replace(hour=20), last.replace(day=2, hour=20)):
        book(cast.acme, cost=2 * USD if at.hour == 20 else USD, at_ms=int(at.timestamp() * 1000))
    monkeypatch.setattr(overview, "timezone", SimpleNamespace(now=lambda: this))
    page = alice_client.get("/w/acme/").content.decode()
    assert figure(page, "month-usd") == "$1.00"
    assert before in page, "the first of a month began with a change of -90%: an hour beside a whole day"


def test_the_chart_has_a_table_twin_with_every_day_and_exact_values(
    cast: Cast, alice_client: Client, book: Book
) -> None:
    book(cast.acme, cost=1_234_500)
    page = alice_client.get("/w/acme/").content.decode()
    twin = re.search(r'id="twin-spend".*?</table>', page, re.DOTALL)
    assert twin
    assert twin.group(0).count('<th scope="row"') == 30
    assert ">$0.0012<" in twin.group(0)


def test_another_tenant_s_money_shows_nowhere(cast: Cast, alice_client: Client, book: Book) -> None:
    call = book(cast.globex, customer="globex-only", model="globex-model")
    book(cast.acme)
    for path in ("", "calls/"):
        page = alice_client.get(f"/w/acme/{path}").content.decode()
        assert "globex" not in page.lower()
    assert alice_client.get(f"/w/acme/calls/{call}/").status_code == 404
    assert signed_in(cast.bob).get(f"/w/globex/calls/{call}/").status_code == 200


def test_one_call_s_page_says_how_its_cost_came_about_and_how_sure_it_is(
    cast: Cast, alice_client: Client, book: Book
) -> None:
    call = book(cast.acme, customer="initech")
    page = alice_client.get(f"/w/acme/calls/{call}/").content.decode()
    assert "Input tokens" in page
    assert "$0.15 per million" in page
    assert "$0.0012345" in page, "charged, to the last digit"
    assert "initech" in page
    assert "measured" in page
    counted = book(cast.acme, basis=Basis.COUNTED)
    assert "we counted it" in alice_client.get(f"/w/acme/calls/{counted}/").content.decode()


def test_calls_are_filtered_and_a_bad_filter_or_page_is_said(cast: Cast, alice_client: Client, book: Book) -> None:
    book(cast.acme, model="alpha", customer="initech")
    book(cast.acme, model="beta", http_status=500, error="provider_error")

    def models(query: str) -> set[str]:
        page = alice_client.get(f"/w/acme/calls/?{query}").content.decode()
        return set(re.findall(r'class="row-link inert"[^>]*>(\w+)<', page))

    assert models("") == {"alpha", "beta"}
    assert models("model=alpha") == {"alpha"}
    assert models("customer=initech") == {"alpha"}
    assert models("state=failed") == {"beta"}
    assert models("state=ok") == {"alpha"}
    assert models("model=nothing") == set()
    assert "no status “nonsense”" in alice_client.get("/w/acme/calls/?state=nonsense").content.decode()
    assert models("key=nonsense") == set()
    assert alice_client.get("/w/acme/calls/?after=nonsense").status_code == 404


def test_the_log_is_read_page_by_page_without_a_gap(cast: Cast, alice_client: Client, book: Book) -> None:
    written = {book(cast.acme, cost=1) for _ in range(60)}
    first = alice_client.get("/w/acme/calls/").content.decode()
    older = re.search(r'href="([^"]*after=[^"]+)"', first)
    assert older
    second = alice_client.get(older.group(1).replace("&amp;", "&")).content.decode()
    shown = [re.findall(r'data-href="/w/acme/calls/([^/]+)/"', page) for page in (first, second)]
    assert [len(page) for page in shown] == [50, 10]
    assert {*shown[0], *shown[1]} == written
    assert "after=" not in second


# --- Guardrails -------------------------------------------------------------------------------------------------------
def test_the_presets_are_switched_on_and_changed(cast: Cast, alice_client: Client) -> None:
    alice_client.post("/w/acme/guardrails/controls/daily_hard_stop/", {"cap": "25"})
    page = alice_client.get("/w/acme/guardrails/").content.decode()
    assert "$25.00 a day on the whole workspace" in page
    alice_client.post("/w/acme/guardrails/controls/daily_hard_stop/", {"cap": "$30"})
    page = alice_client.get("/w/acme/guardrails/").content.decode()
    assert "$30.00 a day" in page
    assert "$25.00" not in page
    assert alice_client.post("/w/acme/guardrails/controls/plan_quota/", {"cap": "1"}).status_code == 404


@pytest.mark.parametrize("cap", ["0", "-5", "1e9", "ten", "10,5", "NaN", "99999999999"])
def test_an_amount_that_is_no_amount_is_refused_beside_the_field_and_kept(cap: str, alice_client: Client) -> None:
    answer = alice_client.post("/w/acme/guardrails/controls/daily_hard_stop/", {"cap": cap})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert 'id="daily_hard_stop-error"' in page
    assert f'value="{cap}"' in page


def test_a_budget_for_each_customer_is_made_changed_and_deleted(cast: Cast, alice_client: Client) -> None:
    given = {
        "cap": "50",
        "unit": "usd",
        "period": "month",
        "scope": "customer",
        "value": "",
        "strategy": "reject",
        "alert_percent": "70",
        "kill_percent": "100",
    }
    answer = alice_client.post("/w/acme/guardrails/budgets/new/", given, follow=True)
    page = answer.content.decode()
    assert "$50.00 a month on each customer" in page
    again = alice_client.post("/w/acme/guardrails/budgets/new/", given)
    assert again.status_code == 422
    assert "already" in again.content.decode()

    edit = re.search(r'href="(/w/acme/guardrails/budgets/[0-9a-f-]{36}/)"', page)
    assert edit
    given = {
        "cap": "20",
        "name": "Customers",
        "strategy": "reject",
        "alert_percent": "90",
        "throttle_percent": "80",
        "kill_percent": "100",
    }
    answer = alice_client.post(edit.group(1), given)
    assert answer.status_code == 422
    assert "must not be above" in answer.content.decode()
    alice_client.post(edit.group(1), given | {"throttle_percent": "95"})
    assert "$20.00 a month on each customer" in alice_client.get("/w/acme/guardrails/").content.decode()


def test_a_limit_on_one_key_is_made_changed_and_deleted(cast: Cast, alice_client: Client) -> None:
    key = actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="Loop").row
    alice_client.post(
        "/w/acme/guardrails/limits/new/", {"limit": "60", "metric": "rpm", "scope": "virtual_key", "key": str(key.id)}
    )
    page = alice_client.get("/w/acme/guardrails/").content.decode()
    assert "Virtual key Loop" in page
    edit = re.search(r'href="(/w/acme/guardrails/limits/[0-9a-f-]{36}/)"', page)
    assert edit
    assert alice_client.post(edit.group(1), {"limit": "0"}).status_code == 422
    alice_client.post(edit.group(1), {"limit": "7"})
    assert ">7<" in alice_client.get("/w/acme/guardrails/").content.decode()
    alice_client.post(f"{edit.group(1)}delete/")
    assert "Virtual key Loop" not in alice_client.get("/w/acme/guardrails/").content.decode()


def test_another_workspace_s_budget_is_not_there(cast: Cast, alice_client: Client) -> None:
    theirs = guardrail_actions.create_budget(workspace=cast.globex, by=cast.bob.actor, cap="5", period="day")
    assert alice_client.get(f"/w/acme/guardrails/budgets/{theirs.pk}/").status_code == 404
    assert signed_in(cast.bob).get(f"/w/globex/guardrails/budgets/{theirs.pk}/").status_code == 200
