"""The permanent cast: Acme (Alice owner, Ann analyst), Globex (Bob owner), Mallory (nobody). `pytest_plugins` in the root conftest, or import.

`cast` makes them all in the database; `alice`, `acme` and so on are its members, for tests that need one. Web: `alice_client` is signed in.
API: `api("alice")` is a client with Alice's token. Passwords are `PASSWORD`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password
from django.test import Client
from rest_framework.test import APIClient

from workspaces import actions, roles
from workspaces.audit import Actor
from workspaces.models import Membership, Role, User, Workspace

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Person:
    user: User
    workspace: Workspace | None = None
    membership: Membership | None = None

    @property
    def email(self) -> str:
        return self.user.email

    @property
    def actor(self) -> Actor:
        return Actor.person(self.user) if self.membership is None else Actor.member(self.membership)


@dataclass(frozen=True, slots=True)
class Cast:
    acme: Workspace
    globex: Workspace
    alice: Person
    """Owner of Acme."""
    ann: Person
    """Viewer (an analyst) in Acme."""
    bob: Person
    """Owner of Globex."""
    mallory: Person
    """Signed up, member of nothing."""

    def __getitem__(self, name: str) -> Person:
        return getattr(self, name)


@lru_cache
def _hashed() -> str:
    """Argon2 is slow on purpose: once a process is enough."""
    return make_password(PASSWORD)


def make_user(name: str) -> User:
    """A person with a verified address `<name>@example.com` and the password `PASSWORD`."""
    user = User.objects.create(email=f"{name}@example.com", name=name.title(), password=_hashed())
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def make_workspace(slug: str, owner: User) -> Workspace:
    return actions.create_workspace(slug=slug, name=slug.title(), owner=owner, by=Actor.person(owner))


def make_cast() -> Cast:
    alice, ann, bob, mallory = (make_user(name) for name in ("alice", "ann", "bob", "mallory"))
    acme, globex = make_workspace("acme", alice), make_workspace("globex", bob)
    owner = Membership.objects.select_related("user", "workspace").get(workspace=acme, user=alice)
    analyst = actions.add_member(workspace=acme, by=Actor.member(owner), user=ann, role=Role.VIEWER)
    globex_owner = Membership.objects.select_related("user", "workspace").get(workspace=globex, user=bob)
    return Cast(
        acme,
        globex,
        Person(alice, acme, owner),
        Person(ann, acme, analyst),
        Person(bob, globex, globex_owner),
        Person(mallory),
    )


def find_cast() -> Cast:
    """The cast of the database's template (tests/conftest.py), made here and now where it is not in it."""
    people = {user.email: user for user in User.objects.filter(email__endswith="@example.com")}
    if not people:
        return make_cast()
    acme, globex = Workspace.objects.get(slug="acme"), Workspace.objects.get(slug="globex")
    members = {row.user.email: row for row in Membership.objects.select_related("user", "workspace")}

    def person(name: str, workspace: Workspace | None = None) -> Person:
        address = f"{name}@example.com"
        return Person(people[address], workspace, members.get(address))

    return Cast(acme, globex, person("alice", acme), person("ann", acme), person("bob", globex), person("mallory"))


@pytest.fixture
def cast(db: None) -> Cast:
    return find_cast()


@pytest.fixture
def committed_cast(transactional_db: None) -> Cast:
    """The same cast, committed: for tests with several connections, threads, processes, or on-commit effects."""
    return find_cast()


@pytest.fixture
def acme(cast: Cast) -> Workspace:
    return cast.acme


@pytest.fixture
def globex(cast: Cast) -> Workspace:
    return cast.globex


@pytest.fixture
def alice(cast: Cast) -> Person:
    return cast.alice


@pytest.fixture
def ann(cast: Cast) -> Person:
    return cast.ann


@pytest.fixture
def bob(cast: Cast) -> Person:
    return cast.bob


@pytest.fixture
def mallory(cast: Cast) -> Person:
    return cast.mallory


def signed_in(person: Person) -> Client:
    client = Client()
    client.force_login(person.user)
    return client


@pytest.fixture
def alice_client(alice: Person) -> Client:
    return signed_in(alice)


@pytest.fixture
def ann_client(ann: Person) -> Client:
    return signed_in(ann)


@pytest.fixture
def bob_client(bob: Person) -> Client:
    return signed_in(bob)


@pytest.fixture
def mallory_client(mallory: Person) -> Client:
    return signed_in(mallory)


def token_of(person: Person, *scopes: str) -> str:
    """An API token of a member, with every scope their role can use unless some are named."""
    assert person.workspace is not None
    assert person.membership is not None
    return actions.create_api_token(
        workspace=person.workspace,
        by=person.actor,
        membership=person.membership,
        name="tests",
        scopes=scopes or sorted(roles.scopes_of(person.membership.role)),
    ).text


@pytest.fixture
def api(cast: Cast) -> Callable[..., APIClient]:
    """`api("alice")`, `api("alice", "read")`: a REST client with a token; `api()` without one."""

    def client(name: str | None = None, *scopes: str) -> APIClient:
        rest = APIClient()
        if name is not None:
            rest.credentials(HTTP_AUTHORIZATION=f"Bearer {token_of(cast[name], *scopes)}")
        return rest

    return client
