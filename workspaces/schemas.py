"""Making and migrating the schemas of workspaces.

Django takes half a second to bring an empty schema up to date, nearly all of it spent on computing what to do. So the statements of the
first time are written down (`SchemaScript`, one a state of the migrations) and the next schemas replay them in one round trip (about
30 ms). Names of constraints and indexes that Django makes do not depend on the schema, nothing in the statements is qualified, and a
test compares a replayed schema with a migrated one.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunPython

from workspaces import tenancy
from workspaces.models import SchemaScript, Workspace, WorkspaceState

_NOT_REPLAYED = re.compile(r"\s*(SELECT|SET|SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT)\b", re.IGNORECASE)
_MIGRATION_LOCK = 7_357_001

Applied = tuple[tuple[str, str], ...]
"""The migrations that a schema has seen."""
Scripts = dict[Applied, str]
"""The statements that bring such a schema up to date"""


@lru_cache(maxsize=1)
def current_version() -> str:
    """A digest of the tenant apps' migrations on disk: names and text."""
    loader = MigrationLoader(None)
    labels = tenant_labels()
    found = sorted(key for key in loader.disk_migrations if key[0] in labels)
    digest = hashlib.sha256()
    for key in found:
        digest.update(repr(key).encode())
        digest.update(inspect.getsource(import_module(type(loader.disk_migrations[key]).__module__)).encode())
    return digest.hexdigest()[:32]


def tenant_labels() -> set[str]:
    return {config.label for config in apps.get_app_configs() if config.name in settings.TENANT_APPS}


def create(workspace: Workspace) -> None:
    """Make the workspace's schema with all its tables, in the caller's transaction."""
    if not connection.in_atomic_block:
        raise RuntimeError("a schema is made in the transaction that makes its workspace")
    name = connection.ops.quote_name(workspace.schema_name)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {name}")
    script = SchemaScript.objects.filter(version=current_version()).first()
    with tenancy.entered(workspace):
        if script is None:
            _keep(_migrate_recording())
        else:
            with connection.cursor() as cursor:
                cursor.execute(script.statements)
    workspace.schema_version = current_version()
    workspace.save(update_fields=["schema_version"])


def prepare() -> None:
    """Write the script of the current version down, in a scratch schema, so that even the first workspace is made quickly."""
    if SchemaScript.objects.filter(version=current_version()).exists():
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        cursor.execute("CREATE SCHEMA w_0")
        with tenancy.entered(Workspace(id=0, schema_name="w_0")):
            _keep(_migrate_recording())
        cursor.execute("DROP SCHEMA w_0 CASCADE")


def drop(workspace: Workspace) -> None:
    """Drop everything in the workspace's schema. The empty schema stays until the row goes: migrations of "all tenants" that found none
    would make its tables in `public`."""
    name = connection.ops.quote_name(workspace.schema_name)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table with foreign keys yet to be checked cannot be dropped
        cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        cursor.execute(f"CREATE SCHEMA {name}")


def behind() -> list[Workspace]:
    """The workspaces whose schema is not of the current version."""
    rows = Workspace.objects.exclude(state=WorkspaceState.DELETING).exclude(schema_version=current_version())
    return list(rows.order_by("id"))


def bring_up_to_date(
    progress: Callable[[Workspace], None] = lambda workspace: None,
    workspaces: Iterable[Workspace] | None = None,
    scripts: Scripts | None = None,
) -> int:
    """Migrate these workspaces' schemas (all that are behind), each in a transaction of its own. Returns how many had something left to do.

    `scripts`: what was learnt from those before these; more is added. Two that are at one schema wait for each other.
    """
    done = 0
    scripts = {} if scripts is None else scripts
    for workspace in behind() if workspaces is None else workspaces:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_MIGRATION_LOCK, workspace.pk % 2**31])
            if Workspace.objects.filter(pk=workspace.pk, schema_version=current_version()).exists():
                continue
            with tenancy.entered(workspace):
                _migrate_like_others(scripts)
            Workspace.objects.filter(pk=workspace.pk).update(schema_version=current_version())
        done += 1
        progress(workspace)
    return done


def _migrate_like_others(scripts: Scripts) -> None:
    """Migrate the entered schema: by the statements of another that had seen the same migrations, if there was one, else step by step.

    Statements tell all there is to do where no migration runs Python of its own, which might do something else in every schema.
    """
    applied = _applied()
    if applied in scripts:
        if scripts[applied]:
            with connection.cursor() as cursor:
                cursor.execute(scripts[applied])
        return
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan([node for node in executor.loader.graph.leaf_nodes() if node[0] in tenant_labels()])
    statements = _migrate_recording()
    if not any(isinstance(operation, RunPython) for migration, _ in plan for operation in migration.operations):
        scripts[applied] = statements


def _applied() -> Applied:
    with connection.cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
        labels = tenant_labels()
        return tuple((app, name) for app, name in cursor.fetchall() if app in labels)


def _keep(statements: str) -> None:
    script = SchemaScript(version=current_version(), statements=statements)
    SchemaScript.objects.bulk_create([script], ignore_conflicts=True)


def _migrate() -> None:
    """Apply the tenant apps' missing migrations to the entered schema."""
    executor = MigrationExecutor(connection)
    executor.migrate([node for node in executor.loader.graph.leaf_nodes() if node[0] in tenant_labels()])


def _migrate_recording() -> str:
    """Like `_migrate`; returns the statements that changed the schema, ready to be executed again."""
    statements: list[str] = []

    def write_down(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        text = str(sql)
        if not _NOT_REPLAYED.match(text):
            cursor = context["cursor"].cursor
            statements.extend(
                text if row is None else cursor.mogrify(text, row) for row in (params if many else [params])
            )
        return execute(sql, params, many, context)

    with connection.execute_wrapper(write_down):
        _migrate()
    return ";\n".join(statement.rstrip().rstrip(";") for statement in statements)
