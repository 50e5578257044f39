"""Many workspaces on one machine: how long one takes to make, how long all of them take to migrate, and what an idle one costs a gateway in memory.

    python -m tests.bench.workspaces [--count 1000] [--json FILE]

On a PostgreSQL and a Redis of its own. Migrating is measured with every workspace marked as behind, as after a release; none of the migrations has
anything to do, so this is what looking costs. Memory: every workspace makes one call, and then none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench import load
from tests.bench import stack as stacks
from tests.bench.report import Point, Row
from tests.bench.stack import ROOT, Stack

STEPS = (1, 10, 100, 300, 1000, 3000)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.workspaces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", help="keep rows and points in this file")
    options = parser.parse_args()
    rows = measure(options.count)
    for row in rows:
        print(f"{row.what}, {row.who}: {row.figure}; {row.facts}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))


def measure(count: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="sluice-workspaces-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with stacks.running(Path(folder)) as stack:
            before = stacks.postgres_cpu_s(stack.home)
            made = _in_django(stack.environment, "make", str(count), f"{stack.upstream_url}/v1")
            theirs = stacks.postgres_cpu_s(stack.home) - before
            seconds = sorted(made["seconds"])
            rows = [
                Row(
                    "workspaces",
                    f"making one, of {count:,}",
                    f"with a credential and a key; the last hundred {statistics.median(made['seconds'][-100:]):.2f} s; CPU: Python "
                    f"{made['cpu_s'][0] / count * 1000:.0f} ms, PostgreSQL {theirs / count * 1000:.0f} ms",
                    f"median **{statistics.median(seconds):.2f} s**, worst {seconds[-1]:.2f} s",
                )
            ]
            rows.append(_memory(stack, made["keys"]))
            rows += [_migrated(stack, count, jobs) for jobs in sorted({1, os.cpu_count() or 1})]
            return rows


def _memory(stack: Stack, keys: list[str]) -> Row:
    async def one_call_each(some: list[str]) -> None:
        for key in some:
            client = await load.Client(f"{stack.gateway_url}/v1", key).open()
            if await client.call() != 200:
                raise SystemExit("a call of an idle workspace was not answered well")
            client.close()

    asyncio.run(one_call_each(keys[:1]))
    time.sleep(1)
    base, points = stack.memory_mb(), []
    for first, last in zip((1, *STEPS), STEPS, strict=False):
        if first < last <= len(keys):
            asyncio.run(one_call_each(keys[first:last]))
            time.sleep(1)
            points.append(Point("workspaces", "a gateway's memory", last, stack.memory_mb()))
    grown = (points[-1].y - base) / (points[-1].x - 1) * 1024 if points else 0.0
    return Row(
        "workspaces",
        "a gateway's memory",
        f"{base:.0f} MB with one, {points[-1].y if points else base:.0f} MB with {points[-1].x if points else 1:,.0f}",
        f"**{grown:.0f} kB** an idle workspace",
        (Point("workspaces", "a gateway's memory", 1, base), *points),
    )


def _migrated(stack: Stack, count: int, jobs: int) -> Row:
    _in_django(stack.environment, "behind")
    command = [sys.executable, "manage.py", "migrate_workspaces", "--jobs", str(jobs)]
    before, began = (_children_cpu_s(), stacks.postgres_cpu_s(stack.home)), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=stack.environment, check=True, capture_output=True, text=True)
    taken = time.perf_counter() - began
    ours, theirs = _children_cpu_s() - before[0], stacks.postgres_cpu_s(stack.home) - before[1]
    last = done.stdout.splitlines()[-1]
    return Row(
        "workspaces",
        f"migrating {count:,}, {jobs} process{'es' if jobs > 1 else ''}",
        f"{taken / count * 1000:.0f} ms each; CPU: ours {ours:.1f} s with its start, PostgreSQL {theirs:.1f} s; “{last}”",
        f"**{taken:.0f} s**",
    )


def _children_cpu_s() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _in_django(environment: dict[str, str], *words: str) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "tests.bench.workspaces_made", *words]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    answer: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
