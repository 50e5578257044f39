"""Signing up, signing in, the first workspace: what goes wrong says so beside the field, and nothing is half made."""

from __future__ import annotations

import re

import pytest
from django.core import mail
from django.db import connection
from django.test import Client

from tests.cast import PASSWORD, Cast, Person, signed_in
from workspaces import actions
from workspaces.models import Membership, User, Workspace

pytestmark = pytest.mark.django_db


def field_error(answer: object, name: str) -> str:
    """The message beside a field, as a person reads it."""
    page = answer.content.decode()  # type: ignore[attr-defined]
    found = re.search(rf'id="id_{name}_error">.*?<span>(.*?)</span>', page, re.DOTALL)
    assert found, f"no error beside {name}"
    return found.group(1)


def test_a_newcomer_signs_up_confirms_by_mail_and_arrives_at_their_first_workspace() -> None:
    client = Client()
    answer = client.post("/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD}, follow=True)
    assert "Check your mail" in answer.content.decode()
    (sent,) = mail.outbox
    assert sent.to == ["new@example.com"]
    assert sent.subject == "[Sluice] Confirm your e-mail address"
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+)", sent.body)
    assert link
    assert not client.session.get("_auth_user_id"), "no session before the address is confirmed"

    asked = client.get(link.group(1))
    assert "Confirm and continue" in asked.content.decode()
    answer = client.post(link.group(1), follow=True)
    assert answer.redirect_chain[-1][0] == "/workspaces/new/"
    assert "Create your workspace" in answer.content.decode()


def test_opening_the_link_alone_confirms_nothing_because_mail_scanners_open_links() -> None:
    client = Client()
    client.post("/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD})
    link = re.search(r"/accounts/confirm-email/\S+", mail.outbox[0].body)
    assert link
    Client().get(link.group(0))
    answer = Client().post("/accounts/login/", {"login": "new@example.com", "password": PASSWORD}, follow=True)
    assert "Check your mail" in answer.content.decode()


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@Example.COM"])
def test_a_duplicate_e_mail_is_said_beside_the_field(email: str, cast: Cast) -> None:
    answer = Client().post("/accounts/signup/", {"email": email, "password1": PASSWORD})
    assert "already" in field_error(answer, "email")
    assert User.objects.filter(email__iexact=email).count() == 1


@pytest.mark.parametrize(
    "password, said",
    [
        ("short", "at least 10 characters"),
        ("password1234", "too common"),
        ("93847561029384", "entirely numeric"),
        ("newcomer@example", "too similar"),
    ],
)
def test_a_weak_password_is_said_beside_the_field_and_no_account_is_made(password: str, said: str) -> None:
    answer = Client().post("/accounts/signup/", {"email": "newcomer@example.com", "password1": password})
    assert said in field_error(answer, "password1")
    assert not User.objects.filter(email="newcomer@example.com").exists()
    assert 'value="newcomer@example.com"' in answer.content.decode(), "what was typed stays"
    assert f'value="{password}"' not in answer.content.decode(), "but not the password"


def test_a_wrong_password_and_an_unknown_address_read_the_same(cast: Cast) -> None:
    def refusal(login: str) -> str:
        page = Client().post("/accounts/login/", {"login": login, "password": "not this one"}).content.decode()
        note = re.search(r'role="alert">.*?<p>(.*?)</p>', page, re.DOTALL)
        assert note
        return note.group(1)

    assert refusal("alice@example.com") == refusal("nobody@example.com")


def test_a_reset_password_ends_the_sessions_elsewhere(cast: Cast) -> None:
    elsewhere = signed_in(cast.alice)
    assert elsewhere.get("/account/").status_code == 200
    Client().post("/accounts/password/reset/", {"email": cast.alice.email})
    link = re.search(r"http://testserver(/accounts/password/reset/key/\S+)", mail.outbox[-1].body)
    assert link
    browser = Client()
    form = browser.get(link.group(1), follow=True)
    page = form.content.decode()
    names = re.findall(r'name="(password\d)"', page)
    browser.post(form.redirect_chain[-1][0], dict.fromkeys(names, "another good long sentence"))
    assert elsewhere.get("/account/").status_code == 302


def test_signing_in_gives_the_session_another_id(cast: Cast) -> None:
    client = Client()
    client.get("/accounts/login/")
    session = client.session
    session["planted"] = "1"
    session.save()
    client.cookies["sluice_session"] = session.session_key
    client.post("/accounts/login/", {"login": cast.alice.email, "password": PASSWORD})
    assert client.session.get("_auth_user_id")
    assert client.cookies["sluice_session"].value != session.session_key


def test_signing_out_by_a_link_alone_does_nothing(alice_client: Client) -> None:
    alice_client.get("/accounts/logout/")
    assert alice_client.get("/account/").status_code == 200
    alice_client.post("/accounts/logout/")
    assert alice_client.get("/account/").status_code == 302


def test_the_landing_page_tells_the_story_and_leads_to_sign_up() -> None:
    page = Client().get("/").content.decode()
    assert "Know what every AI call costs" in page
    assert 'href="/accounts/signup/"' in page
    assert "http://testserver/v1" in page


def test_who_is_signed_in_goes_on_to_the_workspace_they_were_in_last(cast: Cast) -> None:
    actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=cast.bob.user, role="viewer")
    bob = signed_in(cast.bob)
    assert bob.get("/")["Location"] == "/w/acme/"
    bob.get("/w/globex/")
    assert bob.get("/")["Location"] == "/w/globex/"


def test_a_workspace_is_made_with_its_schema_and_its_owner(mallory: Person) -> None:
    client = signed_in(mallory)
    answer = client.post("/workspaces/new/", {"name": "Straßen & Brücken", "slug": "", "time_zone": "Europe/Vienna"})
    assert answer["Location"] == "/w/straen-brucken/"
    made = Workspace.objects.get(slug="straen-brucken")
    assert made.time_zone == "Europe/Vienna"
    assert Membership.objects.get(workspace=made).role == "owner"
    assert client.get(answer["Location"]).status_code == 200


@pytest.mark.parametrize(
    "given, field, said",
    [
        ({"slug": "acme"}, "slug", "taken"),
        ({"slug": "admin"}, "slug", "reserved"),
        ({"slug": "no spaces"}, "slug", "small letters"),
        ({"name": " "}, "name", "required"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "no such time zone"),
    ],
)
def test_a_workspace_that_cannot_be_is_refused_beside_the_field_and_half_of_nothing_is_made(
    given: dict[str, str], field: str, said: str, cast: Cast
) -> None:
    before = schemas(), Workspace.objects.count()
    answer = signed_in(cast.mallory).post(
        "/workspaces/new/", {"name": "Mallory Ltd", "slug": "mallory", "time_zone": "UTC"} | given
    )
    assert answer.status_code == 422
    assert said in field_error(answer, field)
    assert (schemas(), Workspace.objects.count()) == before
    if field != "name":
        assert 'value="Mallory Ltd"' in answer.content.decode()


def schemas() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace")
        return int(cursor.fetchone()[0])


def test_an_invitation_is_for_the_invited_address_only(cast: Cast) -> None:
    token = actions.invite(workspace=cast.acme, by=cast.alice.actor, email="mallory@example.com", role="member").text
    assert "Join Acme" in Client().get(f"/invitations/{token}/").content.decode()
    answer = signed_in(cast.bob).post(f"/invitations/{token}/")
    assert answer.status_code == 422
    assert "This invitation is for" in answer.content.decode()
    answer = signed_in(cast.mallory).post(f"/invitations/{token}/")
    assert answer["Location"] == "/w/acme/"
    assert Client().get(f"/invitations/{token}/").status_code == 404


def test_a_name_can_be_changed_on_the_profile(alice_client: Client, alice: Person) -> None:
    alice_client.post("/account/", {"name": "Alice in Acme"})
    alice.user.refresh_from_db()
    assert alice.user.name == "Alice in Acme"
