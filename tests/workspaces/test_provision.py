"""`manage.py provision`: the contract of DESIGN section 6."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.test import override_settings
from rest_framework.test import APIClient

from guardrails.models import Budget, RateLimit
from workspaces import keys, tenancy
from workspaces.keys import Stored
from workspaces.models import ApiToken, Membership, Role, User, VirtualKey, Workspace
from workspaces.vault import door
from workspaces.vault.models import ProviderCredential

pytestmark = pytest.mark.django_db
SECRET = "sk-test-" + "z" * 30


def provision(*more: str) -> dict[str, str]:
    out = StringIO()
    arguments = [
        "--email",
        "Zoe@Example.com",
        "--workspace",
        "zoo",
        "--provider",
        "openai",
        "--provider-key",
        SECRET,
        "--json",
    ]
    call_command("provision", *arguments, *more, stdout=out)
    return json.loads(out.getvalue())


def test_it_makes_everything_and_prints_what_automation_needs() -> None:
    made = provision("--budget", "12.50", "--budget-period", "day", "--rpm", "30", "--key-name", "ci")
    assert set(made) == {"workspace", "virtual_key", "base_url", "api_token"}
    assert made["workspace"] == "zoo"
    assert made["base_url"] == "http://testserver/v1"
    row = keys.find_key(keys.parse(made["virtual_key"]).locator)
    assert row is not None
    assert row.name == "ci"
    assert keys.verify(keys.parse(made["virtual_key"]), Stored.of(row))
    workspace = Workspace.objects.get(slug="zoo")
    with tenancy.entered(workspace):
        budget, limit, credential = Budget.objects.get(), RateLimit.objects.get(), ProviderCredential.objects.get()
        assert (budget.cap, budget.period) == (12_500_000_000, "day")
        assert limit.limit == 30
        assert door.open_secret(workspace, credential) == SECRET
    assert EmailAddress.objects.get(email="zoe@example.com").verified
    assert Membership.objects.get(workspace=workspace).role == Role.OWNER
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {made['api_token']}")
    assert client.get("/api/v1/workspaces/zoo/virtual-keys/").json()["results"][0]["name"] == "ci"


def test_a_second_run_makes_a_virtual_key_and_nothing_else() -> None:
    first = provision("--budget", "5", "--rpm", "3")
    second = provision("--budget", "7", "--rpm", "4", "--base-url", "http://127.0.0.1:9/v1")
    assert second["virtual_key"] != first["virtual_key"]
    assert {**second, "virtual_key": ""} == {**first, "virtual_key": ""}
    assert [model.objects.count() for model in (User, Workspace, Membership, ApiToken, VirtualKey)] == [1, 1, 1, 1, 2]
    with tenancy.entered(Workspace.objects.get()):
        assert Budget.objects.get().cap == 7_000_000_000
        assert RateLimit.objects.get().limit == 4
        assert ProviderCredential.objects.get().base_url == "http://127.0.0.1:9/v1"


def test_a_revoked_token_is_not_given_again() -> None:
    first = provision()
    ApiToken.objects.update(revoked_at="2026-01-01T00:00:00Z")
    second = provision()
    assert second["api_token"] != first["api_token"]
    assert keys.recognise_token(first["api_token"]) is None
    assert keys.recognise_token(second["api_token"]) is not None


@pytest.mark.parametrize(
    "bad",
    [["--budget", "-1"], ["--budget", "NaN"], ["--budget", "0"], ["--rpm", "0"], ["--rpm", "x"], ["--base-url", "ftp://x/"],
     ["--base-url", "http://169.254.169.254/v1"], ["--provider", "acme-ai"], ["--workspace", "admin"], ["--workspace", "A B"], ["--email", "zoe"],
     ["--key-name", ""], ["--provider-key", ""], ["--provider-key", "a b"]],
)  # fmt: skip
def test_bad_input_is_refused_and_nothing_was_made(bad: list[str]) -> None:
    with pytest.raises(CommandError):
        provision(*bad)
    assert not User.objects.exists()
    assert not Workspace.objects.exists()


@override_settings(ALLOW_PRIVATE_UPSTREAMS=False)
def test_a_private_upstream_is_refused_where_they_are_switched_off() -> None:
    with pytest.raises(CommandError, match="https on port 443"):
        provision("--base-url", "http://127.0.0.1:9/v1")


def test_the_password_of_somebody_who_never_verified_the_address_goes() -> None:
    squatter = User.objects.create_user("zoe@example.com", "the squatter's password")
    provision()
    squatter.refresh_from_db()
    assert not squatter.has_usable_password()


def test_the_password_of_a_verified_person_stays() -> None:
    zoe = User.objects.create_user("zoe@example.com", "zoe's own password")
    EmailAddress.objects.create(user=zoe, email=zoe.email, verified=True, primary=True)
    provision()
    zoe.refresh_from_db()
    assert zoe.check_password("zoe's own password")
