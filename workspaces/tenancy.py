"""The one door to a tenant. Entering a workspace sets the PostgreSQL schema, and with it row-level security of the shared tables.

A schema lives on a database *connection* and a connection belongs to a thread, so tenant work is always one synchronous
function that enters the workspace itself; django-tenants' `schema_context` is silently ignored in async code (STACK.md). The
policies of the shared tables compare `workspace_id` with `current_schema()` (see `sluice_current_workspace()` in the migrations), hence
there is no second setting that could disagree with the schema, and a connection that entered nothing sees no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection, transaction

from workspaces.models import Workspace

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def entered(workspace: Workspace) -> Iterator[Workspace]:
    """Inside the block, queries of this thread see the workspace's schema and its rows of the shared tables, and no other's.

    Leaves to the schema it came from, also on an error. Nested use for another workspace is refused: it would be a
    mistake that reads one tenant's rows with another one's intent.
    """
    before = connection.tenant  # type: ignore[attr-defined]  # django-tenants adds it, and set_tenant
    if before.schema_name == workspace.schema_name:  # to set it again is a statement, and another on the way out
        yield workspace
        return
    if before.schema_name != "public":
        raise RuntimeError(f"already inside {before.schema_name}; leave it before entering {workspace.schema_name}")
    connection.set_tenant(workspace)  # type: ignore[attr-defined]
    try:
        yield workspace
    finally:
        connection.set_tenant(before)  # type: ignore[attr-defined]


@contextmanager
def every_workspace(reason: str) -> Iterator[None]:
    """Inside the block (a transaction) row-level security lets all workspaces through. For writers that batch tenants.

    The setting is local to the transaction, so it cannot outlive the block on a pooled connection. `reason` is for the reader;
    tests list every caller, because an escape hatch that is not counted becomes the door.
    """
    if not reason:
        raise ValueError("say why all workspaces are needed")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('sluice.every_workspace', 'on', true)")
        yield
        # After an error the rollback takes the setting back; a statement here would only hide what went wrong.
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('sluice.every_workspace', '', true)")


async def run(
    workspace: Workspace, function: Callable[Concatenate[Workspace, P], R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """From async code: run `function(workspace, ...)` in a worker thread, inside the workspace, and close its connection after."""

    def inside() -> R:
        try:
            with entered(workspace):
                return function(workspace, *args, **kwargs)
        finally:
            connection.close()

    return await sync_to_async(inside, thread_sensitive=False)()
