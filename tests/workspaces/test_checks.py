"""Start-up refuses what would let tenants meet, or secrets that are none."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings

from workspaces.checks import FirstConnection, pools_transactions


class Pooler:
    """PostgreSQL behind a pooler, as a client sees it: connections that borrow backends for a transaction or for as long as they live.

    What pgbouncer 1.18 does in its modes (tried with it): the backend that was given back last is lent first.
    """

    def __init__(self, mode: str, backends: int) -> None:
        self.mode, self.free = mode, [1000 + number for number in range(backends)]

    def connect(self) -> Any:
        return _Client(self)


class _Client:
    info = SimpleNamespace(backend_pid=1)  # a pooler makes this up

    def __init__(self, pooler: Pooler) -> None:
        self.pooler, self.backend, self.in_transaction = pooler, 0, False

    def cursor(self) -> _Client:
        return self

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str) -> None:
        if not self.backend:
            if not self.pooler.free:
                raise psycopg.OperationalError("query_wait_timeout")
            self.backend = self.pooler.free.pop()
        self.answer = self.backend
        self.in_transaction = self.in_transaction or sql == "BEGIN"
        if self.pooler.mode == "transaction" and not self.in_transaction:
            self.pooler.free.append(self.backend)
            self.backend = 0

    def fetchone(self) -> tuple[int]:
        return (self.answer,)


@pytest.mark.parametrize("backends", [2, 5, 20])
def test_a_transaction_pooler_is_found_out_and_a_session_pooler_is_not_accused(backends: int) -> None:
    transaction, session = Pooler("transaction", backends), Pooler("session", backends)
    assert pools_transactions(transaction.connect(), transaction.connect)
    assert not pools_transactions(session.connect(), session.connect)


@pytest.mark.django_db
def test_a_direct_connection_is_recognised_by_one_query() -> None:
    connection.ensure_connection()
    assert not pools_transactions(connection.connection, connect=None)


def test_a_process_behind_a_transaction_pooler_refuses_its_first_and_every_later_connection() -> None:
    pooler = Pooler("transaction", 3)
    watch, closed = FirstConnection(connect=lambda parameters: pooler.connect()), []
    wrapper = SimpleNamespace(connection=pooler.connect(), close=lambda: closed.append(1), get_connection_params=dict)
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="transaction mode"):
            watch.look(wrapper)
    assert len(closed) == 2


@pytest.mark.parametrize("name", ["MASTER_KEY", "PEPPER"])
@pytest.mark.parametrize("value", ["short", base64.b64encode(b"x" * 8).decode(), "not base64 at all !!!"])
def test_a_bad_secret_is_an_error_of_manage_py_check(name: str, value: str) -> None:
    with override_settings(**{name: value}):
        found = run_checks(tags=[Tags.security])
    assert any(f"SLUICE_{name}" in error.msg for error in found)


def test_good_secrets_pass() -> None:
    assert not [error for error in run_checks(tags=[Tags.security]) if error.id and error.id.startswith("workspaces")]


@pytest.mark.django_db
def test_the_tests_own_role_is_bound_by_row_level_security() -> None:
    assert not [
        error for error in run_checks(databases=["default"], tags=[Tags.database]) if error.id == "workspaces.W003"
    ]
