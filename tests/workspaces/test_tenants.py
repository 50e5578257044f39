"""Workspaces are made whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor
from django.test import TestCase

from config.env import ROOT
from tests.cast import Cast, make_user, make_workspace
from workspaces import actions, audit, policy_signal, schemas, tenancy
from workspaces.audit import Actor
from workspaces.directory.models import Department
from workspaces.errors import Invalid, NotThere, Taken, WrongState
from workspaces.models import Membership, Role, SchemaScript, VirtualKey, Workspace, WorkspaceState
from workspaces.vault.models import ProviderCredential

pytestmark = pytest.mark.django_db


SHAPE = """
    SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation, character_maximum_length
        FROM information_schema.columns WHERE table_schema = %s ORDER BY 1, ordinal_position;
    SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
        JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = %s ORDER BY 1, 2;
    SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY 1, 2;
    SELECT c.relname, p.polname, pg_get_expr(p.polqual, p.polrelid), c.relrowsecurity, c.relforcerowsecurity FROM pg_policy p
        JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s ORDER BY 1, 2;
    SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND NOT t.tgisinternal ORDER BY 1, 2
"""


def shape_of(schema: str) -> list[tuple]:
    """Everything PostgreSQL knows of a schema's tables, with the schema's own name taken out."""
    found = []
    with connection.cursor() as cursor:
        for query in SHAPE.split(";"):
            cursor.execute(query, [schema])
            found += [tuple(str(value).replace(schema, "SCHEMA") for value in row) for row in cursor.fetchall()]
    return found


def applied_in(workspace: Workspace) -> list[tuple]:
    with tenancy.entered(workspace), connection.cursor() as cursor:
        cursor.execute(f"SELECT id, app, name FROM {workspace.schema_name}.django_migrations ORDER BY id")
        return cursor.fetchall()


def test_a_replayed_schema_is_the_same_as_a_migrated_one() -> None:
    SchemaScript.objects.all().delete()
    owner = make_user("alice")
    migrated = make_workspace("migrated", owner)
    assert SchemaScript.objects.count() == 1
    replayed = make_workspace("replayed", owner)
    assert len(shape_of(migrated.schema_name)) > 50
    assert shape_of(replayed.schema_name) == shape_of(migrated.schema_name)
    assert applied_in(replayed) == applied_in(migrated)
    assert replayed.schema_version == migrated.schema_version == schemas.current_version()


def test_a_workspace_is_made_well_within_two_seconds_from_the_second_on(cast: Cast) -> None:
    started = time.perf_counter()
    make_workspace("third", cast.alice.user)
    assert time.perf_counter() - started < 2


def test_a_new_workspace_has_its_owner_its_schema_and_a_first_audit_record(cast: Cast) -> None:
    workspace = cast.acme
    assert workspace.schema_name == f"w_{workspace.id}"
    assert Membership.objects.get(workspace=workspace, user=cast.alice.user).role == Role.OWNER
    with tenancy.entered(workspace):
        assert ProviderCredential.objects.count() == 0
    assert audit.verify(workspace.id).records >= 1


def test_a_taken_slug_is_a_clear_error_and_leaves_nothing(cast: Cast) -> None:
    before = Workspace.objects.count()
    with pytest.raises(Taken) as caught:
        make_workspace("acme", cast.bob.user)
    assert caught.value.field == "slug"
    assert Workspace.objects.count() == before


@pytest.mark.parametrize(
    "slug", ["", "a", "-ab", "ab-", "a--b", "ABC", "a b", "äbc", "a_b", "api", "admin", "w", "123", "x" * 41, "a/b", "a\nb", "deleted-7", "ab\n"]
)  # fmt: skip
def test_a_slug_that_cannot_be_an_address_is_refused(slug: str) -> None:
    owner = make_user("alice")
    with pytest.raises(Invalid) as caught:
        make_workspace(slug, owner)
    assert caught.value.field == "slug"
    assert not Workspace.objects.exists()


def test_a_failure_at_the_last_step_leaves_neither_row_nor_schema() -> None:
    owner = make_user("alice")
    with connection.cursor() as cursor:  # the audit record is the last thing that is written
        cursor.execute(
            "ALTER TABLE workspaces_auditrecord ADD CONSTRAINT disk_full CHECK (action <> 'workspace.create')"
        )
    with pytest.raises(IntegrityError, match="disk_full"):
        make_workspace("acme", owner)
    assert not Workspace.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'w\\_%'")
        assert cursor.fetchone() == (0,)


def test_the_database_itself_refuses_a_schema_that_is_not_named_by_the_id(cast: Cast) -> None:
    with pytest.raises(IntegrityError):
        Workspace.objects.create(slug="evil", name="Evil", schema_name=cast.acme.schema_name + "x")


def test_renaming_keeps_an_unchanged_name_silent_and_tells_of_a_changed_one(cast: Cast) -> None:
    records = audit.verify(cast.acme.id).records
    actions.change_workspace(workspace=cast.acme, by=cast.alice.actor, name="Acme")
    assert audit.verify(cast.acme.id).records == records
    actions.change_workspace(
        workspace=cast.acme, by=cast.alice.actor, name="Acme Corp", slug="acme-corp", time_zone="Europe/Berlin"
    )
    assert Workspace.objects.get(slug="acme-corp").time_zone == "Europe/Berlin"
    with pytest.raises(Taken):
        actions.change_workspace(workspace=cast.acme, by=cast.alice.actor, slug="globex")
    with pytest.raises(Invalid):
        actions.change_workspace(workspace=cast.acme, by=cast.alice.actor, time_zone="Mars/Olympus")


def test_suspending_raises_the_policy_version_and_tells_admission_after_the_commit(cast: Cast) -> None:
    heard: list[policy_signal.PolicyChange] = []
    policy_signal.register(heard.append)
    try:
        before = cast.acme.policy_version
        with TestCase.captureOnCommitCallbacks(execute=True):
            actions.suspend_workspace(workspace=cast.acme, by=cast.alice.actor, reason="late payment")
            assert heard == []
        assert heard == [policy_signal.PolicyChange(cast.acme.id, before + 1, WorkspaceState.SUSPENDED)]
        with pytest.raises(WrongState):
            actions.suspend_workspace(workspace=cast.acme, by=cast.alice.actor)
        actions.resume_workspace(workspace=cast.acme, by=cast.alice.actor)
    finally:
        policy_signal._listeners.remove(heard.append)


def test_deleting_needs_the_slug_typed_and_leaves_no_key_no_secret_and_no_table(cast: Cast) -> None:
    actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="prod")
    with tenancy.entered(cast.acme):
        Department.objects.create(name="R&D")
    with pytest.raises(Invalid):
        actions.delete_workspace(workspace=cast.acme, by=cast.alice.actor, typed_slug="acm")
    actions.delete_workspace(workspace=cast.acme, by=cast.alice.actor, typed_slug="acme")
    row = Workspace.objects.get(pk=cast.acme.pk)
    assert row.state == WorkspaceState.DELETING
    assert not VirtualKey.objects.filter(workspace=row, revoked_at=None).exists()
    assert shape_of(row.schema_name) == []
    assert make_workspace("acme", cast.bob.user).id != row.id, "the address is free again"
    with pytest.raises(NotThere):
        actions.create_virtual_key(workspace=row, by=cast.alice.actor, name="late")


def test_a_deleted_workspace_is_purged_once_admission_has_heard_of_it(cast: Cast) -> None:
    actions.delete_workspace(workspace=cast.acme, by=cast.alice.actor, typed_slug="acme")
    assert actions.purge_deleted_workspaces() == 0
    Workspace.objects.filter(pk=cast.acme.pk).update(policy_pushed=cast.acme.policy_version)
    assert actions.purge_deleted_workspaces() == 1
    assert not Workspace.objects.filter(pk=cast.acme.pk).exists()
    assert audit.verify(cast.acme.pk).fault == "", "the audit log outlives the workspace"


def test_a_schema_that_is_behind_is_migrated_and_the_others_are_not_visited(cast: Cast) -> None:
    Workspace.objects.filter(pk=cast.globex.pk).update(schema_version="old")
    visited: list[Workspace] = []
    assert schemas.bring_up_to_date(visited.append) == 1
    assert visited == [cast.globex]
    assert schemas.bring_up_to_date() == 0


def test_schemas_that_are_behind_alike_are_migrated_by_the_statements_of_the_first(cast: Cast) -> None:
    shape = shape_of(cast.acme.schema_name)
    for workspace in (cast.acme, cast.globex):
        with tenancy.entered(workspace):
            MigrationExecutor(connection).migrate([("saved", None)])
        Workspace.objects.filter(pk=workspace.pk).update(schema_version="old")
    assert shape_of(cast.acme.schema_name) != shape
    assert schemas.bring_up_to_date() == 2
    assert shape_of(cast.acme.schema_name) == shape_of(cast.globex.schema_name) == shape
    assert applied_in(cast.acme) == applied_in(cast.globex)


def test_two_processes_share_the_migration_and_say_how_far_it_is(
    committed_cast: Cast, sluice_environment: dict[str, str]
) -> None:
    three = [committed_cast.acme, committed_cast.globex, make_workspace("third", committed_cast.bob.user)]
    for workspace in three:
        with tenancy.entered(workspace):
            MigrationExecutor(connection).migrate([("saved", None)])
    Workspace.objects.update(schema_version="old")
    command = [sys.executable, "manage.py", "migrate_workspaces", "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, env=sluice_environment, capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == ["1 of 3", "2 of 3", "3 of 3"]
    assert sorted(line.partition(": ")[2] for line in lines) == ["acme", "globex", "third"]
    assert last == "3 workspace schema(s) migrated"
    assert schemas.behind() == []
    assert len({tuple(shape_of(workspace.schema_name)) for workspace in three}) == 1


def test_an_operator_without_a_role_is_no_member(cast: Cast) -> None:
    assert Actor.person(cast.mallory.user).role is None
    assert not Membership.objects.filter(user=cast.mallory.user).exists()
