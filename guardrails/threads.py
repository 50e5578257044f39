"""Blocking work beside the event loop: a worker thread whose database connection goes back to the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from psycopg_pool import PoolTimeout

R = TypeVar("R")

DATABASE_AWAY = (DatabaseError, InterfaceError, PoolTimeout)
"""What it raises when PostgreSQL does not answer, or refuses"""


async def in_thread(work: Callable[[], R]) -> R:
    def run() -> R:
        try:
            return work()
        finally:
            connection.close()

    return await sync_to_async(run, thread_sensitive=False)()
