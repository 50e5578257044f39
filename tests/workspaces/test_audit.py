"""The audit log cannot be changed, and says so when somebody managed to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cast import PASSWORD, Cast
from workspaces import actions, audit, tenancy
from workspaces.audit import Actor
from workspaces.domain.audit_chain import GENESIS, Link, plain
from workspaces.models import AuditRecord

pytestmark = pytest.mark.django_db


def tamper(sql: str, *parameters: object) -> None:
    """As somebody would who owns the table: without its triggers."""
    with tenancy.every_workspace("playing the thief"), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE workspaces_auditrecord DISABLE TRIGGER USER")
        cursor.execute(sql, list(parameters))
        cursor.execute("ALTER TABLE workspaces_auditrecord ENABLE ALWAYS TRIGGER audit_append_only")
        cursor.execute("ALTER TABLE workspaces_auditrecord ENABLE ALWAYS TRIGGER audit_no_truncate")


def some_history(cast: Cast) -> int:
    for number in range(5):
        actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name=f"key {number}")
    return audit.verify(cast.acme.id).records


UPSERT = """
    INSERT INTO workspaces_auditrecord (workspace_id, number, at, actor, address, action, target, before, after, previous_hash, hash)
    SELECT workspace_id, number, at, 'x', address, action, target, before, after, previous_hash, hash FROM workspaces_auditrecord
    ON CONFLICT (workspace_id, number) DO UPDATE SET actor = 'x'
"""


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE workspaces_auditrecord SET actor = 'nobody'",
        "DELETE FROM workspaces_auditrecord",
        "TRUNCATE workspaces_auditrecord",
        UPSERT,
    ],
)
def test_a_record_can_be_neither_changed_nor_removed(cast: Cast, sql: str) -> None:
    with tenancy.entered(cast.acme), pytest.raises(ProgrammingError, match="append-only"), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(sql)
    assert audit.verify(cast.acme.id).fault == ""


def test_an_intact_chain_verifies(cast: Cast) -> None:
    records = some_history(cast)
    out = StringIO()
    call_command("verify_audit", "--json", stdout=out)
    shown = {line["workspace_id"]: line for line in map(json.loads, out.getvalue().splitlines())}
    assert shown[cast.acme.id]["records"] == records >= 6
    assert all(not line["fault"] for line in shown.values())


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        (
            "UPDATE workspaces_auditrecord SET actor = 'bob' WHERE workspace_id = %s AND number = 3",
            "record 3 was changed",
        ),
        (
            "UPDATE workspaces_auditrecord SET at = at + interval '1 us' WHERE workspace_id = %s AND number = 2",
            "record 2 was changed",
        ),
        (
            "UPDATE workspaces_auditrecord SET after = '{}' WHERE workspace_id = %s AND number = 4",
            "record 4 was changed",
        ),
        ("DELETE FROM workspaces_auditrecord WHERE workspace_id = %s AND number = 3", "record 3 is missing"),
        ("DELETE FROM workspaces_auditrecord WHERE workspace_id = %s AND number = 1", "record 1 is missing"),
    ],
)
def test_a_changed_or_missing_record_is_named(cast: Cast, sql: str, fault: str) -> None:
    some_history(cast)
    tamper(sql, cast.acme.id)
    assert audit.verify(cast.acme.id).fault == fault
    with pytest.raises(CommandError, match="1 audit chain"):
        call_command("verify_audit", stdout=StringIO())
    call_command("verify_audit", "--workspace", "globex", stdout=StringIO())


def test_a_tail_that_was_cut_off_shows_against_the_heads_kept_elsewhere(cast: Cast, tmp_path: Path) -> None:
    records, heads = some_history(cast), tmp_path / "heads.json"
    call_command("verify_audit", "--heads", str(heads), stdout=StringIO())
    actions.create_virtual_key(workspace=cast.acme, by=cast.alice.actor, name="later")
    call_command("verify_audit", "--heads", str(heads), stdout=StringIO())
    tamper("DELETE FROM workspaces_auditrecord WHERE workspace_id = %s AND number > %s", cast.acme.id, records - 1)
    assert audit.verify(cast.acme.id).fault == "", "in itself it looks whole"
    with pytest.raises(CommandError):
        call_command("verify_audit", "--heads", str(heads), stdout=StringIO())


def test_what_is_rolled_back_is_not_in_the_log(cast: Cast) -> None:
    before = audit.verify(cast.acme.id).records

    def interrupted() -> None:
        with transaction.atomic():
            audit.record(workspace=cast.acme, by=cast.alice.actor, action="x")
            raise ValueError

    with pytest.raises(ValueError):
        interrupted()
    assert audit.verify(cast.acme.id).records == before


def test_hostile_values_neither_break_the_chain_nor_are_lost(cast: Cast) -> None:
    nasty = {
        "nul": "a\0b",
        "float": 0.1,
        "big": 10**30,
        "deep": {"ü": [1, None, True, {"x": "\ud800"}]},
        "line": "a\nb",
    }
    audit.record(
        workspace=cast.acme, by=Actor("x" * 1000, "y" * 1000), action="x", target="z" * 1000, before=nasty, after=nasty
    )
    verdict = audit.verify(cast.acme.id)
    assert verdict.fault == ""
    with tenancy.entered(cast.acme):
        assert AuditRecord.objects.latest("number").after["big"] == 10**30


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text loads Unicode's tables
@given(value=json_like)
def test_a_plain_value_survives_json_so_that_its_hash_does(value: object) -> None:
    once = plain(value)
    assert json.loads(json.dumps(once)) == once
    assert plain(once) == once


@given(st.integers(0, 8), st.text(max_size=3))
def test_each_field_is_in_the_hash(field: int, text: str) -> None:
    base: list = [1, 2, datetime(2026, 1, 1, tzinfo=UTC), "actor", "address", "action", "target", {"a": 1}, {"b": 2}]
    changed = list(base)
    changed[field] = {0: 7, 1: 7, 2: datetime(2026, 1, 2, tzinfo=UTC), 7: {"z": text}, 8: {"z": text}}.get(
        field, "other" + text
    )
    assert Link(*base).hash_after(GENESIS) != Link(*changed).hash_after(GENESIS)
    assert Link(*base).hash_after(GENESIS) != Link(*base).hash_after(b"\1" * 32)


def test_a_login_and_a_failed_one_are_in_the_installations_log(cast: Cast) -> None:
    client = Client()
    client.post("/accounts/login/", {"login": "alice@example.com", "password": "wrong"})
    client.post("/accounts/login/", {"login": "alice@example.com", "password": PASSWORD})
    with tenancy.every_workspace("reading the installation's chain"):
        rows = list(
            AuditRecord.objects.filter(workspace_id=0).order_by("number").values_list("action", "actor", "address")
        )
    assert rows == [("login.failed", "alice@example.com", "127.0.0.1"), ("login", "alice@example.com", "127.0.0.1")]
    assert audit.verify(0).fault == ""
