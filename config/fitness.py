"""Refuses, when a production starts, secrets that can be guessed and stores that would lose money or mix up workspaces.

A store that cannot be reached is not judged here: the gateway answers 503 until it is back, and `/readyz` says so.
"""

from __future__ import annotations

import logging

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from redis import RedisError

from guardrails.checks import faults_of
from guardrails.limiter.connection import sync_store

log = logging.getLogger(__name__)


def refuse_weak_secrets() -> None:
    """Raises `ImproperlyConfigured` naming the secrets that are missing or short."""
    if settings.WEAK_SECRETS:
        least = ", ".join(f"{name} ({settings.LEAST_SECRET_CHARACTERS[name]})" for name in settings.WEAK_SECRETS)
        raise ImproperlyConfigured(
            f"Set these to random text of at least so many characters: {least}. See .env.example."
        )


def refuse_unfit_stores() -> None:
    """Raises `ImproperlyConfigured` with what is wrong and what to change."""
    try:
        faults = faults_of(sync_store())
    except RedisError as error:
        log.warning("the budget Redis cannot be asked yet: %s", type(error).__name__)
    else:
        if faults:
            raise ImproperlyConfigured("This Redis must not hold money: " + "; ".join(faults))
    try:
        mixed_up = shares_sessions(connection.get_connection_params())
    except psycopg.OperationalError as error:
        log.warning("the database cannot be reached yet: %s", type(error).__name__)
    else:
        if mixed_up:
            raise ImproperlyConfigured(
                "The database is behind a pooler in transaction mode, which hands one workspace's session to another: "
                "connect to PostgreSQL itself, or set pool_mode = session."
            )


def shares_sessions(parameters: dict[str, object]) -> bool:
    """Whether two clients that are connected at the same time meet the same server process, as behind pgbouncer's transaction mode."""
    plain = {name: value for name, value in parameters.items() if name in _ADDRESS and value}
    with psycopg.connect(**plain, autocommit=True) as one, psycopg.connect(**plain, autocommit=True) as two:  # type: ignore[arg-type]
        pids = [session.execute("SELECT pg_backend_pid()").fetchone() for session in (one, two)]
    return pids[0] == pids[1]


_ADDRESS = ("host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "connect_timeout")
