"""The REST API of the books."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.cast import Cast

pytestmark = pytest.mark.django_db

ACME = "/api/v1/workspaces/acme/"


@pytest.fixture
def spent(events: Any, books: Any, cast: Cast) -> Cast:
    for customer, cost in (("ann", 5_615_000), ("ann", 1), ("ben", 2_000_000_000)):
        events.call(
            cast.acme.id, cost=cost, held=3 * 10**9, dims={"customer": customer, "feature": "chat"}, tags={"team": "x"}
        )
    events.call(cast.globex.id, cost=10**12)
    for workspace in (cast.acme, cast.globex):
        books.drain(workspace.id)
    return cast


def test_usage_says_how_much_by_whom_in_exact_dollars(spent: Cast, api: Callable[..., APIClient]) -> None:
    answer = api("alice").get(ACME + "usage/?group_by=customer").json()
    assert [(row["group"], row["cost_usd"], row["calls"]) for row in answer["results"]] == [
        ({"customer": "ben"}, "2", 1),
        ({"customer": "ann"}, "0.005615001", 2),
    ]
    assert answer["totals"]["cost_nano"] == 2_005_615_001
    assert answer["next"] is None


def test_usage_over_time_and_with_filters_adds_up(spent: Cast, api: Callable[..., APIClient]) -> None:
    client = api("alice")
    for query in (
        "granularity=hour",
        "granularity=day&group_by=customer",
        "granularity=month",
        "group_by=tag:team,feature",
        "",
    ):
        rows = client.get(ACME + "usage/?" + query).json()["results"]
        assert sum(row["cost_nano"] for row in rows) == 2_005_615_001, query
    only = client.get(ACME + "usage/?customer=ann&feature=chat&group_by=model").json()
    assert only["totals"]["cost_nano"] == 5_615_001


def test_calls_are_listed_newest_first_and_paged_by_cursor(spent: Cast, api: Callable[..., APIClient]) -> None:
    client = api("alice")
    first = client.get(ACME + "calls/?limit=2").json()
    assert [row["cost_usd"] for row in first["results"]] == ["2", "0.000000001"]
    rest = client.get(first["next"]).json()
    assert [row["cost_usd"] for row in rest["results"]] == ["0.005615"]
    assert rest["next"] is None
    assert client.get(ACME + "calls/?customer=ben&failed=false").json()["results"][0]["dimensions"]["customer"] == "ben"


def test_a_call_shows_how_each_cent_was_computed(spent: Cast, api: Callable[..., APIClient]) -> None:
    client = api("alice")
    call_id = client.get(ACME + "calls/?limit=1").json()["results"][0]["call_id"]
    (attempt,) = client.get(f"{ACME}calls/{call_id}/").json()["attempts"]
    assert attempt["lines"][0]["breakdown"][0]["unit"] == "input_uncached"
    assert attempt["lines"][0]["raw_usage"].startswith("{")


def test_another_workspaces_calls_are_not_there(spent: Cast, api: Callable[..., APIClient]) -> None:
    call_id = api("alice").get(ACME + "calls/?limit=1").json()["results"][0]["call_id"]
    bob = api("bob")
    assert bob.get(f"{ACME}calls/{call_id}/").status_code == 404
    assert bob.get(f"/api/v1/workspaces/globex/calls/{call_id}/").status_code == 404
    assert bob.get(ACME + "usage/").status_code == 404
    assert [row["cost_usd"] for row in bob.get("/api/v1/workspaces/globex/calls/").json()["results"]] == ["1000"]
    assert api().get(ACME + "usage/").status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        "usage/?group_by=password", "usage/?group_by=model,model", "usage/?group_by=model,user,feature", "usage/?from=yesterday",
        "usage/?from=2026-02-30", "usage/?from=2026-11-30&to=2026-11-01", "usage/?from=1900-01-01", "usage/?granularity=second",
        "usage/?granularity=hour&group_by=session", "usage/?granularity=day&group_by=model,feature", "usage/?limit=0", "usage/?limit=٣",
        "usage/?custmer=ann", "usage/?customer=", "usage/?customer=a&customer=b", "usage/?customer=%00", "usage/?tag:=x",
        "calls/?cursor=1", "calls/?cursor=00000000-0000-4000-8000-000000000000", "calls/?failed=maybe", "calls/?limit=1000000",
        "usage/?granularity=hour&from=2025-01-01&to=2026-01-01",
    ],
)  # fmt: skip
def test_a_malformed_question_is_a_clear_400(query: str, cast: Cast, api: Callable[..., APIClient]) -> None:
    answer = api("alice").get(ACME + query)
    assert answer.status_code == 400, answer.content
    assert answer.json()["detail"]


def test_days_are_those_of_the_workspaces_clock(
    events: Any, books: Any, cast: Cast, api: Callable[..., APIClient]
) -> None:
    cast.acme.time_zone = "Pacific/Kiritimati"  # +14
    cast.acme.save()
    at = datetime(2026, 10, 31, 12, tzinfo=UTC)  # the first of November there
    events.call(cast.acme.id, at_ms=int(at.timestamp() * 1000), cost=5)
    books.drain(cast.acme.id)
    client = api("alice")
    assert client.get(ACME + "usage/?from=2026-11-01&to=2026-11-01").json()["totals"]["cost_nano"] == 5
    assert client.get(ACME + "usage/?from=2026-10-01&to=2026-10-31").json()["totals"]["cost_nano"] == 0
    assert len(client.get(ACME + "calls/?from=2026-11-01&to=2026-11-01").json()["results"]) == 1
