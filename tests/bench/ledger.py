"""The ledger's writer and what it writes: entries a second on one core, with all rollups, and PostgreSQL's size for a million entries.

    python -m tests.bench.ledger [--live 100000] [--entries 1000000] [--days 30] [--backlog 0] [--arriving 500]

Two books, on a PostgreSQL with every safety on (fsync, synchronous commits) and a Redis of its own. *live*: calls that end now, as a gateway at full
speed leaves them. *size*: a month of a product with 10,000 customers, 100,000 users and sessions. What is timed is the writer from Redis to
commit; making the events is not. CPU is that of the writer's process and of every PostgreSQL process: one core does 1 s of it in a second.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.bench import backlog
from tests.bench.report import Point, Row

FED_AT_ONCE = 10_000
MOVED_FROM = ("billing_rollup_detail", "billing_rollup_hour", "billing_rollup_day")
"""Tables whose rows are soon packed"""
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Written:
    what: str
    entries: int
    wall_s: float
    python_s: float
    postgres_s: float

    @property
    def per_second(self) -> float:
        """Entries a core writes in a second: Python and PostgreSQL take turns on it."""
        return self.entries / (self.python_s + self.postgres_s)

    def __add__(self, other: Written) -> Written:
        return Written(
            self.what,
            self.entries + other.entries,
            self.wall_s + other.wall_s,
            self.python_s + other.python_s,
            self.postgres_s + other.postgres_s,
        )

    def row(self) -> Row:
        each = [f"{1e6 * seconds / self.entries:.0f}" for seconds in (self.python_s, self.postgres_s)]
        return Row(
            "the ledger's writer, all rollups",
            f"{self.entries:,} {self.what}",
            f"CPU an entry: Python {each[0]} µs, PostgreSQL {each[1]} µs; by the clock {self.entries / self.wall_s:,.0f} a second",
            f"**{self.per_second:,.0f}** entries a second on one core",
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--live", type=int, default=100_000, help="calls that end now")
    parser.add_argument("--entries", type=int, default=1_000_000, help="calls of the month whose size is measured")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument(
        "--backlog", type=int, default=0, help="calls that wait before the writer begins (tests.bench.backlog)"
    )
    parser.add_argument("--arriving", type=int, default=500, help="calls a second that join the backlog meanwhile")
    parser.add_argument("--profile", action="store_true", help="print where the writer's Python spends its time")
    parser.add_argument("--json", help="keep the figures in this file")
    options = parser.parse_args()
    from config.stack import postgres as stack_postgres
    from config.stack import redis as stack_redis

    with tempfile.TemporaryDirectory(prefix="sluice-ledger-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = stack_postgres.PostgresServer(
            home=Path(folder) / "postgres", settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}
        )
        store = stack_redis.RedisServer(home=Path(folder) / "redis", settings={"appendonly": "no"})
        try:
            store.launch()
            server.launch()
            store.wait()
            server.wait()
            server.ensure_application_database()
            _set_up_django(server.url(), store.url(0), folder)
            found = _measure(options, server)
        finally:
            store.stop()
            server.stop()
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in found], indent=1))
    return 0


def _set_up_django(database: str, money: str, home: str) -> None:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="config.settings", SLUICE_MODE="test", SLUICE_HOME=f"{home}/home", DATABASE_URL=database, REDIS_URL=money,
        SLUICE_SECRET_KEY=secrets.token_urlsafe(50), SLUICE_PUBLIC_URL="http://testserver", SLUICE_LOG_LEVEL="WARNING",
        SLUICE_MASTER_KEY=base64.b64encode(secrets.token_bytes(32)).decode(), SLUICE_PEPPER=base64.b64encode(secrets.token_bytes(32)).decode(),
    )  # fmt: skip
    Path(f"{home}/home/static").mkdir(parents=True, exist_ok=True)
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate_schemas", shared=True, interactive=False, verbosity=0)
    call_command("migrate_workspaces", verbosity=0)


def _measure(options: argparse.Namespace, server: Any) -> list[Row]:
    from django.db import connection

    from tests.bench import believable

    now_ms = time.time_ns() // 1_000_000
    rows: list[Row] = []
    connection.ensure_connection()
    if options.live:
        # At 1,000 calls a second: what is booked falls into the minutes that are kept, and into one or two hours.
        sessions = max(100, options.live // 10)
        made = believable.calls(
            _workspace("live"), options.live, first_ms=now_ms - options.live, last_ms=now_ms, sessions=sessions
        )
        rows.append(_written("calls that end now", made, server, profile=options.profile).row())
    if options.entries:
        # The other book is packed first: what shrinks of it would count for this one.
        before, total = _packed(server), Written("calls of a month", 0, 0, 0, 0)
        who, first_ms, days = _workspace("month"), now_ms - options.days * DAY_MS, options.days
        made = believable.calls(
            who, options.entries, first_ms=first_ms, last_ms=now_ms - 3_600_000, seed=2, sessions=options.entries // 10
        )
        points: list[Point] = []
        while some := list(islice(made, max(FED_AT_ONCE, options.entries // 5))):
            part = _written("calls of a month", iter(some), server, profile=options.profile)
            total += part
            points.append(Point("writer", "writer and PostgreSQL", total.entries, part.per_second))
            sizes = _grown(before, _packed(server))
            points.append(Point("size", "with rollups and indexes", total.entries, _sum(sizes.values()) / 1e6))
        rows += [replace(total.row(), points=tuple(points)), _of_size(sizes, options.entries, days)]
    if options.backlog:
        made = believable.calls(
            _workspace("backlog"), 2 * options.backlog, first_ms=now_ms - 3_600_000, last_ms=now_ms, seed=3, sessions=max(100, options.backlog // 10)
        )  # fmt: skip
        rows.append(
            backlog.drained(
                made, options.backlog, options.arriving, feed=_feed, postgres_cpu_s=lambda: _postgres_cpu_s(server)
            )
        )
    for row in rows:
        print(f"{row.what}, {row.who}: {row.figure}; {row.facts}", flush=True)
    return rows


def _of_size(sizes: dict[str, dict[str, int]], entries: int, days: int) -> Row:
    for name, size in sorted(sizes.items(), key=lambda pair: -pair[1]["bytes"]):
        if size["bytes"] > 50_000:
            each = [f"{size[kind] / entries:7.0f} bytes" for kind in ("bytes", "indexes")]
            print(f"  {name:28} {each[0]} an entry, of it indexes {each[1]}")
    own = [sizes[name] for name in ("billing_entry", "billing_caller", "billing_pattern")]
    lines, indexes = _sum(own), sum(size["indexes"] for size in own)
    return Row(
        "ledger size, 10,000 customers",
        f"{entries:,} entries over {days} days, 3 budgets a call",
        f"the lines themselves, with callers and patterns, {lines / entries:.0f} bytes each, of it indexes {indexes / entries:.0f}; rollups "
        f"{(_sum(sizes.values()) - lines) / entries:.0f}",
        f"**{_sum(sizes.values()) / entries:.0f} MB** a million entries",
    )


def _sum(sizes: Iterable[dict[str, int]]) -> int:
    return sum(size["bytes"] for size in sizes)


def _packed(server: Any) -> dict[str, dict[str, int]]:
    """Sizes when the worker has packed and autovacuum came by."""
    _pack()
    _vacuum(server)
    return _sizes()


def _pack() -> None:
    """As the worker does every ten minutes, and of long ago every day. Not timed: it has a process of its own."""
    from datetime import UTC, datetime

    from billing.ledger.packs import gathering, packing

    packing.pack_due(datetime.now(UTC), most=1_000)
    gathering.pack_left_over(datetime.now(UTC))


def _workspace(slug: str) -> Any:
    from guardrails.actions import create_budget
    from guardrails.domain.periods import Period
    from tests.bench import believable
    from tests.cast import make_user, make_workspace
    from workspaces import actions
    from workspaces.audit import Actor
    from workspaces.models import Plan, Workspace

    owner = make_user(f"ledger-{slug}")
    workspace = make_workspace(f"ledger-{slug}", owner)
    Workspace.objects.filter(pk=workspace.pk).update(plan=Plan.TEAM)
    by = Actor.person(owner)
    budgets = [
        create_budget(workspace=workspace, by=by, cap="9000000", period=period, scope=scope, value=value)
        for scope, value, period in (
            ("", "", Period.MONTH),
            ("customer", None, Period.MONTH),
            ("virtual_key", None, Period.DAY),
        )
    ]
    keys = [actions.create_virtual_key(workspace=workspace, by=by, name=f"Key {number}").row.pk for number in range(20)]
    return believable.Who(workspace.pk, tuple(map(str, keys)), str(uuid4()), tuple(budget.pk for budget in budgets))  # type: ignore[arg-type]


def _written(what: str, made: Iterator[Any], server: Any, *, profile: bool) -> Written:
    """Feeds the stream in portions, and times the writer only."""
    import cProfile
    import pstats

    from django.conf import settings
    from django.db import connection
    from redis import Redis

    from billing.domain.keys import partition_of, stream_key
    from billing.ledger import writer
    from billing.ledger.stream import money_stream

    spent: dict[str, float] = {}

    def statements(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        began = _cpu_s(connection.connection.info.backend_pid)
        try:
            return execute(sql, params, many, context)
        finally:
            name = " ".join(str(sql).split())[:70]
            spent[name] = spent.get(name, 0.0) + _cpu_s(connection.connection.info.backend_pid) - began

    entries, wall, python, postgres = 0, 0.0, 0.0, 0.0
    watched = cProfile.Profile()
    with Redis.from_url(settings.MONEY_REDIS_URL) as redis:
        while some := list(islice(made, FED_AT_ONCE)):
            partition = partition_of(int(some[0][0]["w"]))
            last = _feed(redis, stream_key(partition), some)
            began, ours, theirs = time.perf_counter(), time.process_time(), _postgres_cpu_s(server)
            with connection.execute_wrapper(statements) if profile else contextlib.nullcontext():
                if profile:
                    watched.enable()
                done = writer.drain(money_stream(), partition)
                watched.disable()
            wall += time.perf_counter() - began
            python += time.process_time() - ours
            postgres += _postgres_cpu_s(server) - theirs
            if done.booked != len(some):
                raise SystemExit(f"{len(some)} calls were fed, {done} booked")
            entries += done.booked
            redis.xtrim(stream_key(partition), minid=last, approximate=False)
            _pack()
            _vacuum(server, *MOVED_FROM)
    if profile:
        for sql, seconds in sorted(spent.items(), key=lambda pair: -pair[1])[:14]:
            print(f"{1e6 * seconds / entries:7.0f} us of its backend's CPU an entry: {sql}")
        pstats.Stats(watched).sort_stats("tottime").print_stats(30)
    return Written(what, entries, wall, python, postgres)


def _feed(redis: Any, stream: str, some: Iterable[tuple[Any, Any]]) -> str:
    """Holds and settlements as they come when a call takes a second: a settlement some hundred events after its hold."""
    holds, ends = [], []
    for hold, end in some:
        holds.append(hold)
        ends.append(end)
    apart = 300
    pipe = redis.pipeline(transaction=False)
    seq, last = int(holds[0]["q"]), b""
    for place in range(len(holds) + apart):
        for event in [*holds[place : place + 1], *(ends[place - apart : place - apart + 1] if place >= apart else ())]:
            pipe.xadd(stream, event | {"q": seq})
            seq += 1
        if len(pipe) >= 2_000:
            last = pipe.execute()[-1]
    if len(pipe):
        last = pipe.execute()[-1]
    return last.decode()


def _postgres_cpu_s(server: Any) -> float:
    """Of every process of the server, also of those that ended meanwhile: they are counted with the one that started them."""
    from config.stack.postgres import _working_in

    ticks = 0
    for pid in _working_in(server.data):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return ticks / os.sysconf("SC_CLK_TCK")


def _cpu_s(pid: int) -> float:
    """Of one process, in nanoseconds' precision."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _sizes() -> dict[str, dict[str, int]]:
    """Bytes by table of the books, months together: all of it, and indexes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT regexp_replace(relname, '_[0-9]{4}_[0-9]{2}$', ''), sum(pg_total_relation_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint "
            "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname LIKE 'billing_%' GROUP BY 1"
        )
        return {name: {"bytes": size, "indexes": indexes} for name, size, indexes in cursor.fetchall()}


def _grown(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    nothing = {"bytes": 0, "indexes": 0}
    return {name: {kind: size[kind] - before.get(name, nothing)[kind] for kind in size} for name, size in after.items()}


def _vacuum(server: Any, *tables: str) -> None:
    """As autovacuum, which comes by every minute: a month passes here in some minutes, so that it would hardly come, and the room of rows that
    were packed would never be used again. Not timed, as the packing."""
    import psycopg

    with psycopg.connect(server.admin_url("sluice"), autocommit=True) as admin:
        admin.execute(f"VACUUM (TRUNCATE) {', '.join(tables)}")


if __name__ == "__main__":
    sys.exit(main())
