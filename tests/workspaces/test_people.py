"""Members, invitations, directory: a workspace keeps its owner, and nobody makes anybody stronger than themselves."""

from __future__ import annotations

import re

import pytest
from django.core import mail
from django.test import TestCase
from django.utils import timezone

from tests.cast import Cast, make_user, token_of
from workspaces import actions, keys, tenancy
from workspaces.audit import Actor
from workspaces.directory.models import Agent, Department
from workspaces.errors import Invalid, NotAllowed, NotThere, Taken, WrongState
from workspaces.models import Invitation, Membership, Role, VirtualKey
from workspaces.roles import RANK, may_give

pytestmark = pytest.mark.django_db


def admin_of(cast: Cast) -> Membership:
    return actions.add_member(workspace=cast.acme, by=cast.alice.actor, user=cast.mallory.user, role=Role.ADMIN)


def test_an_admin_makes_nobody_an_owner_and_unmakes_none(cast: Cast) -> None:
    admin = Actor.member(admin_of(cast))
    assert cast.alice.membership
    assert cast.ann.membership
    with pytest.raises(NotAllowed):
        actions.change_member(workspace=cast.acme, by=admin, membership_id=cast.ann.membership.id, role=Role.OWNER)
    with pytest.raises(NotAllowed):
        actions.change_member(workspace=cast.acme, by=admin, membership_id=cast.alice.membership.id, role=Role.VIEWER)
    with pytest.raises(NotAllowed):
        actions.remove_member(workspace=cast.acme, by=admin, membership_id=cast.alice.membership.id)
    with pytest.raises(NotAllowed):
        actions.invite(workspace=cast.acme, by=admin, email="x@example.com", role=Role.OWNER)
    assert (
        actions.change_member(
            workspace=cast.acme, by=admin, membership_id=cast.ann.membership.id, role=Role.MEMBER
        ).role
        == "member"
    )


def test_somebody_without_a_role_in_the_workspace_gives_and_takes_none(cast: Cast) -> None:
    for stranger in (Actor.person(cast.mallory.user), Actor("anonymous"), cast.ann.actor):
        with pytest.raises(NotAllowed):
            actions.add_member(workspace=cast.acme, by=stranger, user=cast.mallory.user, role=Role.VIEWER)
        with pytest.raises(NotAllowed):
            actions.invite(workspace=cast.acme, by=stranger, email="x@example.com", role=Role.VIEWER)


def test_no_role_gives_a_role_above_its_own() -> None:
    for giver in Role:
        for role in Role:
            if may_give(giver, role):
                assert RANK[giver] >= RANK[role]
                assert giver in (Role.OWNER, Role.ADMIN)


def test_the_last_owner_neither_leaves_nor_steps_down(cast: Cast) -> None:
    assert cast.alice.membership
    for act in (
        lambda: actions.remove_member(workspace=cast.acme, by=cast.alice.actor, membership_id=cast.alice.membership.id),
        lambda: actions.change_member(
            workspace=cast.acme, by=cast.alice.actor, membership_id=cast.alice.membership.id, role=Role.ADMIN
        ),
    ):
        with pytest.raises(WrongState, match="needs an owner"):
            act()
    assert cast.ann.membership
    actions.change_member(
        workspace=cast.acme, by=cast.alice.actor, membership_id=cast.ann.membership.id, role=Role.OWNER
    )
    actions.remove_member(workspace=cast.acme, by=cast.alice.actor, membership_id=cast.alice.membership.id)
    assert Membership.objects.get(workspace=cast.acme).user == cast.ann.user


def test_whoever_leaves_takes_neither_token_nor_key_along(cast: Cast) -> None:
    text = token_of(cast.ann)
    assert cast.ann.membership
    key = actions.create_virtual_key(
        workspace=cast.acme, by=cast.alice.actor, name="ann's", member_id=cast.ann.membership.id
    ).row
    before = cast.acme.policy_version
    actions.remove_member(workspace=cast.acme, by=cast.ann.actor, membership_id=cast.ann.membership.id)
    assert keys.recognise_token(text) is None
    assert VirtualKey.objects.get(pk=key.pk).revoked_at is not None
    assert cast.acme.policy_version > before


def test_an_invitation_is_mailed_and_accepted_once_by_its_address_only(cast: Cast) -> None:
    with TestCase.captureOnCommitCallbacks(execute=True):
        actions.invite(workspace=cast.acme, by=cast.alice.actor, email=" Carol@Example.com ", role=Role.MEMBER)
    assert mail.outbox[0].to == ["carol@example.com"]
    token = re.search(r"/invitations/([\w-]+)/", mail.outbox[0].body)
    assert token
    carol = make_user("carol")
    with pytest.raises(NotAllowed):
        actions.accept_invitation(token=token[1], user=cast.mallory.user, by=Actor.person(cast.mallory.user))
    member = actions.accept_invitation(token=token[1], user=carol, by=Actor.person(carol))
    assert (member.workspace, member.role) == (cast.acme, Role.MEMBER)
    with pytest.raises(NotThere):
        actions.accept_invitation(token=token[1], user=carol, by=Actor.person(carol))
    with pytest.raises(Taken):
        actions.invite(workspace=cast.acme, by=cast.alice.actor, email="carol@example.com", role=Role.MEMBER)


def test_a_second_invitation_replaces_the_first_and_a_withdrawn_or_late_one_opens_nothing(cast: Cast) -> None:
    first = actions.invite(workspace=cast.acme, by=cast.alice.actor, email="carol@example.com", role=Role.OWNER)
    second = actions.invite(workspace=cast.acme, by=cast.alice.actor, email="carol@example.com", role=Role.VIEWER)
    with pytest.raises(NotThere):
        actions.find_invitation(first.text)
    assert actions.find_invitation(second.text).role == Role.VIEWER
    Invitation.objects.filter(pk=second.row.pk).update(expires_at=timezone.now())
    with pytest.raises(NotThere):
        actions.find_invitation(second.text)
    third = actions.invite(workspace=cast.acme, by=cast.alice.actor, email="carol@example.com", role=Role.VIEWER)
    with pytest.raises(NotThere):
        actions.withdraw_invitation(workspace=cast.globex, by=cast.bob.actor, invitation_id=third.row.id)
    actions.withdraw_invitation(workspace=cast.acme, by=cast.alice.actor, invitation_id=third.row.id)
    with pytest.raises(NotThere):
        actions.find_invitation(third.text)


@pytest.mark.parametrize("email", ["", "x", "a@b\r\nBcc: c@d.com", "a b@example.com", None, "@example.com"])
def test_a_bad_address_is_refused(cast: Cast, email: str) -> None:
    with pytest.raises(Invalid):
        actions.invite(workspace=cast.acme, by=cast.alice.actor, email=email, role=Role.VIEWER)


@pytest.mark.parametrize("role", ["", "root", "OWNER", None])
def test_an_unknown_role_is_refused(cast: Cast, role: str) -> None:
    with pytest.raises(Invalid):
        actions.invite(workspace=cast.acme, by=cast.alice.actor, email="x@example.com", role=role)


def test_members_of_another_workspace_are_not_there(cast: Cast) -> None:
    assert cast.bob.membership
    with pytest.raises(NotThere):
        actions.remove_member(workspace=cast.acme, by=cast.alice.actor, membership_id=cast.bob.membership.id)
    with pytest.raises(NotThere):
        actions.change_member(
            workspace=cast.acme, by=cast.alice.actor, membership_id=cast.bob.membership.id, role=Role.VIEWER
        )


def test_departments_and_agents_are_the_workspaces_own(cast: Cast) -> None:
    department = actions.add_department(workspace=cast.acme, by=cast.alice.actor, name="R&D")
    agent = actions.add_agent(workspace=cast.acme, by=cast.alice.actor, name="crawler", department_id=department.id)
    actions.add_department(workspace=cast.globex, by=cast.bob.actor, name="R&D")
    with pytest.raises(Taken):
        actions.add_department(workspace=cast.acme, by=cast.alice.actor, name="R&D")
    with pytest.raises(NotThere):
        actions.remove_department(workspace=cast.globex, by=cast.bob.actor, department_id=department.id)
    assert cast.ann.membership
    ann = actions.change_member(
        workspace=cast.acme, by=cast.alice.actor, membership_id=cast.ann.membership.id, department_id=department.id
    )
    assert ann.department_id == department.id
    actions.remove_department(workspace=cast.acme, by=cast.alice.actor, department_id=department.id)
    ann.refresh_from_db()
    assert ann.department_id is None
    with tenancy.entered(cast.acme):
        assert Agent.objects.get(pk=agent.pk).department is None
        assert not Department.objects.exists()
    actions.remove_agent(workspace=cast.acme, by=cast.alice.actor, agent_id=agent.id)
