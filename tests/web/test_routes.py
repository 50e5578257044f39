"""Every page route, walked: signed out, from another tenant, in every role; and what every answer carries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.cast import Cast, make_user, signed_in
from workspaces import actions, roles, tenancy
from workspaces.models import Role
from workspaces.roles import Action

OPEN = {"home", "workspace_new", "invitation", "profile", "unsubscribe", "api_reference", "api_reference_group"}
"""Routes outside any workspace. Each is tested on its own; a new one has to be added here on purpose."""

pytestmark = pytest.mark.django_db


def routes() -> Iterator[tuple[str, str, URLPattern]]:
    """(name, path as written, pattern) of every route that is ours and no library's or the API's."""

    def walk(prefix: str, patterns: list[Any]) -> Iterator[tuple[str, str, URLPattern]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                if not path.startswith(("accounts/", "api/")):
                    yield from walk(path, pattern.url_patterns)
            elif not path.startswith("^api/"):
                yield str(pattern.name), path, pattern

    return walk("", get_resolver().url_patterns)


INSIDE = [(name, path, pattern) for name, path, pattern in routes() if path.startswith("w/<str:slug>/")]
VALUES = {"kind": "daily_hard_stop", "delivery_id": "1"}


def address(path: str, slug: str) -> str:
    """The path with a workspace and with ids that exist nowhere."""

    def value(match: re.Match[str]) -> str:
        converter, name = match.group(1), match.group(2)
        if name == "slug":
            return slug
        return str(uuid4()) if converter == "uuid" else VALUES[name]

    return "/" + re.sub(r"<(\w+):(\w+)>", value, path)


def needs(pattern: URLPattern) -> Action:
    action = getattr(pattern.callback, "needs", None)
    assert isinstance(action, Action), f"{pattern.name} does not say which action of the role table it needs"
    return action


def test_every_route_is_inside_a_workspace_or_listed_as_open() -> None:
    outside = {name for name, path, _ in routes() if not path.startswith("w/<str:slug>/")}
    assert outside == OPEN
    assert len(INSIDE) > 25


@pytest.mark.parametrize("name, path, pattern", INSIDE, ids=[route[0] for route in INSIDE])
def test_a_signed_out_visitor_is_sent_to_sign_in(name: str, path: str, pattern: URLPattern, cast: Cast) -> None:
    for method in ("get", "post"):
        answer = getattr(Client(), method)(address(path, "acme"))
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/login/?next=/w/acme/")


@pytest.mark.parametrize("name, path, pattern", INSIDE, ids=[route[0] for route in INSIDE])
def test_bob_of_globex_finds_nothing_at_acme(name: str, path: str, pattern: URLPattern, cast: Cast) -> None:
    bob = signed_in(cast.bob)
    for method in ("get", "post"):
        theirs = getattr(bob, method)(address(path, "acme"))
        nobodys = getattr(bob, method)(address(path, "no-such-place"))
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.content == nobodys.content


@pytest.mark.parametrize("role", Role.values)
def test_each_role_opens_what_the_role_table_gives_it_and_no_more(role: str, cast: Cast) -> None:
    somebody = make_user(f"some-{role}")
    member = actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=somebody, role=role)
    with tenancy.entered(cast.acme):  # a lead sees a department's, or nothing
        sales = actions.add_department(workspace=cast.acme, by=cast.alice.actor, name="Sales")
        actions.change_member(workspace=cast.acme, by=cast.alice.actor, membership_id=member.id, department_id=sales.id)
    client = Client()
    client.force_login(somebody)
    for name, path, pattern in INSIDE:
        for method in ("get", "post"):
            status = getattr(client, method)(address(path, "acme")).status_code
            allowed = roles.may(role, needs(pattern), narrows=pattern.callback.narrows)
            assert (status != 403) == allowed or status == 405, f"{role} {method} {name}: {status}"
            assert status < 500, f"{role} {method} {name}: {status}"
            if not allowed:
                assert status in (403, 405)


ABSURD = (
    "\x00",
    "9" * 40,
    "-1",
    "NaN",
    "0001-01-01",
    "99999-99-99",
    "\ud800",
    "<script>alert(1)</script>",
    "é" * 5000,
    "%00",
    "(1,2)",
    "{}",
)
ASKED = ("q", "page", "before", "after", "cursor", "kind", "state", "category", "provider", "seen", "by", "then", "metric", "grain", "range", "from",
         "to", "compare", "filter", "value", "customer", "user", "actor", "action", "password", "number", "days")  # fmt: skip
"""Everything some page reads from its address, and some that none does."""
TYPED = ("name", "cap", "amount", "limit", "value", "scope", "by", "period", "reset_day", "expires_on", "allowed_models", "label", "email", "role",
         "time_zone", "currency", "rate", "calls_shown_days", "typed_slug", "reason", "secret", "provider", "base_url", "query", "view", "strategy",
         "alert_percent", "throttle_percent", "kill_percent", "notify", "metric", "burst", "targets", "alias", "url", "kinds", "hours", "days",
         "on")  # fmt: skip


@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.long) for turn in range(1, len(ABSURD)))])
def test_whatever_stands_in_an_address_or_a_form_no_page_breaks(cast: Cast, turn: int) -> None:
    """Each field gets another absurdity, each turn another one; what decides about a NUL (`q`) gets it in the first."""

    def absurd(place: int) -> str:
        return ABSURD[(place + turn) % len(ABSURD)]

    alice = signed_in(cast.alice)
    alice.raise_request_exception = False
    given = "&".join(f"{name}={quote(absurd(place), errors='surrogatepass')}" for place, name in enumerate(ASKED))
    typed = {name: absurd(place).encode("utf-8", "replace").decode() for place, name in enumerate(TYPED)}
    wrong = []
    for name, path, _ in INSIDE:
        if "delete" in name:
            continue
        where = address(path, "acme")
        for answer in (alice.get(f"{where}?{given}"), alice.post(where, typed)):
            if answer.status_code >= 500 or (not answer.streaming and b"<script>alert" in answer.content):
                wrong.append(f"{answer.wsgi_request.method} {name}: {answer.status_code}")
    assert wrong == []


INLINE = (
    re.compile(r"<[^>]+\sstyle\s*=", re.IGNORECASE),
    re.compile(r"<style[\s>]", re.IGNORECASE),
    re.compile(r"<[^>]+\son[a-z]+\s*=", re.IGNORECASE),
    re.compile(r"<script(?![^>]*\ssrc=)[^>]*>", re.IGNORECASE),
    re.compile(r"javascript:", re.IGNORECASE),
    re.compile(r"""(?:src|href)=["'](?:https?:)?//(?!testserver)""", re.IGNORECASE),
)


def assert_keeps_to_the_policy(answer: Any) -> None:
    """Nothing inline, nothing from elsewhere, and the headers that say so (SECURITY.md S55)."""
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    page = (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()
    for pattern in INLINE:
        assert not pattern.search(page), f"{pattern.pattern}: {pattern.search(page)}"


@pytest.mark.parametrize("name, path, pattern", INSIDE, ids=[route[0] for route in INSIDE])
def test_every_page_keeps_to_the_content_policy_and_is_not_cached(
    name: str, path: str, pattern: URLPattern, alice_client: Client
) -> None:
    answer = alice_client.get(address(path, "acme"))
    assert answer.status_code in (200, 404, 405)
    if answer.status_code != 405:
        assert_keeps_to_the_policy(answer)
    if answer.status_code == 200:
        assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
        "/nothing/here/",
        "/reference/",
        "/reference/budgets/",
    ],
)
def test_pages_for_visitors_keep_to_the_content_policy(path: str) -> None:
    assert_keeps_to_the_policy(Client().get(path))


@pytest.mark.parametrize(
    "path",
    [
        "/account/",
        "/workspaces/new/",
        "/accounts/email/",
        "/accounts/password/change/",
        "/accounts/reauthenticate/",
        "/accounts/2fa/",
        "/accounts/logout/",
    ],
)
def test_account_pages_keep_to_the_content_policy(path: str, alice_client: Client) -> None:
    answer = alice_client.get(path, follow=True)
    assert answer.status_code == 200
    assert_keeps_to_the_policy(answer)


def test_a_write_without_the_form_s_token_is_refused(cast: Cast) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.alice.user)
    answer = strict.post("/w/acme/keys/new/", {"name": "x", "environment": "production"})
    assert answer.status_code == 403
    assert "Please send that again" in answer.content.decode()


def test_the_session_cookie_is_closed_to_scripts_and_other_sites(cast: Cast) -> None:
    client = signed_in(cast.alice)
    client.get("/")
    cookie = client.cookies["sluice_session"]
    answer = Client().post("/accounts/login/", {"login": cast.alice.email, "password": "wrong"})
    assert cookie.value
    assert answer.cookies["sluice_csrf"]["httponly"]
    assert answer.cookies["sluice_csrf"]["samesite"] == "Lax"


def test_the_sidebar_leads_to_every_page_of_a_role_and_marks_the_one_that_is_open(alice_client: Client) -> None:
    page = alice_client.get("/w/acme/tokens/").content.decode()
    linked = re.findall(r'<a class="nav-item" href="/w/acme/([^"]*)"( aria-current="page")?', page)
    assert [path for path, _ in linked] == [
        "",
        "explorer/",
        "calls/",
        "alerts/anomalies/",
        "waste/",
        "guardrails/",
        "alerts/",
        "connect/",
        "keys/",
        "vault/",
        "members/",
        "directory/",
        "audit/",
        "tokens/",
        "settings/",
    ]
    assert [path for path, current in linked if current] == ["tokens/"]
