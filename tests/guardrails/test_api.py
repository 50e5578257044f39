"""Guardrails over REST: budgets as they stand, bad bodies each named, rate limits, raises with who may, the kill switch."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.utils import timezone
from rest_framework.test import APIClient

from billing.domain import keys
from guardrails import actions, queries
from guardrails.domain.periods import FOREVER_MS
from guardrails.limiter import control, store
from guardrails.models import Budget, Raise, RateLimit
from tests.cast import Cast, Person, token_of
from workspaces import actions as workspace_actions
from workspaces import tenancy
from workspaces.audit import SYSTEM
from workspaces.ids import uuid7
from workspaces.models import Membership, Plan, Role, Workspace

pytestmark = pytest.mark.django_db

Api = Callable[..., APIClient]
ACME = "/api/v1/workspaces/acme/"
GLOBEX = "/api/v1/workspaces/globex/"
BUDGET = {"cap": "50", "period": "month"}
LIMIT = {"metric": "rpm", "limit": 60}


@pytest.fixture
def alice_api(api: Api) -> APIClient:
    return api("alice")


def made(client: APIClient, route: str = "budgets/", **body: Any) -> dict[str, Any]:
    answer = client.post(ACME + route, body, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def a_raise(budget: dict[str, Any], **more: Any) -> dict[str, Any]:
    ends = datetime.now(UTC) + timedelta(days=2)
    return {"budget_id": budget["id"], "amount": "10", "reason": "launch day", "expires_at": ends.isoformat()} | more


def client_of(cast: Cast, role: Role) -> APIClient:
    """Somebody of Acme with a role."""
    member = workspace_actions.add_member(workspace=cast.acme, by=SYSTEM, user=cast.mallory.user, role=role)
    found = Membership.objects.select_related("user", "workspace").get(pk=member.pk)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(Person(found.user, cast.acme, found))}")
    return client


def field_of(answer: Any) -> str:
    assert answer["content-type"] == "application/problem+json"
    return str(answer.json()["errors"][0]["field"])


def rows_of(workspace: Workspace, model: type[Model]) -> int:
    with tenancy.entered(workspace):
        return model._default_manager.count()


Spend = Callable[..., None]


@pytest.fixture
def spend(money_redis_url: str) -> Spend:
    """Write (settled, held) of a budget, or of its values, to the money Redis as a rebuild does."""

    def put(workspace: Workspace, budget_id: str, amounts: dict[str, tuple[int, int]]) -> None:
        status = queries.budget(workspace, budget_id, timezone.now())
        assert status is not None
        start_ms = int(status.starts_at.timestamp() * 1000)
        seeds = [
            control.SeedCounter(
                keys.counter_suffix(budget_id, start_ms, keys.value_digest(value) if value else ""),
                settled,
                held,
                FOREVER_MS,
                value,
            )
            for value, (settled, held) in amounts.items()
        ]
        client = store.connect_sync(money_redis_url)
        control.begin_rebuild(client, workspace.pk, 1)
        control.seed(client, workspace.pk, 1, seeds, [])
        control.commit_rebuild(client, workspace.pk, epoch=1, seq=0, ver=1, state="active", counters=len(seeds))
        client.close()

    return put


# --- Budgets ----------------------------------------------------------------------------------------------------------
def test_a_budget_is_made_with_text_and_answered_with_everything_one_can_set(alice_api: APIClient) -> None:
    wanted = {
        "name": "Production", "cap": "1234.567890123", "period": "week", "reset_day": 3, "unit": "usd", "scope": "customer", "value": "initech",
        "strategy": "throttle", "on_tight": "clamp", "alert_percent": 60, "throttle_percent": 80, "kill_percent": None, "throttle_per_minute": 5,
        "notify": [90, 50], "message": "Ask Alice.", "upgrade_url": "https://example.com/up",
    }  # fmt: skip
    shown = made(alice_api, **wanted)
    assert {name: shown[name] for name in wanted} == wanted | {"notify": [50, 90]}
    assert shown["each"] is False
    assert shown["kind"] == "budget"
    assert shown["created_by"] == "alice@example.com"
    assert shown["time_zone"] == "UTC"
    again = alice_api.get(f"{ACME}budgets/{shown['id']}/").json()
    assert {name: again[name] for name in wanted} == wanted | {"notify": [50, 90]}


def test_a_budget_stands_as_the_money_redis_has_it(alice_api: APIClient, acme: Workspace, spend: Spend) -> None:
    budget = made(alice_api, cap="10", period="day")
    spend(acme, budget["id"], {"": (6_000_000_000, 1_500_000_001)})
    shown = alice_api.get(f"{ACME}budgets/{budget['id']}/").json()
    assert (shown["settled"], shown["held"], shown["left"]) == ("6", "1.500000001", "2.499999999")
    assert (shown["over"], shown["percent"], shown["stage"], shown["live"]) == ("0", 75, "alert", True)
    assert datetime.fromisoformat(shown["resets_at"]) - datetime.fromisoformat(shown["starts_at"]) == timedelta(days=1)
    lowered = alice_api.patch(f"{ACME}budgets/{budget['id']}/", {"cap": "5"}, format="json").json()
    assert (lowered["cap"], lowered["left"], lowered["over"], lowered["stage"]) == ("5", "0", "2.500000001", "kill")


def test_the_list_starts_with_the_plans_quota_and_is_walked_without_a_gap(alice_api: APIClient) -> None:
    for number in range(5):
        made(alice_api, **BUDGET, name=f"budget {number}", scope="customer", value=f"c{number}")
    names, address, pages = [], ACME + "budgets/?limit=2", 0
    while address:
        page = alice_api.get(address).json()
        names += [(row["kind"], row["name"]) for row in page["results"]]
        address, pages = page["next"], pages + 1
    assert names == [("plan_quota", "Free plan")] + [("budget", f"budget {number}") for number in reversed(range(5))]
    assert pages == 3
    one_a_page = alice_api.get(alice_api.get(ACME + "budgets/?limit=1").json()["next"]).json()
    assert one_a_page["results"][0]["name"] == "budget 4"


def test_the_plans_quota_can_be_read_and_not_changed(alice_api: APIClient) -> None:
    quota = alice_api.get(ACME + "budgets/").json()["results"][0]
    assert (quota["unit"], quota["cap"], quota["left"]) == ("calls", "10000", "10000")
    address = f"{ACME}budgets/{quota['id']}/"
    assert alice_api.get(address).json()["kind"] == "plan_quota"
    assert alice_api.patch(address, {"cap": "9"}, format="json").status_code == 404
    assert alice_api.delete(address).status_code == 404


def test_many_budgets_cost_few_queries(alice_api: APIClient, django_assert_max_num_queries: Any) -> None:
    for number in range(20):
        made(alice_api, **BUDGET, scope="customer", value=f"c{number}")
    with django_assert_max_num_queries(12):
        assert len(alice_api.get(ACME + "budgets/").json()["results"]) == 21


@pytest.mark.parametrize(
    "cap",
    [50.5, 1e9, -5, 0, True, None, [50], {"usd": 50}, "", " ", "0", "0.00", "-5", "+5", "NaN", "Infinity", "1e3", "٥٠", "５０", "1,000",
     "1 000", "$50", "0x10", "50.", ".5", "0.0000000001", "9000000.000000001", "9000001", "9" * 400, "fifty", "5\x00"],
    ids=ascii,
)  # fmt: skip
def test_a_cap_that_is_no_plain_amount_is_refused_by_name_and_nothing_is_made(
    alice_api: APIClient, acme: Workspace, cap: Any
) -> None:
    answer = alice_api.post(ACME + "budgets/", {"cap": cap, "period": "month"}, format="json")
    assert answer.status_code == 400, answer.content
    assert field_of(answer) == "cap"
    assert rows_of(acme, Budget) == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_a_400(alice_api: APIClient, number: str) -> None:
    body = f'{{"cap": {number}, "period": "month"}}'.encode()
    answer = alice_api.post(ACME + "budgets/", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"


@pytest.mark.parametrize("cap", ["0.000000001", "9000000", 9_000_000, " 50 "], ids=ascii)
def test_the_least_and_the_most_there_can_be_are_taken_exactly(alice_api: APIClient, cap: Any) -> None:
    assert made(alice_api, cap=cap, period="total")["cap"] == str(cap).strip()


@pytest.mark.parametrize("unit", ["tokens", "calls"])
def test_tokens_and_calls_are_whole_numbers(alice_api: APIClient, unit: str) -> None:
    assert made(alice_api, cap="1000000", period="day", unit=unit)["cap"] == "1000000"
    answer = alice_api.post(ACME + "budgets/", {"cap": "1.5", "period": "hour", "unit": unit}, format="json")
    assert field_of(answer) == "cap"


@pytest.mark.parametrize(
    "change, field",
    [
        ({"period": "fortnight"}, "period"), ({"period": ["day"]}, "period"), ({"unit": "eur"}, "unit"), ({"strategy": "explode"}, "strategy"),
        ({"on_tight": "maybe"}, "on_tight"), ({"alert_percent": 101}, "alert_percent"), ({"alert_percent": 0}, "alert_percent"),
        ({"alert_percent": -1}, "alert_percent"), ({"kill_percent": 99.5}, "kill_percent"), ({"kill_percent": "٩٠"}, "kill_percent"),
        ({"alert_percent": 95, "throttle_percent": 90}, "alert_percent"), ({"throttle_percent": 90, "kill_percent": 80}, "throttle_percent"),
        ({"alert_percent": 90, "kill_percent": 80}, "alert_percent"), ({"notify": "50"}, "notify"), ({"notify": [50, 101]}, "notify"),
        ({"notify": list(range(1, 12))}, "notify"), ({"notify": [None]}, "notify"), ({"reset_day": 32}, "reset_day"), ({"reset_day": 0}, "reset_day"),
        ({"period": "day", "reset_day": 2}, "reset_day"), ({"period": "total", "throttle_percent": 90}, "throttle_per_minute"),
        ({"upgrade_url": "javascript:alert(1)"}, "upgrade_url"), ({"upgrade_url": "https://user@example.com"}, "upgrade_url"),
        ({"message": "a\r\nb"}, "message"), ({"message": "x" * 301}, "message"), ({"name": "x" * 121}, "name"),
        ({"scope": "planet", "value": "x"}, "scope"), ({"scope": "customer"}, "value"), ({"scope": "customer", "value": ""}, "value"),
        ({"scope": "customer", "value": "x" * 129}, "value"), ({"scope": "workspace", "value": "x"}, "value"),
        ({"scope": "tag:", "value": "x"}, "scope"), ({"scope": "virtual_key", "value": "00000000-0000-7000-8000-000000000000"}, "value"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"), ({"kind": "member_cap"}, "kind"), ({"spent": "0"}, "spent"),
        ({"workspace": "globex"}, "workspace"), ({"created_by": "bob"}, "created_by"), ({"settled": "0"}, "settled"),
    ],
)  # fmt: skip
def test_a_bad_budget_is_refused_by_the_fields_name(
    alice_api: APIClient, acme: Workspace, change: dict[str, Any], field: str
) -> None:
    answer = alice_api.post(ACME + "budgets/", BUDGET | change, format="json")
    assert answer.status_code == 400, answer.content
    assert field_of(answer).split(".")[0] == field
    assert len(answer.json()["errors"][0]["message"]) > 15
    assert rows_of(acme, Budget) == 0


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"{", b"", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_object_is_a_400(alice_api: APIClient, body: bytes) -> None:
    answer = alice_api.post(ACME + "budgets/", body, content_type="application/json")
    assert answer.status_code == 400


def test_two_identical_budgets_are_a_409_that_names_the_field(alice_api: APIClient, acme: Workspace) -> None:
    for scope in ({}, {"scope": "customer", "value": "initech"}, {"scope": "user", "value": None}):
        made(alice_api, **BUDGET, **scope)
        again = alice_api.post(ACME + "budgets/", BUDGET | {"cap": "70"} | scope, format="json")
        assert again.status_code == 409
        assert again.json()["code"] == "taken"
        assert field_of(again) == "value"
    assert rows_of(acme, Budget) == 3
    made(alice_api, cap="1", period="hour", scope="user", value=None)


def test_an_unknown_time_zone_of_the_workspace_is_a_400(alice_api: APIClient) -> None:
    for zone in ("Mars/Olympus", "../etc/passwd", "Europe/berlin ", ""):
        answer = alice_api.patch(ACME, {"time_zone": zone}, format="json")
        assert answer.status_code == 400
        assert field_of(answer) == "time_zone"


def test_a_patch_changes_what_it_names_and_what_makes_a_budget_stays(alice_api: APIClient) -> None:
    budget = made(alice_api, **BUDGET, message="Ask Alice.")
    address = f"{ACME}budgets/{budget['id']}/"
    changed = alice_api.patch(address, {"cap": "70", "alert_percent": None, "on_tight": "clamp"}, format="json").json()
    assert (changed["cap"], changed["alert_percent"], changed["on_tight"]) == ("70", None, "clamp")
    assert changed["message"] == "Ask Alice."
    for fixed in ({"period": "day"}, {"scope": "user"}, {"value": "x"}, {"unit": "calls"}):
        answer = alice_api.patch(address, {"cap": "1", **fixed}, format="json")
        assert answer.status_code == 400
        assert "another budget" in answer.json()["errors"][0]["message"]
    for bad in (
        {"cap": "0"},
        {"alert_percent": 95, "kill_percent": 90},
        {"name": ""},
        {"is_staff": True},
        {"cap": None},
    ):
        assert alice_api.patch(address, bad, format="json").status_code == 400
    assert alice_api.get(address).json()["cap"] == "70"
    log = alice_api.get(ACME + "audit/").json()["results"]
    changes = [record["after"] for record in log if record["action"] == "budget.change"]
    assert changes == [{"cap": 70_000_000_000, "alert_percent": None, "on_tight": "clamp"}]


def test_a_deleted_budget_is_gone(alice_api: APIClient) -> None:
    address = f"{ACME}budgets/{made(alice_api, **BUDGET)['id']}/"
    assert alice_api.delete(address).status_code == 204
    assert alice_api.get(address).status_code == 404
    assert alice_api.delete(address).status_code == 404


def test_the_presets_are_set_again_and_again(alice_api: APIClient, acme: Workspace) -> None:
    for name, kind, period in (
        ("daily-hard-stop", "daily_hard_stop", "day"),
        ("monthly-control", "monthly_control", "month"),
    ):
        first = alice_api.put(f"{ACME}budgets/{name}/", {"cap": "25"}, format="json").json()
        second = alice_api.put(f"{ACME}budgets/{name}/", {"cap": "30"}, format="json").json()
        assert first["id"] == second["id"]
        assert (second["kind"], second["period"], second["cap"]) == (kind, period, "30")
    assert alice_api.put(f"{ACME}budgets/daily-hard-stop/", {"cap": "0"}, format="json").status_code == 400
    refused = alice_api.put(f"{ACME}budgets/member-caps/", {"cap": "5"}, format="json")
    assert refused.status_code == 403
    assert "Team" in refused.json()["detail"]
    Workspace.objects.filter(pk=acme.pk).update(plan=Plan.TEAM)
    caps = alice_api.put(f"{ACME}budgets/member-caps/", {"cap": "5"}, format="json").json()
    assert (caps["scope"], caps["each"], caps["value"]) == ("member", True, None)


# --- The values of an each-value budget -------------------------------------------------------------------------------
def test_the_values_of_an_each_value_budget_are_walked_page_by_page(
    alice_api: APIClient, acme: Workspace, spend: Spend
) -> None:
    budget = made(alice_api, cap="1", period="day", scope="user", value=None)
    assert (budget["settled"], budget["left"], budget["stage"]) == (None, None, None)
    amounts = {f"user {number}": (number * 100_000_000, 1) for number in range(9)}
    spend(acme, budget["id"], amounts)
    seen, address = {}, f"{ACME}budgets/{budget['id']}/standing/?limit=4"
    while address:
        page = alice_api.get(address).json()
        assert page["live"] is True
        assert len(page["results"]) <= 4
        seen |= {row["value"]: row["settled"] for row in page["results"]}
        address = page["next"]
    assert len(seen) == 9
    assert seen["user 7"] == "0.7"
    one = alice_api.get(f"{ACME}budgets/{budget['id']}/standing/?value=user%208").json()["results"]
    assert [(row["value"], row["left"], row["stage"]) for row in one] == [("user 8", "0.199999999", "alert")]
    never = alice_api.get(f"{ACME}budgets/{budget['id']}/standing/?value=nobody").json()["results"]
    assert [(row["value"], row["settled"], row["left"]) for row in never] == [("nobody", "0", "1")]


def test_a_nonsensical_page_of_values_is_a_400(alice_api: APIClient) -> None:
    budget = made(alice_api, cap="1", period="day", scope="user", value=None)
    for query in (
        "cursor=x",
        "cursor=*",
        "cursor=" + "g" * 32,
        "limit=0",
        "value=",
        "value=" + "x" * 129,
        "value=a%00b",
    ):
        assert alice_api.get(f"{ACME}budgets/{budget['id']}/standing/?{query}").status_code == 400, query


def test_without_the_budget_store_the_ledgers_numbers_are_shown_and_said_so(
    alice_api: APIClient, acme: Workspace, settings: Any
) -> None:
    budget = made(alice_api, cap="1", period="day", scope="user", value=None)
    whole = made(alice_api, cap="1", period="day")
    settings.MONEY_REDIS_URL = "redis://127.0.0.1:1/0"
    page = alice_api.get(f"{ACME}budgets/{budget['id']}/standing/").json()
    assert page == {"results": [], "next": None, "live": False}
    shown = alice_api.get(f"{ACME}budgets/{whole['id']}/").json()
    assert (shown["live"], shown["settled"]) == (False, "0")


# --- Rate limits ------------------------------------------------------------------------------------------------------
def test_a_rate_limit_is_made_listed_changed_and_deleted(alice_api: APIClient) -> None:
    limit = made(alice_api, "rate-limits/", **LIMIT, burst=5, scope="virtual_key", value=None, name="loops")
    assert (limit["metric"], limit["limit"], limit["burst"], limit["scope"], limit["each"]) == (
        "rpm",
        60,
        5,
        "virtual_key",
        True,
    )
    address = f"{ACME}rate-limits/{limit['id']}/"
    assert alice_api.patch(address, {"limit": "7"}, format="json").json()["limit"] == 7
    assert [row["limit"] for row in alice_api.get(ACME + "rate-limits/").json()["results"]] == [7]
    assert alice_api.delete(address).status_code == 204
    assert alice_api.get(address).status_code == 404


@pytest.mark.parametrize(
    "change, field",
    [({"metric": "rps"}, "metric"), ({"limit": 0}, "limit"), ({"limit": -1}, "limit"), ({"limit": 1.5}, "limit"), ({"limit": "٦٠"}, "limit"),
     ({"limit": True}, "limit"), ({"limit": 10**12}, "limit"), ({"burst": -1}, "burst"), ({"metric": "concurrency", "burst": 3}, "burst"),
     ({"scope": "customer"}, "value"), ({"scope": "galaxy", "value": None}, "scope"), ({"limit": None}, "limit"), ({"hard": True}, "hard")],
)  # fmt: skip
def test_a_bad_rate_limit_is_refused_by_the_fields_name(
    alice_api: APIClient, acme: Workspace, change: dict[str, Any], field: str
) -> None:
    answer = alice_api.post(ACME + "rate-limits/", LIMIT | change, format="json")
    assert answer.status_code == 400, answer.content
    assert field_of(answer) == field
    assert rows_of(acme, RateLimit) == 0


def test_two_identical_rate_limits_are_a_409(alice_api: APIClient) -> None:
    made(alice_api, "rate-limits/", **LIMIT)
    assert alice_api.post(ACME + "rate-limits/", LIMIT, format="json").status_code == 409
    made(alice_api, "rate-limits/", metric="rph", limit=60)


# --- Raises -----------------------------------------------------------------------------------------------------------
def test_a_member_asks_an_owner_approves_and_the_cap_is_higher_at_once(
    cast: Cast, alice_api: APIClient, spend: Spend
) -> None:
    member, budget = client_of(cast, Role.MEMBER), made(alice_api, cap="10", period="day")
    spend(cast.acme, budget["id"], {"": (10_000_000_000, 0)})
    asked = made(member, "raises/", **a_raise(budget))
    assert (asked["state"], asked["in_force"], asked["amount"]) == ("requested", False, "10")
    assert asked["requested_by"] == "mallory@example.com"
    assert alice_api.get(f"{ACME}budgets/{budget['id']}/").json()["stage"] == "kill"
    for act in ("approve", "decline"):
        assert member.post(f"{ACME}raises/{asked['id']}/{act}/").status_code == 403
    version = Workspace.objects.get(pk=cast.acme.pk).policy_version
    approved = alice_api.post(f"{ACME}raises/{asked['id']}/approve/").json()
    assert (approved["state"], approved["in_force"], approved["decided_by"]) == ("approved", True, "alice@example.com")
    assert Workspace.objects.get(pk=cast.acme.pk).policy_version > version
    shown = alice_api.get(f"{ACME}budgets/{budget['id']}/").json()
    assert (shown["cap"], shown["limit"], shown["left"], shown["stage"]) == ("10", "20", "10", "normal")
    assert alice_api.post(f"{ACME}raises/{asked['id']}/decline/").status_code == 409
    alice_api.post(f"{ACME}raises/{asked['id']}/withdraw/")
    assert alice_api.get(f"{ACME}budgets/{budget['id']}/").json()["limit"] == "10"


def test_a_declined_raise_changes_nothing_and_a_request_can_be_taken_back(cast: Cast, alice_api: APIClient) -> None:
    member, budget = client_of(cast, Role.MEMBER), made(alice_api, **BUDGET)
    declined = made(member, "raises/", **a_raise(budget))
    assert alice_api.post(f"{ACME}raises/{declined['id']}/decline/").json()["state"] == "declined"
    mine, others = made(member, "raises/", **a_raise(budget)), made(alice_api, "raises/", **a_raise(budget))
    assert member.post(f"{ACME}raises/{mine['id']}/withdraw/").json()["state"] == "withdrawn"
    assert member.post(f"{ACME}raises/{others['id']}/withdraw/").status_code == 404
    assert alice_api.get(f"{ACME}budgets/{budget['id']}/").json()["limit"] == "50"

    def ids(query: str) -> list[str]:
        return [row["id"] for row in member.get(f"{ACME}raises/?{query}").json()["results"]]

    assert ids("") == [others["id"], mine["id"], declined["id"]]
    assert ids("state=requested") == [others["id"]]
    assert ids(f"budget_id={budget['id']}&state=declined") == [declined["id"]]
    assert ids(f"budget_id={uuid7()}") == []
    for query in ("state=granted", "budget_id=x"):
        assert member.get(f"{ACME}raises/?{query}").status_code == 400
    assert member.get(f"{ACME}raises/{mine['id']}/").json()["state"] == "withdrawn"


@pytest.mark.parametrize(
    "role, asks, decides",
    [(Role.ADMIN, 201, 200), (Role.BILLING, 201, 200), (Role.MEMBER, 201, 403), (Role.VIEWER, 403, 403)],
)
def test_who_may_ask_and_who_may_decide(cast: Cast, alice_api: APIClient, role: Role, asks: int, decides: int) -> None:
    somebody, budget = client_of(cast, role), made(alice_api, **BUDGET)
    assert somebody.post(ACME + "raises/", a_raise(budget), format="json").status_code == asks
    other = made(alice_api, "raises/", **a_raise(budget))
    assert somebody.post(f"{ACME}raises/{other['id']}/approve/").status_code == decides


@pytest.mark.parametrize(
    "change, field",
    [({"amount": 0.5}, "amount"), ({"amount": "0"}, "amount"), ({"amount": "-1"}, "amount"), ({"amount": "1e3"}, "amount"),
     ({"amount": "٥"}, "amount"),
     ({"amount": "8999999"}, "amount"), ({"reason": ""}, "reason"), ({"reason": "x" * 301}, "reason"), ({"reason": "a\nb"}, "reason"),
     ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"), ({"expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
     ({"expires_at": "tomorrow"}, "expires_at"), ({"expires_at": None}, "expires_at"), ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
     ({"state": "approved"}, "state"), ({"budget_id": "x"}, "budget_id"), ({"approved_by": "bob"}, "approved_by")],
)  # fmt: skip
def test_a_bad_raise_is_refused_by_the_fields_name(
    alice_api: APIClient, acme: Workspace, change: dict[str, Any], field: str
) -> None:
    answer = alice_api.post(ACME + "raises/", a_raise(made(alice_api, **BUDGET)) | change, format="json")
    assert answer.status_code == 400, answer.content
    assert field_of(answer) == field
    assert rows_of(acme, Raise) == 0


# --- The kill switch and barred models --------------------------------------------------------------------------------
def test_the_kill_switch_is_the_owners_and_a_suspended_workspace_can_be_resumed(
    cast: Cast, alice_api: APIClient
) -> None:
    admin = client_of(cast, Role.ADMIN)
    assert admin.post(ACME + "suspend/", {}, format="json").status_code == 403
    assert alice_api.post(ACME + "suspend/", {"why": "x"}, format="json").status_code == 400
    assert alice_api.post(ACME + "suspend/", {"reason": "runaway agent"}, format="json").json()["state"] == "suspended"
    assert alice_api.post(ACME + "suspend/", {}, format="json").status_code == 409
    made(alice_api, **BUDGET)
    assert alice_api.post(ACME + "resume/").json()["state"] == "active"
    log = alice_api.get(ACME + "audit/").json()["results"]
    told = [record["after"] for record in log if record["action"].startswith("workspace.suspend")]
    assert told == [{"state": "suspended", "reason": "runaway agent"}]


def test_a_barred_model_is_listed_and_lifted(alice_api: APIClient, acme: Workspace) -> None:
    actions.bar_model(
        workspace=acme, provider="openai", model="gpt-x", rid=uuid7(), held_nano=1_000_000, cost_nano=2_500_000
    )
    (row,) = alice_api.get(ACME + "barred-models/").json()["results"]
    assert (row["provider"], row["model"], row["held_usd"], row["cost_usd"]) == ("openai", "gpt-x", "0.001", "0.0025")
    assert alice_api.post(f"{ACME}barred-models/{row['id']}/lift/").status_code == 204
    assert alice_api.get(ACME + "barred-models/").json()["results"] == []
    assert alice_api.post(f"{ACME}barred-models/{row['id']}/lift/").status_code == 404


# --- Isolation and scopes ---------------------------------------------------------------------------------------------
def test_acmes_budgets_limits_and_raises_do_not_exist_in_globex(api: Api, alice_api: APIClient, cast: Cast) -> None:
    budget, limit = made(alice_api, **BUDGET), made(alice_api, "rate-limits/", **LIMIT)
    raised, bob = made(alice_api, "raises/", **a_raise(budget)), api("bob")
    unknown = str(uuid7())
    for kind, own in (("budgets", budget), ("rate-limits", limit), ("raises", raised)):
        theirs, nothing = (bob.get(f"{GLOBEX}{kind}/{identity}/") for identity in (own["id"], unknown))
        assert theirs.status_code == nothing.status_code == 404
        assert theirs.content == nothing.content
    assert bob.patch(f"{GLOBEX}budgets/{budget['id']}/", {"cap": "1"}, format="json").status_code == 404
    assert bob.delete(f"{GLOBEX}budgets/{budget['id']}/").status_code == 404
    assert bob.get(f"{GLOBEX}budgets/{budget['id']}/standing/").status_code == 404
    assert bob.patch(f"{GLOBEX}rate-limits/{limit['id']}/", {"limit": 1}, format="json").status_code == 404
    assert bob.delete(f"{GLOBEX}rate-limits/{limit['id']}/").status_code == 404
    assert bob.post(GLOBEX + "raises/", a_raise(budget), format="json").status_code == 404
    for act in ("approve", "decline", "withdraw"):
        assert bob.post(f"{GLOBEX}raises/{raised['id']}/{act}/").status_code == 404
    assert [row["kind"] for row in bob.get(GLOBEX + "budgets/?workspace=acme").json()["results"]] == ["plan_quota"]
    assert bob.get(f"{GLOBEX}raises/?budget_id={budget['id']}").json()["results"] == []
    assert bob.get(GLOBEX + "rate-limits/").json()["results"] == []
    with tenancy.entered(cast.acme):
        assert (
            Budget.objects.count() == RateLimit.objects.count() == Raise.objects.filter(state="requested").count() == 1
        )


def test_a_token_that_reads_changes_nothing(api: Api, alice_api: APIClient) -> None:
    budget, reader = made(alice_api, **BUDGET), api("alice", "read")
    assert reader.get(f"{ACME}budgets/{budget['id']}/").status_code == 200
    for method, route, body in (
        ("post", "budgets/", BUDGET), ("patch", f"budgets/{budget['id']}/", {"cap": "1"}), ("delete", f"budgets/{budget['id']}/", {}),
        ("put", "budgets/daily-hard-stop/", {"cap": "1"}), ("post", "rate-limits/", LIMIT), ("post", "raises/", a_raise(budget)),
        ("post", "suspend/", {}),
    ):  # fmt: skip
        assert getattr(reader, method)(ACME + route, body, format="json").status_code == 403, route


def test_the_api_describes_budgets_and_raises(alice_api: APIClient) -> None:
    schema = json.loads(alice_api.get("/api/v1/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json").content)
    shown = schema["components"]["schemas"]
    assert shown["BudgetWanted"]["required"] == ["cap", "period"]
    assert shown["BudgetWanted"]["properties"]["cap"]["anyOf"] == [{"type": "string"}, {"type": "integer"}]
    for path in ("budgets/{budget_id}/standing/", "rate-limits/", "raises/{raise_id}/approve/", "suspend/"):
        assert "/api/v1/workspaces/{slug}/" + path in schema["paths"]
