"""The Guardrails page: four controls one click away, a form that is tried out before it is sent, and one light request for what moves."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.ledger import partitions
from billing.ledger.rollups import MEASURES
from billing.models import RollupDay, RollupHour
from guardrails.models import Budget, RateLimit
from tests.cast import Cast
from workspaces import actions, tenancy

pytestmark = pytest.mark.django_db
PAGE = "/w/acme/guardrails/"
CENT = 10**7


def control(page: str, kind: str) -> str:
    found = re.search(rf'aria-labelledby="{kind}-head">.*?</section>', page, re.DOTALL)
    assert found, kind
    return found.group(0)


def rows(cast: Cast, model: type[Any]) -> list[Any]:
    with tenancy.entered(cast.acme):
        return list(model.objects.all())


@pytest.mark.parametrize(
    "kind, written, shown",
    [("monthly_control", "500", "$500.00"), ("daily_hard_stop", "$25", "$25.00"), ("spend_alert", "300", "$300.00")],
)
def test_a_control_is_off_until_one_click_and_then_says_how_it_stands(
    cast: Cast, alice_client: Client, kind: str, written: str, shown: str
) -> None:
    before = control(alice_client.get(PAGE).content.decode(), kind)
    assert ">off<" in before
    assert "Switch on" in before
    assert alice_client.post(f"{PAGE}controls/{kind}/", {"cap": written}).status_code == 302
    after = control(alice_client.get(PAGE).content.decode(), kind)
    assert f"of {shown}" in after
    assert "on track" in after
    assert "resets" in after


def test_the_spend_alert_stands_beside_the_budget_control_and_the_rate_limit_is_set_again_and_again(
    cast: Cast, alice_client: Client
) -> None:
    for kind, written in (
        ("monthly_control", "500"),
        ("spend_alert", "300"),
        ("rate_limit", "60"),
        ("rate_limit", "90"),
    ):
        assert alice_client.post(f"{PAGE}controls/{kind}/", {"cap": written}).status_code == 302
    assert {(one.kind, one.strategy) for one in rows(cast, Budget)} == {
        ("monthly_control", "reject"),
        ("spend_alert", "alert_only"),
    }
    assert [(one.by, one.value, one.limit) for one in rows(cast, RateLimit)] == [("virtual_key", None, 90)]
    assert "90 requests per minute" in control(alice_client.get(PAGE).content.decode(), "rate_limit")


@pytest.mark.parametrize(
    "kind, cap", [("rate_limit", "٦٠"), ("rate_limit", "0"), ("spend_alert", "NaN"), ("spend_alert", "9000001")]
)
def test_what_cannot_be_is_refused_beside_its_field_and_kept(
    kind: str, cap: str, cast: Cast, alice_client: Client
) -> None:
    answer = alice_client.post(f"{PAGE}controls/{kind}/", {"cap": cap})
    assert answer.status_code == 422
    card = control(answer.content.decode(), kind)
    assert f'id="{kind}-error"' in card
    assert f'value="{cap}"' in card
    assert rows(cast, Budget) == rows(cast, RateLimit) == []


def spent_yesterday(cast: Cast) -> None:
    """Initech spent $5 at noon of some day this month or the last, and so did nobody else."""
    at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    numbers = dict.fromkeys(MEASURES, 0) | {"cost_nano": 500 * CENT, "calls": 50, "attempts": 50}
    with connection.cursor() as cursor:
        partitions.ensure(cursor, {("billing_rollup_hour", partitions.month_of(at.timestamp()))})
    with tenancy.entered(cast.acme):
        for dimension, value in (("customer", "<b>Initech</b>"), ("", "")):
            common = {"workspace_id": cast.acme.pk, "dimension": dimension, "value": value, **numbers}
            RollupHour.objects.create(**common, hour=at)
            RollupDay.objects.create(**common, day=at.date())


DRAFT = {
    "cap": "2", "unit": "usd", "period": "day", "scope": "customer", "value": "", "strategy": "reject", "alert_percent": "70",
    "kill_percent": "100", "name": "Mine", "message": "Ask Alice.",
}  # fmt: skip


def test_a_draft_is_tried_out_and_the_page_keeps_what_was_typed_and_makes_nothing(
    cast: Cast, alice_client: Client
) -> None:
    spent_yesterday(cast)
    answer = alice_client.post(f"{PAGE}budgets/new/", DRAFT | {"do": "backtest"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "It would have saved $3.00" in page
    assert "about 30 calls refused" in page
    assert "1 of 1 would have been stopped" in page
    assert "&lt;b&gt;Initech&lt;/b&gt;" in page
    assert "<b>Initech" not in page
    assert 'value="Ask Alice."' in page
    assert rows(cast, Budget) == []
    fragment = alice_client.post(f"{PAGE}budgets/try/", DRAFT).content.decode()
    assert "At the pace of the last 7 days" in fragment
    assert "It would have saved" not in fragment
    assert "<html" not in fragment
    followed = alice_client.post(f"{PAGE}budgets/try/", DRAFT | {"past": "1", "strategy": "alert_only"})
    assert "It only tells" in followed.content.decode()


def test_a_change_is_tried_out_before_it_is_saved(cast: Cast, alice_client: Client) -> None:
    spent_yesterday(cast)
    assert alice_client.post(f"{PAGE}budgets/new/", DRAFT).status_code == 302
    [made] = rows(cast, Budget)
    change = {"cap": "4", "strategy": "reject", "alert_percent": "70", "kill_percent": "100"}
    fragment = alice_client.post(f"{PAGE}budgets/{made.pk}/try/", change | {"do": "backtest"}).content.decode()
    assert "It would have saved $1.00" in fragment
    assert rows(cast, Budget)[0].cap == 200 * CENT


@pytest.mark.parametrize(
    "wrong, field",
    [({"cap": "٥٠"}, "cap"), ({"cap": "-5"}, "cap"), ({"cap": "NaN"}, "cap"), ({"cap": "9000000.01"}, "cap"),
     ({"kill_percent": "101"}, "kill_percent"),
     ({"alert_percent": "99", "kill_percent": "90"}, "alert_percent"), ({"notify": "50, 200"}, "notify"), ({"value": "a\u202eb"}, "value")],
    ids=ascii,
)  # fmt: skip
def test_a_budget_that_cannot_be_is_refused_beside_its_field_when_sent_and_quietly_when_tried(
    cast: Cast, alice_client: Client, wrong: dict[str, str], field: str
) -> None:
    answer = alice_client.post(f"{PAGE}budgets/new/", DRAFT | wrong)
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in answer.content.decode()
    tried = alice_client.post(f"{PAGE}budgets/try/", DRAFT | wrong | {"do": "backtest"})
    assert tried.status_code == 200
    assert rows(cast, Budget) == []


def test_what_moves_comes_in_one_light_request(cast: Cast, alice_client: Client) -> None:
    alice_client.post(f"{PAGE}controls/daily_hard_stop/", {"cap": "25"})
    page = alice_client.get(PAGE).content.decode()
    assert page.count("data-live ") == 1
    with CaptureQueriesContext(connection) as asked:
        live = alice_client.get(f"{PAGE}live/").content.decode()
    for part in ('id="budgets"', 'id="raises"', 'id="daily_hard_stop-state" hx-swap-oob="true"'):
        assert part in live
    assert "<form" not in control_forms(live), "nothing that somebody may be typing into is replaced"
    assert len(asked) <= 15


def control_forms(live: str) -> str:
    return live.partition('id="raises"')[2].partition("</section>")[2]


def test_the_kill_switch_lists_the_keys_one_could_stop_to_those_who_may(
    cast: Cast, alice_client: Client, ann_client: Client
) -> None:
    key = actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="Loop").row
    assert f"/w/acme/keys/{key.pk}/revoke/" in alice_client.get(PAGE).content.decode()
    assert "revoke" not in ann_client.get(PAGE).content.decode()
