"""The REST API: keys made and revoked, credentials that go in and never out, roles, scopes and other people's workspaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.urls import get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from tests.cast import Cast, token_of
from workspaces import actions, keys, tenancy
from workspaces.audit import SYSTEM, Actor
from workspaces.models import ApiToken, Membership, Role, VirtualKey
from workspaces.permissions import Denied
from workspaces.rest import METHODS
from workspaces.roles import TABLE, Action, may

pytestmark = pytest.mark.django_db

Api = Callable[..., APIClient]
ACME = "/api/v1/workspaces/acme/"
SECRET = "sk-test-" + "q" * 32


def test_a_key_is_made_shown_once_listed_without_its_secret_and_revoked(api: Api) -> None:
    alice = api("alice")
    made = alice.post(
        ACME + "virtual-keys/", {"name": "prod", "agent": "bot", "may_override": ["agent"]}, format="json"
    )
    assert made.status_code == 201, made.content
    text = made.json()["virtual_key"]
    assert keys.parse(text).text == text
    listed = alice.get(ACME + "virtual-keys/")
    assert [row["name"] for row in listed.json()["results"]] == ["prod"]
    assert listed.json()["next"] is None
    assert text not in listed.content.decode()
    assert text[17:60] not in listed.content.decode()
    revoked = alice.post(f"{ACME}virtual-keys/{made.json()['id']}/revoke/")
    assert revoked.status_code == 200
    assert revoked.json()["revoked_at"]


def test_a_list_is_walked_page_by_page_without_a_gap_or_a_repetition(api: Api, cast: Cast) -> None:
    for number in range(7):
        actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name=f"key {number}")
    alice, address, seen = api("alice"), ACME + "virtual-keys/?limit=3", []
    while address:
        page = alice.get(address).json()
        seen += [row["name"] for row in page["results"]]
        address = page["next"]
    assert seen == [f"key {number}" for number in reversed(range(7))]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=٣", "limit=-1", "cursor=x", "limit=" + "9" * 5000]
)
def test_a_nonsensical_page_is_a_400(api: Api, query: str) -> None:
    answer = api("alice").get(f"{ACME}virtual-keys/?{query}")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"


def test_errors_are_problem_details_that_name_the_field(api: Api) -> None:
    answer = api("alice").post(ACME + "virtual-keys/", {"name": " "}, format="json")
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["status"] == 400
    assert problem["code"] == "invalid"
    assert problem["errors"][0]["field"] == "name"


@pytest.mark.parametrize(
    "extra", [{"workspace": "globex"}, {"is_staff": True}, {"role": "owner"}, {"created_by": "x"}, {"digest": "x"}]
)
def test_a_field_that_is_not_the_callers_to_set_is_refused(api: Api, extra: dict[str, object]) -> None:
    answer = api("alice").post(ACME + "virtual-keys/", {"name": "x", **extra}, format="json")
    assert answer.status_code == 400
    assert not VirtualKey.objects.exists()


@pytest.mark.parametrize(
    "body",
    [{"name": "a\r\nb"}, {"name": "x" * 81}, {"name": "x", "output_limit": 0}, {"name": "x", "output_limit": 1e18},
     {"name": "x", "may_override": ["workspace"]}, {"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, {"name": "x", "allowed_models": ["a\nb"]},
     {"name": "x", "member_id": "00000000-0000-7000-8000-000000000000"}, {"name": "x\0"}, {}, {"name": ["x"]}],
)  # fmt: skip
def test_a_bad_key_is_a_400_and_nothing_is_made(api: Api, body: dict[str, object]) -> None:
    assert api("alice").post(ACME + "virtual-keys/", body, format="json").status_code == 400
    assert not VirtualKey.objects.exists()


@pytest.mark.parametrize(
    "body", [{"name": 5}, {"name": "x", "agent": 5.5}, {"name": "x", "allowed_models": ["gpt-5", 5]}]
)
def test_a_number_is_no_text(api: Api, body: dict[str, object]) -> None:
    answer = api("alice").post(ACME + "virtual-keys/", body, format="json")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, list(body)[-1])


def test_a_body_that_is_not_json_is_a_400(api: Api) -> None:
    answer = api("alice").post(ACME + "virtual-keys/", b"{", content_type="application/json")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"


def test_a_credential_goes_in_and_never_comes_out(api: Api) -> None:
    alice = api("alice")
    made = alice.post(ACME + "credentials/", {"provider": "openai", "secret": SECRET, "verify": False}, format="json")
    assert made.status_code == 201, made.content
    shown = alice.get(ACME + "credentials/")
    one = alice.get(f"{ACME}credentials/{made.json()['id']}/")
    for answer in (made, shown, one):
        assert SECRET not in answer.content.decode()
        assert SECRET[:12] not in answer.content.decode()
    assert one.json()["last_four"] == "qqqq"
    assert alice.delete(f"{ACME}credentials/{made.json()['id']}/").status_code == 204
    assert alice.get(f"{ACME}credentials/{made.json()['id']}/").status_code == 404


def test_the_audit_log_tells_who_made_a_key_and_holds_no_secret(api: Api) -> None:
    alice = api("alice")
    text = alice.post(ACME + "virtual-keys/", {"name": "prod"}, format="json").json()["virtual_key"]
    alice.post(ACME + "credentials/", {"provider": "openai", "secret": SECRET, "verify": False}, format="json")
    log = alice.get(ACME + "audit/")
    made = [row for row in log.json()["results"] if row["action"] == "virtual_key.create"]
    assert made[0]["actor"] == "alice@example.com"
    assert made[0]["address"] == "127.0.0.1"
    assert text not in log.content.decode()
    assert SECRET not in log.content.decode()


def test_the_workspaces_list_shows_only_the_tokens_own(api: Api) -> None:
    assert [row["slug"] for row in api("alice").get("/api/v1/workspaces/").json()["results"]] == ["acme"]


def test_renaming_through_the_api(api: Api) -> None:
    answer = api("alice").patch(ACME, {"name": "Acme Inc."}, format="json")
    assert answer.json()["name"] == "Acme Inc."


# --- Isolation --------------------------------------------------------------------------------------------------------
def routes() -> list[tuple[str, type]]:
    """Every route of the API under a workspace, of all apps, from the URL map itself."""
    found = []

    def walk(patterns: list, prefix: str) -> None:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                walk(pattern.url_patterns, path)
            elif path.startswith("api/v1/"):
                found.append((path, pattern.callback.view_class))

    walk(get_resolver().url_patterns, "")
    return found


def filled(path: str, slug: str, identity: str) -> str:
    import re

    path = re.sub(r"<int:[a-z_]+>", "1", path.replace("<slug:slug>", slug))
    return "/" + re.sub(r"<[a-z]+:[a-z_]+>", identity, path)


def objects_of(cast: Cast) -> str:
    minted = actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="prod")
    return str(minted.row.id)


def methods_of(view: type) -> list[str]:
    return [method for method in METHODS if hasattr(view, method)]


def test_every_route_says_who_may_use_it() -> None:
    assert len(routes()) > 15
    for path, view in routes():
        assert view.permission_classes, path
        assert Denied not in view.permission_classes, path
        if "<slug:slug>" in path:
            assert set(view.needs) >= {method.upper() for method in methods_of(view)}, path


def test_globexs_bob_gets_the_same_404_for_acme_as_for_nothing_on_every_route(api: Api, cast: Cast) -> None:
    identity, bob = objects_of(cast), api("bob")
    for path, view in routes():
        if "<slug:slug>" not in path:
            continue
        for method in methods_of(view):
            theirs = bob.generic(method.upper(), filled(path, "acme", identity), b"{}", content_type="application/json")
            nothing = bob.generic(
                method.upper(), filled(path, "nowhere", identity), b"{}", content_type="application/json"
            )
            assert theirs.status_code == nothing.status_code == 404, (method, path, theirs.status_code)
            assert theirs.content == nothing.content


def test_acmes_ids_do_not_exist_in_globex(api: Api, cast: Cast) -> None:
    with tenancy.entered(cast.acme):
        credential = actions.add_credential(
            workspace=cast.acme, by=cast.alice.actor, provider="openai", secret=SECRET, verify=False
        )
    key, bob, own = objects_of(cast), api("bob"), "/api/v1/workspaces/globex/"
    token = ApiToken.objects.get(workspace=cast.globex).pk
    assert token
    for path in (f"virtual-keys/{key}/", f"credentials/{credential.id}/"):
        assert bob.get(own + path).status_code == 404
    for path in (f"virtual-keys/{key}/revoke/", f"virtual-keys/{key}/rotate/", f"credentials/{credential.id}/verify/",
                 f"credentials/{credential.id}/disable/", f"credentials/{credential.id}/enable/"):  # fmt: skip
        assert bob.post(own + path).status_code == 404, path
    assert bob.delete(f"{own}credentials/{credential.id}/").status_code == 404
    assert bob.get(f"{own}virtual-keys/?workspace=acme").json()["results"] == []
    assert VirtualKey.objects.get(pk=key).revoked_at is None


def test_a_request_without_or_with_a_broken_token_is_a_401_everywhere(api: Api, cast: Cast) -> None:
    identity, nobody, broken = objects_of(cast), api(), api()
    broken.credentials(HTTP_AUTHORIZATION="Bearer slt_nonsense")
    for path, view in routes():
        if "schema" in path:
            continue
        for method in methods_of(view):
            for client in (nobody, broken):
                answer = client.generic(method.upper(), filled(path, "acme", identity))
                assert answer.status_code == 401, (method, path)
                assert answer["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", " ", "Bearer", "Bearer ", "bearer x", "Basic YWxpY2U6eA==", "Bearer ' OR 1=1 --", "Bearer \x00", "Bearer " + "a" * 65536,
     "Bearer slt_" + "é" * 62, "Bearer slk_" + "0" * 62, "Bearer slt_" + "0" * 12 + "_" + "0" * 49, "Bearer  slt_x", "Token x", "Bearer\tslt_x"],
)  # fmt: skip
def test_a_strange_authorization_header_is_a_401_after_at_most_one_query(
    api: Api, header: str, django_assert_max_num_queries: Callable
) -> None:
    client = api()
    client.credentials(HTTP_AUTHORIZATION=header)
    with django_assert_max_num_queries(1):
        assert client.get("/api/v1/workspaces/").status_code == 401


def test_a_session_cookie_opens_nothing_here(cast: Cast) -> None:
    client = APIClient()
    client.force_login(cast.alice.user)
    assert client.get(ACME).status_code == 401


# --- Roles and scopes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", list(Role))
def test_every_route_answers_by_the_one_role_table(cast: Cast, role: Role) -> None:
    member = actions.add_member(workspace=cast.acme, by=SYSTEM, user=cast.mallory.user, role=role)
    with tenancy.entered(cast.acme):  # a lead sees a department's, or nothing
        sales = actions.add_department(workspace=cast.acme, by=SYSTEM, name="Sales")
        actions.change_member(workspace=cast.acme, by=SYSTEM, membership_id=member.id, department_id=sales.id)
    text = "x"
    every_scope = sorted({rule.scope for rule in TABLE.values()})
    key = keys.mint(keys.KeyKind.API_TOKEN)
    stored = keys.seal_digest(key)
    ApiToken.objects.create(
        workspace=cast.acme, user=member.user, locator=key.locator, digest=stored.digest, pepper_version=stored.pepper_version, name=text,
        last_four=text, scopes=every_scope,
    )  # fmt: skip
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key.text}")
    unknown = "00000000-0000-7000-8000-000000000000"
    for path, view in routes():
        if "<slug:slug>" not in path:
            continue
        for method in methods_of(view):
            allowed = may(role, view.needs[method.upper()], narrows=view.narrows)
            answer = client.generic(
                method.upper(), filled(path, "acme", unknown), b"[]", content_type="application/json"
            )
            assert (answer.status_code != 403) == allowed, (role, method, path, answer.status_code)


def test_a_token_does_no_more_than_its_scopes(api: Api) -> None:
    reader = api("alice", "read")
    assert reader.get(ACME + "virtual-keys/").status_code == 200
    answer = reader.post(ACME + "virtual-keys/", {"name": "x"}, format="json")
    assert answer.status_code == 403
    assert "keys" in answer.json()["detail"]


def test_a_token_makes_no_token_stronger_than_itself(api: Api) -> None:
    weak = api("alice", "read", "workspace")
    assert weak.post(ACME + "api-tokens/", {"name": "x", "scopes": ["keys"]}, format="json").status_code == 403
    assert weak.post(ACME + "api-tokens/", {"name": "x", "scopes": ["*"]}, format="json").status_code == 400
    assert weak.post(ACME + "api-tokens/", {"name": "x", "scopes": ["read"]}, format="json").status_code == 201


def test_a_token_makes_no_token_that_outlives_it(api: Api, cast: Cast) -> None:
    ends = timezone.now() + timedelta(hours=1)
    minted = actions.create_api_token(
        workspace=cast.acme, by=cast.alice.actor, membership=cast.alice.membership, name="short", scopes=["read", "workspace"], expires_at=ends,
    )  # fmt: skip
    short = api()
    short.credentials(HTTP_AUTHORIZATION=f"Bearer {minted.text}")
    wanted = {"name": "x", "scopes": ["read"]}
    for later in ((ends + timedelta(seconds=1)).isoformat(), None):
        answer = short.post(ACME + "api-tokens/", {**wanted, "expires_at": later}, format="json")
        assert answer.status_code == 403, later
    made = short.post(ACME + "api-tokens/", wanted, format="json")
    assert datetime.fromisoformat(made.json()["expires_at"]) == ends, "left out: as long as its maker"
    other = short.post("/api/v1/workspaces/", {"slug": "labs", "name": "Labs"}, format="json")
    assert (other.status_code, other.json()["slug"]) == (201, "labs")
    assert ApiToken.objects.get(workspace__slug="labs").expires_at == ends


def test_another_workspace_takes_the_scope_and_is_its_makers_own(api: Api) -> None:
    place, wanted = "/api/v1/workspaces/", {"slug": "labs", "name": "Labs"}
    assert api("alice", "read").post(place, wanted, format="json").status_code == 403
    made = api("alice", "read", "workspace").post(place, wanted, format="json").json()
    mine = api()
    mine.credentials(HTTP_AUTHORIZATION=f"Bearer {made['api_token']}")
    assert [row["slug"] for row in mine.get(place).json()["results"]] == ["labs"]
    assert mine.get(ACME).status_code == 404, "a token is of one workspace"
    assert mine.post(place + "labs/virtual-keys/", {"name": "x"}, format="json").status_code == 403, "no more scopes"
    assert api("bob").post(place, wanted, format="json").status_code == 409


def test_a_token_weakens_with_its_maker_and_dies_with_their_membership(api: Api, cast: Cast) -> None:
    admin = actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=cast.mallory.user, role=Role.ADMIN)
    minted = actions.create_api_token(
        workspace=cast.acme, by=Actor.member(admin), membership=admin, name="ci", scopes=["keys", "read"]
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {minted.text}")
    assert client.post(ACME + "virtual-keys/", {"name": "x"}, format="json").status_code == 201
    actions.change_member(workspace=cast.acme, by=cast.alice.actor, membership_id=admin.id, role=Role.VIEWER)
    assert client.post(ACME + "virtual-keys/", {"name": "x"}, format="json").status_code == 403
    actions.remove_member(workspace=cast.acme, by=cast.alice.actor, membership_id=admin.id)
    assert client.get(ACME + "virtual-keys/").status_code == 401


def test_an_expired_token_is_a_401(cast: Cast) -> None:
    assert cast.alice.membership is not None
    soon = timezone.now() + timedelta(hours=1)
    minted = actions.create_api_token(
        workspace=cast.acme,
        by=cast.alice.actor,
        membership=cast.alice.membership,
        name="ci",
        scopes=["read"],
        expires_at=soon,
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {minted.text}")
    assert client.get(ACME).status_code == 200
    ApiToken.objects.filter(pk=minted.row.pk).update(expires_at=soon - timedelta(hours=2))
    assert client.get(ACME).status_code == 401


def test_the_token_of_somebody_in_two_workspaces_works_in_its_own_only(cast: Cast) -> None:
    actions.add_member(workspace=cast.globex, by=cast.bob.actor, user=cast.alice.user, role=Role.ADMIN)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(cast.alice)}")
    assert client.get(ACME).status_code == 200
    assert client.get("/api/v1/workspaces/globex/").status_code == 404


def test_a_suspended_workspace_can_still_be_read(api: Api, cast: Cast) -> None:
    actions.suspend_workspace(workspace=cast.acme, by=cast.alice.actor)
    assert api("alice").get(ACME).json()["state"] == "suspended"


def test_a_deleted_workspace_is_gone(api: Api, cast: Cast) -> None:
    client = api("alice")
    actions.delete_workspace(workspace=cast.acme, by=cast.alice.actor, typed_slug="acme")
    assert client.get(ACME).status_code == 401
    assert not Membership.objects.filter(workspace=cast.acme).exists()


def test_the_api_describes_itself(api: Api) -> None:
    answer = api("alice").get("/api/v1/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json")
    assert answer.status_code == 200
    paths = json.loads(answer.content)["paths"]
    assert "/api/v1/workspaces/{slug}/virtual-keys/" in paths


def test_every_action_of_the_table_has_a_role_and_an_owner_may_all_of_them() -> None:
    assert set(TABLE) == set(Action)
    assert all(Role.OWNER in rule.roles for rule in TABLE.values())


def test_an_address_that_the_api_does_not_have_is_answered_in_its_own_words(api: Api) -> None:
    alice = api("alice")
    for path in ("/api/", "/api/v2/x/", "/api/v1/nothing", ACME + "virtual-keyss/", "/api/v1/workspaces//x"):
        for method in (alice.get, alice.post):
            answer = method(path)
            assert answer.status_code == 404, path
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] == "not_found"


def test_a_missing_slash_costs_neither_method_nor_body(api: Api) -> None:
    answer = api("alice").post(ACME + "virtual-keys?x=1", {"name": "prod"}, format="json")
    assert (answer.status_code, answer["Location"]) == (308, ACME + "virtual-keys/?x=1")


# --- Aliases and the rules of repeating -------------------------------------------------------------------------------
def test_an_alias_is_made_shown_changed_and_deleted_and_each_step_is_audited(api: Api, cast: Cast) -> None:
    alice = api("alice")
    body = {"name": "fast", "targets": ["openai/gpt-4o-mini", {"provider": "anthropic", "model": "claude-haiku-4-5"}]}
    made = alice.post(ACME + "aliases/", body, format="json")
    assert made.status_code == 201, made.content
    assert [target["provider"] for target in made.json()["targets"]] == ["openai", "anthropic"]
    assert "no_answer" not in made.json()["fallback_on"]
    address = f"{ACME}aliases/{made.json()['id']}/"
    changed = alice.patch(address, {"fallback_on": ["rate_limited"]}, format="json")
    assert (changed.status_code, changed.json()["fallback_on"]) == (200, ["rate_limited"])
    again = alice.post(ACME + "aliases/", body, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "taken")
    assert alice.delete(address).status_code == 204
    actions_seen = [row["action"] for row in alice.get(ACME + "audit/").json()["results"]]
    assert actions_seen[:3] == ["alias.delete", "alias.change", "alias.create"]


@pytest.mark.parametrize(
    "body",
    [{"name": "a/b"}, {"name": "a b"}, {"name": ""}, {"targets": []}, {"targets": ["gpt-4o"]}, {"targets": ["nobody/gpt-4o"]},
     {"targets": ["openai/gpt 4o"]}, {"targets": ["openai/gpt-4o"] * 2}, {"targets": [{"provider": "openai", "model": "x", "base_url": "http://x"}]},
     {"targets": [{"provider": "openai", "model": "x", "credential": "00000000-0000-7000-8000-000000000000"}]}, {"targets": [7]},
     {"fallback_on": ["always"]}, {"fallback_on": "rate_limited"}],
)  # fmt: skip
def test_an_alias_that_makes_no_sense_is_a_400(api: Api, body: dict[str, object]) -> None:
    wanted = {"name": "fast", "targets": ["openai/gpt-4o"], **body}
    assert api("alice").post(ACME + "aliases/", wanted, format="json").status_code == 400


def test_the_rules_of_repeating_have_defaults_and_bounds(api: Api) -> None:
    alice = api("alice")
    shown = alice.get(ACME + "routing/").json()
    assert (shown["retries"], shown["pause_ms"], shown["max_wait_ms"]) == (2, 250, 1000)
    assert alice.patch(ACME + "routing/", {"retries": 0}, format="json").json()["retries"] == 0
    assert alice.patch(ACME + "routing/", {"retries": 6}, format="json").status_code == 400


def test_a_credential_is_given_its_turn_and_its_time_limits(api: Api) -> None:
    alice = api("alice")
    made = alice.post(ACME + "credentials/", {"provider": "openai", "secret": SECRET, "verify": False}, format="json")
    address = f"{ACME}credentials/{made.json()['id']}/"
    change = {"priority": 3, "weight": 5, "timeouts": {"first_byte_s": 30}}
    changed = alice.patch(address, change, format="json")
    assert changed.status_code == 200, changed.content
    assert {name: changed.json()[name] for name in change} == change
    for wrong in (
        {"timeouts": {"first_byte_s": 0}},
        {"timeouts": {"dns_s": 1}},
        {"weight": 0},
        {"base_url": "http://x"},
    ):
        assert alice.patch(address, wrong, format="json").status_code == 400
