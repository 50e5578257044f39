"""Aliases and the rules for failed attempts, as Alice sets them on pages: the REST API's own actions, audited; viewers only see."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.cast import Cast, make_user
from workspaces import actions, tenancy
from workspaces.models import AuditRecord, Role
from workspaces.routes.models import Alias

pytestmark = pytest.mark.django_db

FAST = {
    "name": "fast",
    "targets": "openai/gpt-4o-mini\n\n  openai/gpt-4o with spare \n",
    "fallback_on": ["unreachable"],
}


@pytest.fixture
def spare(cast: Cast) -> str:
    with tenancy.entered(cast.acme):
        row = actions.add_credential(
            workspace=cast.acme,
            by=cast.alice.actor,
            provider="openai",
            secret="sk-canary-0123456789",
            name="spare",
            verify=False,
        )
    return str(row.id)


def only(cast: Cast) -> Alias:
    with tenancy.entered(cast.acme):
        return Alias.objects.get()


def audited(cast: Cast) -> list[str]:
    with tenancy.entered(cast.acme):
        rows = AuditRecord.objects.filter(workspace_id=cast.acme.pk).order_by("number")
        return [row.action for row in rows if row.action.startswith(("alias.", "hop_rules."))]


def test_an_alias_is_made_changed_and_deleted_on_pages_and_each_is_on_the_record(
    alice_client: Client, cast: Cast, spare: str
) -> None:
    assert alice_client.post("/w/acme/vault/aliases/new/", FAST).status_code == 302
    row = only(cast)
    assert row.targets == [
        {"provider": "openai", "model": "gpt-4o-mini", "credential": None},
        {"provider": "openai", "model": "gpt-4o", "credential": spare},
    ]
    assert row.fallback_on == ["unreachable"]
    page = alice_client.get("/w/acme/vault/").content.decode()
    assert "openai/gpt-4o with spare" in page
    edit = f"/w/acme/vault/aliases/{row.id}/"
    assert edit in page
    assert "openai/gpt-4o-mini\nopenai/gpt-4o with spare" in alice_client.get(edit).content.decode()
    changed = {"name": "quick", "targets": "openai/gpt-4o-mini", "fallback_on": []}
    assert alice_client.post(edit, changed).status_code == 302
    assert (only(cast).name, only(cast).fallback_on) == ("quick", [])
    assert alice_client.get(edit + "delete/").status_code == 200
    assert alice_client.post(edit + "delete/").status_code == 302
    with tenancy.entered(cast.acme):
        assert not Alias.objects.exists()
    assert audited(cast) == ["alias.create", "alias.change", "alias.delete"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"targets": "nobody/model"}, "targets"),
        ({"targets": "openai"}, "targets"),
        ({"targets": "openai/gpt-4o with nothing"}, "targets"),
        ({"targets": "openai/gpt-4o\nopenai/gpt-4o"}, "targets"),
        ({"targets": "\n".join(f"openai/m{n}" for n in range(9))}, "targets"),
        ({"fallback_on": ["whenever"]}, ""),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    alice_client: Client, cast: Cast, spare: str, given: dict[str, object], field: str
) -> None:
    answer = alice_client.post("/w/acme/vault/aliases/new/", FAST | given)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert f'id="id_{field}_error"' in page if field else "field-error" in page
    with tenancy.entered(cast.acme):
        assert not Alias.objects.exists()


def test_the_rules_for_failed_attempts_are_set_on_a_page(alice_client: Client, cast: Cast) -> None:
    page = alice_client.get("/w/acme/vault/fallbacks/").content.decode()
    assert 'value="2"' in page, "the defaults are shown"
    rules = {"retries": "1", "pause_ms": "100", "max_wait_ms": "500", "fallback_on": ["rate_limited", "server_error"]}
    assert alice_client.post("/w/acme/vault/fallbacks/", rules).status_code == 302
    with tenancy.entered(cast.acme):
        row = actions.hop_rules()
    assert (row.retries, row.pause_ms, row.max_wait_ms) == (1, 100, 500)
    assert row.fallback_on == ["rate_limited", "server_error"]
    assert alice_client.post("/w/acme/vault/fallbacks/", rules | {"retries": "99"}).status_code == 422
    assert audited(cast) == ["hop_rules.change"]


def test_who_may_only_look_sees_aliases_and_no_buttons(alice_client: Client, cast: Cast, spare: str) -> None:
    alice_client.post("/w/acme/vault/aliases/new/", FAST)
    somebody = make_user("viewer-of-aliases")
    actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=somebody, role=Role.MEMBER)
    client = Client()
    client.force_login(somebody)
    assert client.get("/w/acme/vault/aliases/new/").status_code == 403
    assert client.post("/w/acme/vault/aliases/new/", FAST).status_code == 403
    page = client.get("/w/acme/vault/")
    if page.status_code == 200:
        assert "aliases/new/" not in page.content.decode()
