"""What the API gained to be the browser's equal: people, the audit log taken along, saved views, the end of a workspace."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.api.conftest import ACME
from tests.cast import Cast
from workspaces import actions, audit_export, tenancy
from workspaces.models import AuditRecord, Role, Workspace

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators"),
]
Api = Callable[..., APIClient]


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    return b"".join(answer).decode()


# --- People -----------------------------------------------------------------------------------------------------------
def test_a_member_gets_another_role_and_leaves_the_workspace(api: Api, cast: Cast) -> None:
    assert cast.ann.membership is not None
    alice, ann = api("alice"), f"{ACME}members/{cast.ann.membership.id}/"
    department = alice.post(ACME + "departments/", {"name": "Sales"}, format="json").json()["id"]
    tag = alice.get(ann)["ETag"]
    changed = alice.patch(ann, {"role": "member", "department_id": department}, format="json", HTTP_IF_MATCH=tag)
    assert (changed.json()["role"], changed.json()["department_id"]) == ("member", department)
    assert alice.patch(ann, {"role": "admin"}, format="json", HTTP_IF_MATCH=tag).status_code == 412
    assert alice.patch(ann, {"is_staff": True}, format="json").status_code == 400
    assert alice.delete(ann).status_code == 204
    assert alice.get(ann).status_code == 404


def test_nobody_gives_or_takes_a_role_above_their_own_and_an_owner_stays(api: Api, cast: Cast) -> None:
    assert cast.alice.membership is not None
    admin = actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=cast.mallory.user, role=Role.ADMIN)
    owner = f"{ACME}members/{cast.alice.membership.id}/"
    client = APIClient()
    token = actions.create_api_token(
        workspace=cast.acme, by=cast.alice.actor, membership=admin, name="x", scopes=["read", "people"]
    )
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token.text}")
    assert client.patch(owner, {"role": "viewer"}, format="json").status_code == 403
    assert client.delete(owner).status_code == 403
    assert client.patch(f"{ACME}members/{admin.id}/", {"role": "owner"}, format="json").status_code == 403
    assert api("alice").patch(owner, {"role": "viewer"}, format="json").status_code == 409


def test_a_reading_token_of_an_owner_removes_nobody(api: Api, cast: Cast) -> None:
    assert cast.ann.membership is not None
    assert api("alice", "read").delete(f"{ACME}members/{cast.ann.membership.id}/").status_code == 403


def test_invitations_are_listed_while_open_and_withdrawn(api: Api) -> None:
    alice = api("alice")
    made = alice.post(ACME + "invitations/", {"email": "new@example.com", "role": "member"}, format="json").json()
    again = alice.post(ACME + "invitations/", {"email": "new@example.com", "role": "viewer"}, format="json").json()
    listed = alice.get(ACME + "invitations/").json()["results"]
    assert [(one["id"], one["role"]) for one in listed] == [(again["id"], "viewer")]
    assert alice.delete(f"{ACME}invitations/{made['id']}/").status_code == 404
    assert alice.delete(f"{ACME}invitations/{again['id']}/").status_code == 204
    assert alice.get(ACME + "invitations/").json()["results"] == []


# --- The audit log ----------------------------------------------------------------------------------------------------
@pytest.fixture
def written(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Cast:
    monkeypatch.setattr(audit_export, "PAGE", 3)
    for number in range(7):
        actions.add_agent(workspace=cast.acme, by=cast.alice.actor, name=f"=cmd {number}")
    actions.add_agent(workspace=cast.globex, by=cast.bob.actor, name="theirs")
    return cast


def test_the_export_holds_every_record_once_oldest_first_and_its_own_taking_is_on_the_record(
    written: Cast, api: Api
) -> None:
    alice = api("alice")
    with tenancy.entered(written.acme):
        before = AuditRecord.objects.filter(workspace_id=written.acme.id).count()
    rows = [json.loads(line) for line in text_of(alice.get(ACME + "audit/export/?as=jsonl")).splitlines()]
    assert [row["number"] for row in rows] == list(range(1, before + 1))
    assert all(len(row["hash"]) == 64 for row in rows)
    assert "theirs" not in json.dumps(rows)
    newest = alice.get(ACME + "audit/?limit=1").json()["results"][0]
    assert (newest["action"], newest["after"]["format"]) == ("audit.export", "jsonl")


def test_the_export_as_csv_runs_no_formula_and_takes_filters(written: Cast, api: Api) -> None:
    alice = api("alice")
    asked = ACME + "audit/export/?action=agent.add&actor=alice@example.com&q=cmd"
    rows = list(csv.DictReader(io.StringIO(text_of(alice.get(asked)))))
    assert [row["target"] for row in rows] == [f"'=cmd {number}" for number in range(7)]
    assert text_of(alice.get(ACME + "audit/export/?to=2001-01-01")).splitlines() == [
        "number,at,actor,address,action,target,before,after,hash"
    ]


def test_the_log_is_searched_and_a_search_is_no_pattern(written: Cast, api: Api) -> None:
    alice = api("alice")
    found = alice.get(ACME + "audit/?action=agent.add&limit=3").json()
    assert [row["target"] for row in found["results"]] == ["=cmd 6", "=cmd 5", "=cmd 4"]
    assert [row["target"] for row in alice.get(found["next"]).json()["results"]] == ["=cmd 3", "=cmd 2", "=cmd 1"]
    for bomb in ("(a%2B)%2B$", "%25", "_", ".*", "%5C"):
        assert alice.get(f"{ACME}audit/?q={bomb}&action=agent.add").json()["results"] == []


@pytest.mark.parametrize(
    "query", ["from=x", "to=2026-13-01", "from=20260101", "form=2026-01-01", "q=%00", "q=" + "a" * 255, "q=a&q=b", "cursor=zz", "from=9999-12-31"],
)  # fmt: skip
def test_a_nonsensical_search_is_a_400(api: Api, query: str) -> None:
    assert api("alice").get(f"{ACME}audit/?{query}").status_code == 400


def test_who_may_not_see_the_log_may_not_take_it(api: Api) -> None:
    assert api("ann").get(ACME + "audit/export/").status_code == 403
    assert api("alice").get(ACME + "audit/export/?as=xlsx").status_code == 400


# --- Saved views, the inbox, the end ----------------------------------------------------------------------------------
def test_a_view_is_saved_shared_and_forgotten(api: Api) -> None:
    alice, ann = api("alice"), api("ann")
    made = alice.post(ACME + "saved-views/", {"name": "Customers", "query": "by=customer"}, format="json")
    assert made.status_code == 201, made.content
    address = f"{ACME}saved-views/{made.json()['id']}/"
    assert ann.get(address).status_code == 404, "not shared"
    shared = {"name": "Customers", "query": "by=model", "shared": True}
    assert alice.post(ACME + "saved-views/", shared, format="json").json()["id"] == made.json()["id"]
    assert "by=model" in ann.get(address).json()["query"]
    assert ann.delete(address).status_code == 403
    assert alice.delete(address).status_code == 204
    assert alice.post(ACME + "saved-views/", {"name": "x", "query": "by=nonsense"}, format="json").status_code == 400


def test_a_workspace_ends_when_its_address_is_typed_and_not_before(api: Api, cast: Cast) -> None:
    alice = api("alice")
    assert alice.post(ACME + "delete/", {}, format="json").status_code == 400
    assert alice.post(ACME + "delete/", {"typed_slug": "acmee"}, format="json").status_code == 400
    assert alice.get(ACME).status_code == 200
    assert alice.post(ACME + "delete/", {"typed_slug": "acme"}, format="json").status_code == 204
    assert alice.get(ACME).status_code == 401
    assert Workspace.objects.get(pk=cast.globex.pk).state == "active"
