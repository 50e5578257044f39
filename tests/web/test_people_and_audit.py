"""Keys changed and rotated, agents and departments, the audit log, sessions: what a person does there, and what they cannot."""

from __future__ import annotations

import csv
import io
import re

import pytest
from django.test import Client
from django.utils import timezone

from tests.cast import PASSWORD, Cast
from workspaces import actions, audit_export, tenancy
from workspaces.directory.models import Agent, Department
from workspaces.models import AuditRecord, Membership, VirtualKey

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators"),
]


def key_of(cast: Cast, **given: object) -> VirtualKey:
    wanted = {"name": "Shop", "agent": "bot", "allowed_models": ["gpt-4o"], **given}
    return actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, **wanted).row  # type: ignore[arg-type]


def test_a_key_s_settings_are_changed_where_they_are_shown(alice_client: Client, cast: Cast) -> None:
    key = key_of(cast)
    member = Membership.objects.get(workspace=cast.acme, user=cast.alice.user)
    path = f"/w/acme/keys/{key.id}/"
    page = alice_client.get(path).content.decode()
    assert 'value="bot"' in page
    assert 'value="gpt-4o"' in page
    given = {
        "name": "Shop 2",
        "environment": "staging",
        "member_id": str(member.id),
        "may_override": ["agent"],
        "output_limit": "99",
    }
    assert alice_client.post(path, given).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.environment, key.member, key.may_override, key.output_limit) == (
        "Shop 2",
        "staging",
        member,
        ["agent"],
        99,
    )
    assert (key.agent, key.allowed_models) == ("", [])


def test_what_is_wrong_with_a_change_stands_beside_its_field_and_nothing_changes(
    alice_client: Client, cast: Cast
) -> None:
    key = key_of(cast)
    for given, field in (
        ({"name": ""}, "name"),
        ({"output_limit": "0"}, "output_limit"),
        ({"expires_on": "2001-01-01"}, "expires_on"),
        ({"member_id": str(cast.globex.id)}, "member_id"),
    ):
        wrong = {"name": "Shop", "environment": "production"} | given
        answer = alice_client.post(f"/w/acme/keys/{key.id}/", wrong)
        assert answer.status_code == 422, given
        assert f'id="id_{field}_error"' in answer.content.decode(), given
    key.refresh_from_db()
    assert key.agent == "bot"


def test_saving_a_key_unchanged_does_not_move_its_end(alice_client: Client, cast: Cast) -> None:
    ends = timezone.now() + timezone.timedelta(days=3, hours=5)
    key = key_of(cast, expires_at=ends)
    page = alice_client.get(f"/w/acme/keys/{key.id}/").content.decode()
    day = re.search(r'name="expires_on" value="([^"]+)"', page)
    assert day
    answer = alice_client.post(
        f"/w/acme/keys/{key.id}/", {"name": "Other", "environment": "production", "expires_on": day[1]}
    )
    assert answer.status_code == 302
    key.refresh_from_db()
    assert (key.name, key.expires_at) == ("Other", ends)


def test_a_rotated_key_is_shown_once_and_the_old_one_ends_when_it_was_said(alice_client: Client, cast: Cast) -> None:
    key = key_of(cast)
    answer = alice_client.post(f"/w/acme/keys/{key.id}/rotate/", {"grace_hours": "24"})
    assert re.search(r'<code id="new-key">slk_\w+</code>', answer.content.decode())
    key.refresh_from_db()
    assert key.revoked_at is None
    assert key.expires_at is not None
    assert abs((key.expires_at - timezone.now()).total_seconds() - 86_400) < 60
    new = VirtualKey.objects.exclude(pk=key.pk).get(workspace=cast.acme)
    assert (new.name, new.agent, new.allowed_models) == (key.name, key.agent, key.allowed_models)
    assert alice_client.post(f"/w/acme/keys/{new.id}/rotate/", {"grace_hours": "1e9"}).status_code == 302
    assert VirtualKey.objects.filter(workspace=cast.acme).count() == 2


def test_a_viewer_sees_a_key_and_nothing_to_change_it_with(ann_client: Client, cast: Cast) -> None:
    key = key_of(cast)
    page = ann_client.get(f"/w/acme/keys/{key.id}/").content.decode()
    assert "bot" in page
    assert 'name="output_limit"' not in page
    ann_client.post(f"/w/acme/keys/{key.id}/", {"name": "Mine", "environment": "production"})
    key.refresh_from_db()
    assert key.name == "Shop"


def test_departments_and_agents_are_added_joined_and_removed(alice_client: Client, cast: Cast) -> None:
    alice_client.post("/w/acme/directory/departments/new/", {"department-name": "Support"})
    with tenancy.entered(cast.acme):
        department = Department.objects.get()
    alice_client.post(
        "/w/acme/directory/agents/new/", {"agent-name": "<b>bot</b>", "agent-department_id": department.id}
    )
    page = alice_client.get("/w/acme/directory/").content.decode()
    assert "&lt;b&gt;bot&lt;/b&gt;" in page
    twice = alice_client.post("/w/acme/directory/departments/new/", {"department-name": "Support"})
    assert twice.status_code == 422
    assert "There is one with this name." in twice.content.decode()

    member = Membership.objects.get(workspace=cast.acme, user=cast.alice.user)
    alice_client.post(f"/w/acme/members/{member.id}/department/", {"department": str(department.id)})
    member.refresh_from_db()
    assert member.department_id == department.id

    alice_client.post(f"/w/acme/directory/departments/{department.id}/remove/")
    member.refresh_from_db()
    assert member.department_id is None
    with tenancy.entered(cast.acme):
        agent = Agent.objects.get()
        assert agent.department is None
    alice_client.post(f"/w/acme/directory/agents/{agent.id}/remove/")
    with tenancy.entered(cast.acme):
        assert not Agent.objects.exists()


def test_the_audit_log_is_searched_paged_and_exported_whole_without_formulas(
    alice_client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "PAGE", 25)
    for number in range(60):
        actions.add_department(workspace=cast.acme, by=cast.alice.actor, name=f"=cmd|{number}")
    page = alice_client.get("/w/acme/audit/").content.decode()
    assert page.count("department.add") >= 50
    older = re.search(r'href="(\?[^"]*before=\d+)"', page)
    assert older
    assert "=cmd|0" in alice_client.get("/w/acme/audit/" + older[1].replace("&amp;", "&")).content.decode()
    found = alice_client.get("/w/acme/audit/", {"q": "CMD|17", "action": "department.add"}).content.decode()
    assert "=cmd|17" in found
    assert "=cmd|18" not in found
    assert "Nothing matches" in alice_client.get("/w/acme/audit/", {"q": "%_\\", "before": "٣"}).content.decode()

    answer = alice_client.post("/w/acme/audit/export/", {"q": "=cmd"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
    assert len(rows) == 60
    assert {row["target"][:2] for row in rows} == {"'="}
    assert [int(row["number"]) for row in rows] == sorted(int(row["number"]) for row in rows)
    with tenancy.entered(cast.acme):
        assert AuditRecord.objects.order_by("-number").first().action == "audit.export"  # type: ignore[union-attr]


def test_another_workspace_s_audit_log_shows_nothing_of_ours(
    alice_client: Client, bob_client: Client, cast: Cast
) -> None:
    actions.add_department(workspace=cast.acme, by=cast.alice.actor, name="Secret plans")
    assert "Secret plans" in alice_client.get("/w/acme/audit/").content.decode()
    assert "Secret plans" not in bob_client.get("/w/globex/audit/").content.decode()


def test_other_sessions_are_seen_and_ended(cast: Cast) -> None:
    here, there = Client(), Client(headers={"user-agent": "Netscape"})
    for client in (here, there):
        client.post("/accounts/login/", {"login": cast.alice.email, "password": PASSWORD})
    page = here.get("/accounts/sessions/").content.decode()
    assert "Netscape" in page
    here.post("/accounts/sessions/")
    assert there.get("/w/acme/").status_code == 302
    assert here.get("/w/acme/").status_code == 200
