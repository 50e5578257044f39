"""What a look for waste costs, in CPU seconds of ours and PostgreSQL's, and how that grows with the book. Exit 1 when a look does not end.

    python -m tests.bench.waste [--entries 50000 200000]

Each book is of sixty days, of which a look reads the last thirty; written as `tests.bench.pages` does, with models that have prices. The look goes on
in runs of forty seconds as the worker's do, until it is through; then the next day's look, which reads the last three days again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.stack.postgres import PostgresServer
from config.stack.redis import RedisServer
from tests.bench import pages

RUN_S = 40.0
MOST_RUNS = 100
MODELS = "(ARRAY['claude-opus-4-5', 'gpt-4.1', 'claude-haiku-4-5', 'gpt-4o-mini', 'gemini-2.5-flash'])[1 + n %% 5]"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.waste", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, nargs="+", default=[50_000, 200_000])
    options = parser.parse_args()
    # The models of the pages' book have no prices; a look would ask for none.
    pages.LINES = pages.LINES.replace("'model-' || (n %% 11)", MODELS)
    with tempfile.TemporaryDirectory(prefix="sluice-waste-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(
            home=Path(folder) / "postgres", fast_and_unsafe=True, settings={"shared_buffers": "256MB"}
        )
        cache = RedisServer(home=Path(folder) / "redis", settings={"appendonly": "no"})
        try:
            cache.launch()
            server.launch()
            cache.wait()
            server.wait()
            server.ensure_application_database()
            pages._set_up_django(server.url(), cache.url(0), folder)
            return max(_measured(entries) for entries in options.entries)
        finally:
            cache.stop()
            server.stop()


def _measured(entries: int) -> int:
    from django.db import connection

    from guardrails.waste.models import Finding, Look
    from tests.cast import make_user, make_workspace
    from workspaces import actions, tenancy
    from workspaces.audit import Actor

    workspace = make_workspace(f"waste-{entries}", make_user(f"waste-{entries}"))
    with tenancy.entered(workspace):
        by = Actor("bench", installation=True)
        keys = [str(actions.create_virtual_key(workspace=workspace, by=by, name=str(n)).row.pk) for n in range(20)]
    pages.write_book(workspace.pk, entries, 1_000, keys)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS pg_temp.bench_lines, pg_temp.bench_callers, pg_temp.bench_days")
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    now, bad = datetime.now(UTC), 0
    for what, at, lines in (("first", now, entries / 2), ("next day's", now + timedelta(days=1), entries / 60 * 2)):
        runs, ours, theirs, is_through = _look(workspace, at, backend)
        bad += not is_through
        with tenancy.entered(workspace):
            look, found = Look.objects.get(workspace_id=workspace.pk), Finding.objects.filter(state="open").count()
        print(
            f"{entries:>9,} entries, {what} look: {runs} run(s), {ours:.1f} s of ours + {theirs:.1f} s of PostgreSQL's CPU, "
            f"{(ours + theirs) / lines * 1e6:.0f} us a line of {lines:,.0f}; through {look.through}, {found} findings",
            flush=True,
        )
    return int(bad > 0)


def _look(workspace: object, at: datetime, backend: int) -> tuple[int, float, float, bool]:
    from guardrails.waste import looking

    ours, theirs, runs, is_through = time.process_time(), pages._cpu_s(backend), 0, False
    while not is_through and runs < MOST_RUNS:
        runs += 1
        is_through = looking.look_at(workspace, at, seconds=RUN_S)  # type: ignore[arg-type]
    return runs, time.process_time() - ours, pages._cpu_s(backend) - theirs, is_through


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())
