"""What must be true of secrets and database before anything is served.

The secrets are ordinary system checks. The database is looked at by each process on its first connection, whoever opens it (server,
worker, command): behind a pooler in transaction mode one tenant's `search_path` is another one's, and the process refuses to go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import psycopg
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.backends.signals import connection_created

from workspaces import keys
from workspaces.vault import door

log = logging.getLogger(__name__)
MOST_RIVALS = 30
TRANSACTION_POOLING = (
    "PostgreSQL is behind a pooler in transaction mode: one tenant would read another one's rows. "
    "Point DATABASE_URL at PostgreSQL itself, or set pgbouncer's pool_mode to session."
)
UNBOUND_ROLE = "The database role is a superuser or has BYPASSRLS: row-level security, the second wall between tenants, does not bind it."


@register(Tags.security)
def secrets_are_good(app_configs: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Master key and pepper are 32 random bytes each, where they are set at all (production needs them)."""
    found: list[CheckMessage] = []
    if settings.MASTER_KEY or settings.PRODUCTION:
        try:
            door.master_keys()
        except door.VaultUnavailable as error:
            found.append(Error(str(error), hint=error.hint, id="workspaces.E001"))
    if settings.PEPPER or settings.PRODUCTION:
        try:
            keys.peppers()
        except ImproperlyConfigured as error:
            found.append(Error(str(error), id="workspaces.E002"))
    return found


@register(Tags.database)
def row_level_security_binds(app_configs: Any = None, databases: Any = None, **kwargs: Any) -> Iterable[CheckMessage]:
    if databases and _role_is_unbound():
        return [
            CheckWarning(UNBOUND_ROLE, hint="Use a role that owns the database and nothing more.", id="workspaces.W003")
        ]
    return []


def _rival(parameters: dict[str, Any]) -> psycopg.Connection[Any]:
    """A connection beside Django's own."""
    return psycopg.connect(**{**parameters, "autocommit": True})


class FirstConnection:
    """Looks at the database once a process. `watch()` at start-up."""

    def __init__(self, connect: Callable[[dict[str, Any]], Any] = _rival) -> None:
        self.connect = connect
        self.looked = False

    def watch(self) -> None:
        connection_created.connect(self.look, weak=False, dispatch_uid="workspaces.first_connection")

    def look(self, connection: Any, **_: Any) -> None:
        """Raises ImproperlyConfigured behind a transaction pooler, and again on every later connection."""
        if self.looked:
            return
        if pools_transactions(connection.connection, lambda: self.connect(connection.get_connection_params())):
            connection.close()
            raise ImproperlyConfigured(TRANSACTION_POOLING)
        self.looked = True


def pools_transactions(raw: psycopg.Connection[Any], connect: Any) -> bool:
    """Whether two transactions of one connection may meet different backends.

    PostgreSQL tells a client its backend's process id when it connects. If that is not the id a query sees, there is a
    pooler between. Then rival connections take the backends that are free; if ours is taken as well, transactions are pooled.
    """
    if raw.info.backend_pid == _backend(raw):
        return False
    with ExitStack() as rivals:
        for _ in range(MOST_RIVALS):
            ours = _backend(raw)
            try:
                rival = rivals.enter_context(connect())
                with rival.cursor() as cursor:
                    cursor.execute("SET statement_timeout = 2000")
                    cursor.execute("BEGIN")
                if _backend(rival) == ours or _backend(raw) != ours:
                    return True
            except psycopg.OperationalError as error:
                # No more backends to be had, and ours was never taken; unless it is a pooler that knows no transactions at all.
                return "statement pooling" in str(error)
    return False


def _backend(raw: psycopg.Connection[Any]) -> int:
    """The process id of the backend that answers now."""
    with raw.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def _role_is_unbound() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        row = cursor.fetchone()
    return bool(row and row[0])
