"""Secrets on pages: in once, out once, never again. Names are inert. Destructive acts ask who is there."""

from __future__ import annotations

import re
import time
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from tests.cast import PASSWORD, Cast, signed_in
from workspaces import actions, keys, tenancy
from workspaces.domain.providers import PROVIDERS
from workspaces.models import Membership, VirtualKey
from workspaces.vault.models import ProviderCredential

pytestmark = pytest.mark.django_db

SECRET = "sk-canary-0123456789-abcdefghij-WXYZ"


def made_key(client: Client, **given: str) -> tuple[str, str]:
    """(the page, the key's text) after making a key."""
    answer = client.post("/w/acme/keys/new/", {"name": "Shop", "environment": "production"} | given)
    assert answer.status_code == 200
    page = answer.content.decode()
    found = re.search(r'<code id="new-key">(slk_\w+)</code>', page)
    assert found
    return page, found.group(1)


def confirmed(cast: Cast) -> Client:
    """Alice, who has just typed her password."""
    client = Client()
    client.post("/accounts/login/", {"login": cast.alice.email, "password": PASSWORD})
    return client


def test_a_new_key_is_shown_once_with_snippets_and_works(alice_client: Client, cast: Cast) -> None:
    page, text = made_key(alice_client)
    assert page.count(text) >= 6, "in the box and in each of the five snippets"
    stored = keys.find_key(keys.parse(text, keys.KeyKind.VIRTUAL_KEY).locator)
    assert stored is not None
    for path in ("/w/acme/keys/", "/w/acme/", "/w/acme/connect/"):
        assert text not in alice_client.get(path).content.decode()
    listed = alice_client.get("/w/acme/keys/").content.decode()
    assert text[-4:] in listed
    assert text[20:40] not in listed


def test_what_is_wrong_with_a_key_is_said_beside_its_field_and_no_key_is_made(alice_client: Client, cast: Cast) -> None:
    for given, field in (
        ({"name": ""}, "name"),
        ({"output_limit": "-1"}, "output_limit"),
        ({"output_limit": "many"}, "output_limit"),
        ({"expires_on": "2001-01-01"}, "expires_on"),
        ({"agent": "two\nlines"}, "agent"),
        ({"allowed_models": "x" * 300}, "allowed_models"),
    ):
        answer = alice_client.post("/w/acme/keys/new/", {"name": "Shop", "environment": "production"} | given)
        assert answer.status_code == 422, given
        page = answer.content.decode()
        assert f'id="id_{field}_error"' in page, given
        assert '<details class="more" open>' in page or field == "name", "the field that is wrong is in sight"
    assert not VirtualKey.objects.filter(workspace=cast.acme).exists()


def test_a_key_s_settings_reach_the_action(alice_client: Client, cast: Cast) -> None:
    made_key(alice_client, agent="bot", department="Sales", allowed_models="gpt-4o, gpt-4o-mini,", output_limit="256")
    key = VirtualKey.objects.get(workspace=cast.acme)
    assert (key.agent, key.department, key.allowed_models, key.output_limit) == (
        "bot",
        "Sales",
        ["gpt-4o", "gpt-4o-mini"],
        256,
    )


def test_a_revoked_key_is_marked_and_its_button_is_gone(alice_client: Client, cast: Cast) -> None:
    made_key(alice_client)
    key = VirtualKey.objects.get(workspace=cast.acme)
    assert "Revoke the key" in alice_client.get(f"/w/acme/keys/{key.id}/revoke/").content.decode()
    alice_client.post(f"/w/acme/keys/{key.id}/revoke/")
    key.refresh_from_db()
    assert key.revoked_at
    page = alice_client.get("/w/acme/keys/").content.decode()
    assert "revoked" in page
    assert f"/keys/{key.id}/revoke/" not in page


def test_a_viewer_sees_keys_and_no_way_to_make_or_revoke_one(alice_client: Client, ann_client: Client) -> None:
    made_key(alice_client)
    page = ann_client.get("/w/acme/keys/").content.decode()
    assert "Shop" in page
    assert "/keys/new/" not in page
    assert "/revoke/" not in page
    assert "Vault" not in page, "and no entry for pages that are not theirs"


def test_a_provider_key_goes_in_and_only_its_last_four_characters_come_out(alice_client: Client, cast: Cast) -> None:
    given = {
        "provider": "openai_compatible",
        "secret": SECRET,
        "base_url": "http://127.0.0.1:9/v1",
        "name": "own",
        "environment": "",
    }
    answer = alice_client.post("/w/acme/vault/new/", given, follow=True)
    page = answer.content.decode()
    assert "••••WXYZ" in page
    assert "Could not be checked" in page
    with tenancy.entered(cast.acme):
        credential = ProviderCredential.objects.get()
    for path in ("/w/acme/vault/", f"/w/acme/vault/{credential.id}/delete/"):
        assert SECRET[:-4] not in alice_client.get(path).content.decode()


def test_a_refused_credential_form_never_sends_the_key_back(alice_client: Client) -> None:
    given = {"provider": "openai_compatible", "secret": SECRET, "base_url": "ftp://x", "name": "own", "environment": ""}
    answer = alice_client.post("/w/acme/vault/new/", given)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'id="id_base_url_error"' in page
    assert 'value="ftp://x"' in page
    assert 'value="openai_compatible" checked' in page
    assert SECRET not in page


@pytest.mark.parametrize(
    "given, field",
    [
        ({"provider": "openai", "secret": ""}, "secret"),
        ({"provider": "openai", "secret": "two words"}, "secret"),
        ({"provider": "openai", "secret": "slk_000000000000_" + "0" * 49}, "secret"),
        ({"provider": "openai_compatible", "secret": SECRET, "base_url": ""}, "base_url"),
    ],
)
def test_a_credential_that_cannot_be_is_refused_beside_its_field(
    given: dict[str, str], field: str, alice_client: Client, cast: Cast
) -> None:
    answer = alice_client.post("/w/acme/vault/new/", {"name": "own", "environment": "", "base_url": ""} | given)
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in answer.content.decode()
    with tenancy.entered(cast.acme):
        assert not ProviderCredential.objects.exists()


def test_only_providers_that_the_gateway_speaks_to_are_offered(alice_client: Client) -> None:
    page = alice_client.get("/w/acme/vault/new/").content.decode()
    offered = set(re.findall(r'name="provider" value="(\w+)"', page))
    assert {"openai", "openai_compatible", "groq"} <= offered <= set(PROVIDERS)
    assert "simulator" not in offered, "there is none in this installation"


def test_disabling_and_enabling_a_credential(alice_client: Client, cast: Cast) -> None:
    credential = sealed(cast)
    alice_client.post(f"/w/acme/vault/{credential.id}/disable/")
    assert "disabled" in alice_client.get("/w/acme/vault/").content.decode()
    alice_client.post(f"/w/acme/vault/{credential.id}/enable/")
    assert ">disabled<" not in alice_client.get("/w/acme/vault/").content.decode()


def test_destroying_a_credential_asks_who_is_there_when_the_sign_in_is_old(cast: Cast) -> None:
    credential = sealed(cast)
    client = confirmed(cast)
    session = client.session
    records = session["account_authentication_methods"]
    session["account_authentication_methods"] = [record | {"at": time.time() - 3600} for record in records]
    session.save()
    answer = client.post(f"/w/acme/vault/{credential.id}/delete/")
    assert answer["Location"] == "/accounts/reauthenticate/?next=%2Fw%2Facme%2Fvault%2F"
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    client.post(f"/w/acme/vault/{credential.id}/delete/")
    with tenancy.entered(cast.acme):
        assert not ProviderCredential.objects.exists()


def sealed(cast: Cast) -> ProviderCredential:
    return actions.add_credential(
        workspace=cast.acme, by=cast.alice.actor, provider="openai", secret=SECRET, name="own", verify=False
    )


HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}"


def test_hostile_names_are_inert_on_every_page(cast: Cast, alice_client: Client) -> None:
    actions.change_workspace(workspace=cast.acme, by=cast.alice.actor, name=HOSTILE)
    actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name=HOSTILE, agent=HOSTILE)
    actions.add_credential(
        workspace=cast.acme, by=cast.alice.actor, provider="openai", secret=SECRET, name=HOSTILE, verify=False
    )
    cast.alice.user.name = HOSTILE
    cast.alice.user.save()
    for path in ("", "keys/", "vault/", "members/", "settings/", "connect/", "calls/", "guardrails/", "keys/new/"):
        page = alice_client.get(f"/w/acme/{path}").content.decode()
        assert "<img" not in page
        assert "{{7*7}}" in unescape(page)


def test_a_test_call_without_a_provider_key_says_what_to_do(alice_client: Client, cast: Cast) -> None:
    page = alice_client.post("/w/acme/test-call/", headers={"HX-Request": "true"}).content.decode()
    assert "no working provider key in the vault" in page
    assert not VirtualKey.objects.filter(workspace=cast.acme).exists()


def test_the_key_of_a_test_call_is_revoked_also_when_the_gateway_does_not_answer(
    alice_client: Client, cast: Cast, settings: object
) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:9"  # type: ignore[attr-defined]
    sealed(cast)
    page = alice_client.post("/w/acme/test-call/").content.decode()
    assert "The gateway did not answer" in page
    key = VirtualKey.objects.get(workspace=cast.acme)
    assert key.revoked_at
    assert key.expires_at
    assert key.expires_at - timezone.now() < timezone.timedelta(minutes=3)
    assert "Test call" not in alice_client.get("/w/acme/keys/").content.decode()


def test_a_role_is_changed_and_the_last_owner_stays(cast: Cast) -> None:
    client = confirmed(cast)
    ann = cast.ann.membership
    assert ann
    assert cast.alice.membership
    client.post(f"/w/acme/members/{ann.id}/role/", {"role": "member"})
    ann.refresh_from_db()
    assert ann.role == "member"
    answer = client.post(f"/w/acme/members/{cast.alice.membership.id}/remove/", follow=True)
    assert "needs an owner" in answer.content.decode()
    assert Membership.objects.filter(pk=cast.alice.membership.pk).exists()


def test_an_invitation_is_sent_listed_and_withdrawn(cast: Cast, alice_client: Client) -> None:
    answer = alice_client.post("/w/acme/members/invite/", {"email": "not an address", "role": "member"})
    assert answer.status_code == 422
    assert 'id="id_email_error"' in answer.content.decode()
    alice_client.post("/w/acme/members/invite/", {"email": "carol@example.com", "role": "member"})
    page = alice_client.get("/w/acme/members/").content.decode()
    assert "carol@example.com" in page
    withdraw = re.search(r'action="(/w/acme/members/invitations/[^"]+)"', page)
    assert withdraw
    alice_client.post(withdraw.group(1))
    assert "carol@example.com" not in alice_client.get("/w/acme/members/").content.decode()


def test_a_workspace_is_deleted_only_by_typing_its_address(cast: Cast) -> None:
    client = confirmed(cast)
    answer = client.post("/w/acme/settings/delete/", {"typed_slug": "acm"})
    assert answer.status_code == 422
    assert 'id="id_typed_slug_error"' in answer.content.decode()
    assert client.get("/w/acme/").status_code == 200
    client.post("/w/acme/settings/delete/", {"typed_slug": "acme"})
    assert client.get("/w/acme/").status_code == 404


def test_the_name_and_zone_of_a_workspace_are_changed_by_those_who_may(cast: Cast, alice_client: Client) -> None:
    alice_client.post("/w/acme/settings/", {"name": "Acme Two", "time_zone": "Asia/Tokyo"})
    cast.acme.refresh_from_db()
    assert (cast.acme.name, cast.acme.time_zone) == ("Acme Two", "Asia/Tokyo")
    signed_in(cast.ann).post("/w/acme/settings/", {"name": "Ann's", "time_zone": "UTC"})
    cast.acme.refresh_from_db()
    assert cast.acme.name == "Acme Two"


def test_an_api_token_is_shown_once_works_and_is_revoked(cast: Cast) -> None:
    client = confirmed(cast)
    page = client.post("/w/acme/tokens/", {"name": "Terraform", "scopes": ["read"]}).content.decode()
    found = re.search(r'<code id="new-token">(slt_\w+)</code>', page)
    assert found
    header = {"Authorization": f"Bearer {found.group(1)}"}
    assert Client().get("/api/v1/workspaces/acme/", headers=header).status_code == 200
    page = client.get("/w/acme/tokens/").content.decode()
    assert found.group(1) not in page
    revoke = re.search(r'action="(/w/acme/tokens/[^"]+/revoke/)"', page)
    assert revoke
    client.post(revoke.group(1))
    assert Client().get("/api/v1/workspaces/acme/", headers=header).status_code == 401


def test_a_token_without_scopes_or_with_another_role_s_is_refused_beside_the_field(cast: Cast) -> None:
    client = confirmed(cast)
    for scopes in ([], ["everything"]):
        answer = client.post("/w/acme/tokens/", {"name": "x", "scopes": scopes})
        assert answer.status_code == 422
        assert "field-error" in answer.content.decode()


def test_making_a_token_asks_who_is_there_when_the_sign_in_is_old(alice_client: Client) -> None:
    answer = alice_client.post("/w/acme/tokens/", {"name": "x", "scopes": ["read"]})
    assert answer["Location"] == "/accounts/reauthenticate/?next=%2Fw%2Facme%2Ftokens%2F"


def test_a_provider_that_needs_settings_asks_for_them_and_keeps_what_was_typed(
    alice_client: Client, cast: Cast
) -> None:
    given = {"provider": "bedrock", "secret": f"AKIDEXAMPLE:{SECRET}", "name": "aws", "environment": "", "base_url": ""}
    answer = alice_client.post("/w/acme/vault/new/", given | {"region": "us east"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'id="id_region_error"' in page
    assert 'data-when="provider=bedrock"' in page
    assert SECRET not in page
    azure = {
        "provider": "azure",
        "secret": SECRET,
        "name": "ai",
        "environment": "",
        "base_url": "http://127.0.0.1:9/openai/v1",
    }
    alice_client.post(
        "/w/acme/vault/new/", azure | {"resource": "", "deployments": "gpt-4o=mine", "region": "left over"}
    )
    with tenancy.entered(cast.acme):
        kept = ProviderCredential.objects.get()
    assert (kept.provider, kept.settings) == ("azure", {"deployments": "gpt-4o=mine"})
    assert "http://127.0.0.1:9/openai/v1" in alice_client.get("/w/acme/vault/").content.decode()
