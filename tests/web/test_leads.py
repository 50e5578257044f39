"""The lead of a department sees that department's spend, calls and members, and on no route, page or API, anything of another's."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from tests.cast import Cast, make_user
from tests.web.test_books_and_guardrails import Book, book, figure
from tests.web.test_routes import INSIDE, address
from tests.workspaces.test_rest import filled, methods_of, routes
from workspaces import actions, tenancy
from workspaces.models import Role

__all__ = ["book"]

pytestmark = pytest.mark.django_db

CANARY = "zzcanary"
ACME = "/api/v1/workspaces/acme/"


class Lead:
    """Lena leads Sales, which spent $1 on initech; Research, with a canary in everything of it, spent $5 and nobody's call $7."""

    def __init__(self, cast: Cast, book: Book) -> None:
        acme, by = cast.acme, cast.alice.actor
        lena, rita = make_user("lena"), make_user(f"{CANARY}-rita")
        with tenancy.entered(acme):
            sales = actions.add_department(workspace=acme, by=by, name="Sales")
            research = actions.add_department(workspace=acme, by=by, name=f"{CANARY}-research")
            for user, role, department in ((lena, Role.LEAD, sales), (rita, Role.MEMBER, research)):
                member = actions.add_member(workspace=acme, by=by, user=user, role=role)
                actions.change_member(workspace=acme, by=by, membership_id=member.id, department_id=department.id)
            actions.add_agent(workspace=acme, by=by, name=f"{CANARY}-bot", department_id=research.id)
            key = actions.create_virtual_key(workspace=acme, by=by, name=f"{CANARY}-key").row
        self.own_call = book(acme, customer="initech", cost=10**9, dims={"department": "Sales", "feature": "mail"})
        others = dict.fromkeys(("customer", "feature", "agent", "user", "session", "member"), f"{CANARY}-value")
        self.other_call = book(
            acme, cost=5 * 10**9, key=str(key.id), model=f"{CANARY}-model", dims={**others, "department": research.name}
        )
        book(acme, cost=7 * 10**9, customer=f"{CANARY}-nobodys")
        self.pages = Client()
        self.pages.force_login(lena)
        mine = acme.memberships.get(user=lena)
        token = actions.create_api_token(workspace=acme, by=by, membership=mine, name="mine", scopes=["read"])
        self.api = APIClient()
        self.api.credentials(HTTP_AUTHORIZATION=f"Bearer {token.text}")


@pytest.fixture
def lead(cast: Cast, book: Book) -> Lead:
    return Lead(cast, book)


def test_a_lead_sees_their_departments_figures(lead: Lead) -> None:
    overview = lead.pages.get("/w/acme/").content.decode()
    assert figure(overview, "month-usd") == figure(overview, "today-usd") == "$1.00", "of $13 in all"
    explorer = lead.pages.get("/w/acme/explorer/?range=7d&by=customer&then=feature").content.decode()
    assert "initech" in explorer
    assert "mail" in explorer
    usage = lead.api.get(f"{ACME}usage/?group_by=customer").json()
    assert [row["group"]["customer"] for row in usage["results"]] == ["initech"]
    calls = lead.api.get(f"{ACME}calls/").json()["results"]
    assert [call["call_id"] for call in calls] == [lead.own_call]
    assert lead.pages.get(f"/w/acme/calls/{lead.own_call}/").status_code == 200
    members = [one["email"] for one in lead.api.get(f"{ACME}members/").json()["results"]]
    assert members == ["lena@example.com"]


def test_no_page_shows_a_lead_anything_of_another_department(lead: Lead) -> None:
    seen = 0
    for _, path, _ in INSIDE:
        answer = lead.pages.get(address(path, "acme"))
        if answer.status_code == 200:
            seen += 1
            assert CANARY not in body(answer), path
    assert seen >= 6
    asked = [
        "range=today",
        "range=7d&by=model",
        "by=department",
        "by=customer&then=user&range=90d",
        f"customer={CANARY}-value&by=feature",
        "by=virtual_key",
    ]
    for query in [
        *asked,
        f"department={CANARY}-research",
        "metric=latency&by=agent",
        "grain=hour&range=today&by=model",
    ]:
        answer = lead.pages.get(f"/w/acme/explorer/?{query}")
        assert answer.status_code == 200
        shown = body(answer).replace(f"{CANARY}-value", "", 9) if f"{CANARY}-value" in query else body(answer)
        assert "$5.00" not in shown, query
        assert "$13" not in shown, query
        if CANARY not in query:
            assert CANARY not in shown, query
    for query in ("", f"q={CANARY}-value", f"department={CANARY}-research", f"customer={CANARY}-value"):
        answer = lead.pages.get(f"/w/acme/calls/?{query}")
        assert lead.other_call not in body(answer), query
    assert lead.pages.get(f"/w/acme/calls/{lead.other_call}/").status_code == 404
    assert lead.pages.get(f"/w/acme/calls/?q={lead.other_call}").status_code == 200, "not found, not led there"


def test_no_route_of_the_api_tells_a_lead_anything_of_another_department(lead: Lead) -> None:
    for path, view in routes():
        if "<slug:slug>" in path and "get" in methods_of(view):
            answer = lead.api.get(filled(path, "acme", lead.other_call))
            assert CANARY not in body(answer), path
    for query in ("group_by=customer,feature", "group_by=model", "group_by=department", "granularity=day"):
        answer = lead.api.get(f"{ACME}usage/?{query}")
        assert CANARY not in body(answer)
        assert "5" not in [row["cost_usd"] for row in answer.json()["results"]]
    assert lead.api.get(f"{ACME}usage/?department={CANARY}-research").status_code == 400


def test_a_lead_without_a_department_sees_nothing(lead: Lead, cast: Cast) -> None:
    with tenancy.entered(cast.acme):
        lena = cast.acme.memberships.get(user__email="lena@example.com")
        actions.change_member(workspace=cast.acme, by=cast.alice.actor, membership_id=lena.id, department_id=None)
    answer = lead.pages.get("/w/acme/")
    assert answer.status_code == 403
    assert "You lead no department yet" in body(answer)
    assert lead.api.get(f"{ACME}usage/").status_code == 403


def body(answer: Any) -> str:
    return (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()
