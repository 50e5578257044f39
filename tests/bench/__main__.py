"""What the gateway costs, beside nginx `proxy_pass` to the same upstream on the same core, in one run.

    make bench [ARGS="--only tiny,lone --rounds 5 --seconds 4 --write"]
    make bench-rivals   installs LiteLLM's proxy and Portkey's gateway; from then on they take part

Everything a call does in production is on: key check, attribution, quote, holds on every budget, metering, pricing, settlement and the ledger event.
Gateway and nginx take turns on core 0; load generator, upstreams, Redis and PostgreSQL share core 1. Rounds are interleaved, so that a noisy
neighbour disturbs all alike; what is printed is the median, and the lowest and highest round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.bench import load, others, report
from tests.bench.report import Point, Row
from tests.bench.stack import OTHERS_CORE, Stack, booking, running, waits
from tests.bench.turns import NAMES, NGINX, in_turns, way_of

PARTS = (
    "tiny", "rivals", "refused", "connections", "budgets", "prompts", "tls", "lone", "stream", "memory", "start", "workers", "ledger",
)  # fmt: skip
BUDGETS = {"bare": 0, "one": 1, "three": 3, "five": 5, "capped": 7}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each round")
    parser.add_argument("--lone", type=int, default=1500, help="calls one after the other, by each way")
    parser.add_argument("--open-streams", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--json", help="keep rows, with the points of the curves, in this file")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error("--only knows " + ", ".join(PARTS))
    os.sched_setaffinity(0, {OTHERS_CORE})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with running(Path(folder)) as stack:
            idle_mb = stack.memory_mb()
            for part in parts:
                print(f"--- {part}", flush=True)
                try:
                    rows += _part(part, stack, options)
                except (
                    SystemExit
                ) as error:  # a load that was not answered well: its rows are missing, the others' are not
                    print(f"{part} was not measured: {error}", flush=True)
            if "memory" in parts:
                rows.append(
                    Row(
                        "memory",
                        "a worker",
                        "at rest, then after all of the above",
                        f"{idle_mb:.0f} and {stack.memory_mb():.0f} MB",
                    )
                )
    text = report.table(rows)
    print("\n" + text)
    if options.write:
        report.write(text)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))


def _part(part: str, stack: Stack, options: argparse.Namespace) -> list[Row]:
    everyone = ([NGINX] if stack.nginx_url else []) + list(NAMES)
    rounds, seconds = options.rounds, options.seconds
    fewer = max(1, rounds - 1)
    parts: dict[str, Callable[[], list[Row]]] = {
        "tiny": lambda: _rates(stack, everyone, "tiny chat", 0, 64, rounds, seconds, curve=("connections", 64)),
        "rivals": lambda: others.beside(stack, everyone, rounds, seconds),
        "refused": lambda: [_refused(stack, rounds, seconds)],
        "connections": lambda: [
            row
            for count in (1, 16, 256)
            for row in _rates(
                stack, _without_one(everyone), "tiny chat", 0, count, fewer, seconds, curve=("connections", count)
            )
        ],
        "budgets": lambda: _by_budgets(stack, fewer, seconds),
        "prompts": lambda: [
            row
            for size in (20_000, 100_000)
            for row in _rates(stack, everyone, f"{size // 1000} kB prompt", size, 64, fewer, seconds, curve=("prompt", size))
        ],
        "tls": lambda: others.tls(stack, rounds, seconds) if "tls" in stack.keys else [],
        "lone": lambda: _lone(stack, options.lone),
        "stream": lambda: _streams(stack, rounds, seconds),
        "memory": lambda: _memory(stack, options.open_streams),
        "start": lambda: [others.start(stack, rounds)],
        "workers": lambda: [others.workers(stack, rounds, seconds)],
        "ledger": lambda: [_booked(stack, rate, max(10.0, seconds * rounds)) for rate in (100, 300, 600)],
    }  # fmt: skip
    return parts[part]()


def _without_one(everyone: list[str]) -> list[str]:
    return [name for name in everyone if name != "one"]


def _rates(
    stack: Stack,
    who: list[str],
    what: str,
    prompt: int,
    connections: int,
    rounds: int,
    seconds: float,
    *,
    curve: tuple[str, float],
) -> list[Row]:
    ways = {name: way_of(stack, name) for name in who}
    found = in_turns(stack, ways, what, prompt, connections, rounds, seconds)
    floor = found[NGINX].rate if NGINX in found else 0
    rows = []
    for name, one in found.items():
        facts = f"{statistics.median(one.costs_us):.0f} µs CPU a call"
        points: tuple[Point, ...] = ()
        if name != NGINX:
            facts += f", Redis {statistics.median(one.redis_us):.0f} µs" + (
                f"; {one.rate / floor:.3f} of nginx" if floor else ""
            )
            points = (Point(curve[0], NAMES[name], curve[1], one.rate),)
            if what == "tiny chat" and connections == 64:
                points += (Point("prompt", NAMES[name], len(load.BODY), one.rate),)
        rows.append(
            Row(
                f"{what}, {connections} connections",
                NAMES.get(name, name),
                facts,
                f"{report.spread(one.rates)} calls/s",
                points,
            )
        )
    return rows


def _by_budgets(stack: Stack, rounds: int, seconds: float) -> list[Row]:
    found = in_turns(stack, {name: way_of(stack, name) for name in BUDGETS}, "tiny chat", 0, 64, rounds, seconds)
    rows = []
    for name, one in found.items():
        ours, redis = statistics.median(one.costs_us), statistics.median(one.redis_us)
        points = (Point("budgets", "gateway", BUDGETS[name], ours), Point("budgets", "Redis", BUDGETS[name], redis))
        rows.append(
            Row(
                "budgets that meet a call",
                str(BUDGETS[name]),
                f"{report.spread(one.rates)} calls/s",
                f"{ours:.0f} µs CPU a call, Redis {redis:.0f} µs",
                points,
            )
        )
    return rows


def _refused(stack: Stack, rounds: int, seconds: float) -> Row:
    """What it costs to say no (402, a spent budget) against forwarding, in turns."""
    costs: dict[int, list[float]] = {402: [], 200: []}
    for number in range(rounds + 1):
        for status, key in ((402, "spent"), (200, "seven")):
            before = stack.cpu_s(stack.gateway_pid)
            rate = asyncio.run(load.flood(f"{stack.gateway_url}/v1", stack.keys[key], seconds, 64, wanted=status))
            if number:
                costs[status].append((stack.cpu_s(stack.gateway_pid) - before) / (rate * seconds) * 1e6)
    no, yes = statistics.median(costs[402]), statistics.median(costs[200])
    print(f"refused {no:.0f} us, forwarded {yes:.0f} us of CPU", flush=True)
    return Row(
        "a refusal (402), 64 connections",
        NAMES["seven"],
        f"a forwarded call {yes:.0f} µs: **{no / yes:.2f}** of it",
        f"{no:.0f} µs CPU",
    )


def _lone(stack: Stack, calls: int) -> list[Row]:
    ways = {name: (way_of(stack, name).base, way_of(stack, name).key, {}) for name in NAMES}
    times = asyncio.run(load.alone({"straight": (f"{stack.upstream_url}/v1", "none", {}), **ways}, calls))
    straight = sorted(times.pop("straight"))
    rows = [Row("a lone call", "straight to the upstream", "", _quantiles(straight))]
    for name, taken in times.items():
        taken.sort()
        added = (statistics.median(taken) - statistics.median(straight)) * 1e3
        rows.append(Row("a lone call", NAMES[name], f"**adds {added:.2f} ms** at the median", _quantiles(taken)))
    return rows


def _quantiles(times: list[float]) -> str:
    return f"p50 {times[len(times) // 2] * 1e3:.2f} ms, p99 {times[len(times) * 99 // 100] * 1e3:.2f} ms"


def _streams(stack: Stack, rounds: int, seconds: float) -> list[Row]:
    ways: dict[str, tuple[str, str, list[int]]] = {
        "Sluice, 7 budgets + 3 rate limits": (f"{stack.gateway_url}/v1", stack.keys["stream"], [stack.gateway_pid]),
    }
    if stack.nginx_url:
        ways[NGINX] = (f"{stack.nginx_url}/stream/v1", "none", stack.nginx_pids)
    alone: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    straight: list[float] = []
    for base, key, _ in ways.values():
        asyncio.run(load.streams(base, key, 0.1, 1))  # warm: keys, policy and connections
    for _ in range(rounds):
        straight += asyncio.run(load.streams(f"{stack.streaming_url}/v1", "none", 1.0, 1)).first_s
        for name, (base, key, pids) in ways.items():
            alone[name] += asyncio.run(load.streams(base, key, 1.0, 1)).first_s
            before = stack.cpu_s(*pids)
            streamed = asyncio.run(load.streams(base, key, seconds, 16))
            costs[name].append((stack.cpu_s(*pids) - before) / streamed.chunks * 1e6)
            speeds[name].append(streamed.chunks / streamed.seconds)
            print(f"200 chunks, 16 streams: {name} {speeds[name][-1]:,.0f} chunks/s", flush=True)
    rows = []
    for name in ways:
        added = (statistics.median(alone[name]) - statistics.median(straight)) * 1e3
        facts = f"{statistics.median(costs[name]):.1f} µs CPU a chunk; adds {added:.2f} ms to the first byte"
        rows.append(Row("streaming, 200 chunks, 16 streams", name, facts, f"{report.spread(speeds[name])} chunks/s"))
    return rows


def _booked(stack: Stack, per_second: int, seconds: float) -> Row:
    """Calls at an even rate with the ledger's writer at work: how long the oldest event waits, looked at twenty times a second."""
    with booking(stack) as writer:
        before = stack.cpu_s(writer)
        looking = waits(stack, seconds)
        calls, taken = asyncio.run(load.paced(f"{stack.gateway_url}/v1", stack.keys["seven"], seconds, per_second))
        out, _ = looking.communicate(timeout=120)
        cost = (stack.cpu_s(writer) - before) / calls * 1e6
    lags, taken = sorted(json.loads(out)), sorted(taken)
    print(f"ledger, {per_second} calls/s: oldest event p99 {lags[len(lags) * 99 // 100]:.2f} s", flush=True)
    return Row(
        "ledger lag",
        f"{per_second} calls/s with 7 budgets + 3 rate limits",
        f"calls p50 {taken[len(taken) // 2] * 1e3:.1f} ms; the writer's Python {cost:.0f} µs CPU a call",
        f"p50 {lags[len(lags) // 2]:.2f} s, p99 {lags[len(lags) * 99 // 100]:.2f} s, worst {lags[-1]:.2f} s",
    )


def _memory(stack: Stack, count: int) -> list[Row]:
    async def measure() -> float:
        before = stack.memory_mb()
        clients = await load.hold_open(f"{stack.gateway_url}/v1", stack.keys["stream"], count)
        grown = stack.memory_mb() - before
        for client in clients:
            client.close()
        return grown

    grown = asyncio.run(measure())
    time.sleep(1)  # the gateway lets go of them
    return [Row("memory", f"{count:,} open streams", f"{grown * 1024 / count:.0f} kB each", f"{grown:.0f} MB")]


if __name__ == "__main__":
    main()
