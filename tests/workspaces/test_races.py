"""Several at once, on connections of their own: one wins, nothing deadlocks, no chain forks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tests.cast import Cast, make_workspace
from workspaces import actions, audit
from workspaces.errors import Refused, Taken
from workspaces.models import Role, VirtualKey, Workspace

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(act: Callable[[int], Any], times: int) -> list[Any]:
    """Each result, or the refusal it ended in; any other error fails the test."""

    def one(number: int) -> Any:
        try:
            return act(number)
        except Refused as refused:
            return refused
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(one, range(times)))


def test_of_eight_who_want_one_slug_one_gets_it(committed_cast: Cast) -> None:
    results = at_once(lambda number: make_workspace("wanted", committed_cast.bob.user), 8)
    assert sum(isinstance(result, Workspace) for result in results) == 1
    assert sum(isinstance(result, Taken) for result in results) == 7
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'w\\_%'")
        assert cursor.fetchone() == (Workspace.objects.count(),)


def test_workspaces_are_made_side_by_side(committed_cast: Cast) -> None:
    results = at_once(lambda number: make_workspace(f"side-{number}", committed_cast.bob.user), 6)
    assert all(isinstance(result, Workspace) for result in results)


def test_writers_of_one_workspace_keep_one_chain_and_one_order_of_versions(committed_cast: Cast) -> None:
    acme, alice, version = committed_cast.acme, committed_cast.alice.actor, committed_cast.acme.policy_version

    def act(number: int) -> None:
        mine = Workspace.objects.get(pk=acme.pk)
        minted = actions.create_virtual_key(workspace=mine, by=alice, name=f"key {number}")
        actions.change_virtual_key(workspace=mine, by=alice, key_id=minted.row.id, name="renamed")
        actions.revoke_virtual_key(workspace=mine, by=alice, key_id=minted.row.id)

    before = audit.verify(acme.id).records
    assert at_once(act, 8) == [None] * 8
    assert VirtualKey.objects.filter(workspace=acme, revoked_at=None).count() == 0
    acme.refresh_from_db()
    assert acme.policy_version == version + 24
    verdict = audit.verify(acme.id)
    assert (verdict.records, verdict.fault) == (before + 24, "")


def test_two_owners_who_remove_each_other_leave_one(committed_cast: Cast) -> None:
    acme, alice, ann = committed_cast.acme, committed_cast.alice, committed_cast.ann
    assert alice.membership
    assert ann.membership
    actions.change_member(workspace=acme, by=alice.actor, membership_id=ann.membership.id, role=Role.OWNER)

    def leave(number: int) -> None:
        person = (alice, ann)[number]
        assert person.membership
        actions.remove_member(
            workspace=Workspace.objects.get(pk=acme.pk), by=person.actor, membership_id=person.membership.id
        )

    at_once(leave, 2)
    assert list(acme.memberships.values_list("role", flat=True)) == [Role.OWNER]
