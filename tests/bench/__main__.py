"""Calls a second and added latency of the gateway on one core, beside nginx `proxy_pass` to the same instant upstream.

    python -m tests.bench [--budgets 1] [--rounds 3] [--seconds 5] [--connections 64] [--lone 2000]

Everything a call does in production is on: key check, attribution, quote, holds on every budget, metering, pricing, settlement and the
ledger event. The gateway (or nginx) has core 0 to itself; the load generator, the upstream, Redis and PostgreSQL share core 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench import load
from tests.bench.stack import OTHERS_CORE, Stack, running

GOAL_PER_S = {0: 1500, 1: 1500, 7: 1200}
GOAL_ADDED_MS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budgets", type=int, default=1, help="hard budgets that every call meets (0 to 7)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--lone", type=int, default=2000, help="calls one after the other, for the added latency")
    options = parser.parse_args()
    os.sched_setaffinity(0, {OTHERS_CORE})
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with running(Path(folder), budgets=options.budgets) as stack:
            throughput(stack, options)
            latency(stack, options)


def throughput(stack: Stack, options: argparse.Namespace) -> None:
    """Interleaved rounds, so that a noisy neighbour disturbs both alike."""
    targets = {"gateway": f"{stack.gateway_url}/v1"}
    if stack.nginx_url:
        targets["nginx"] = f"{stack.nginx_url}/simulator/v1"
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for name, base in targets.items():
        _fire(base, stack.key, 2, options.connections)  # warm
        print(f"{name:8} warm", flush=True)
    for number in range(options.rounds):
        for name, base in targets.items():
            cpu_s = stack.gateway_cpu_s()
            rates[name].append(_fire(base, stack.key, options.seconds, options.connections))
            cpu_us = (stack.gateway_cpu_s() - cpu_s) / (rates[name][-1] * options.seconds) * 1e6
            cpu = f"{cpu_us:6.0f} us of CPU a call" if name == "gateway" else ""
            print(f"round {number + 1}  {name:8} {rates[name][-1]:8.0f} calls/s {cpu}", flush=True)
    gateway = statistics.median(rates["gateway"])
    goal = GOAL_PER_S.get(options.budgets, 1200)
    verdict = "reached" if gateway >= goal else "MISSED"
    print(f"gateway  median {gateway:.0f} calls/s on one core with {options.budgets} budgets (goal {goal}: {verdict})")
    if "nginx" in rates:
        nginx = statistics.median(rates["nginx"])
        print(f"nginx    median {nginx:.0f} calls/s, proxy_pass only; ratio {nginx / gateway:.2f}")


def latency(stack: Stack, options: argparse.Namespace) -> None:
    """What the gateway adds to a call that is alone, straight and through it in turns."""
    straight, through = asyncio.run(
        load.alone(f"{stack.upstream_url}/v1", f"{stack.gateway_url}/v1", stack.key, options.lone)
    )
    for name, times in (("straight", straight), ("through", through)):
        times.sort()
        print(f"{name:8} p50 {times[len(times) // 2] * 1e3:.3f} ms   p99 {times[len(times) * 99 // 100] * 1e3:.3f} ms")
    added = (statistics.median(through) - statistics.median(straight)) * 1e3
    print(
        f"added    median {added:.3f} ms to a lone call (goal {GOAL_ADDED_MS} ms: {'reached' if added < GOAL_ADDED_MS else 'MISSED'})"
    )


def _fire(base: str, key: str, seconds: int, connections: int) -> float:
    """Calls a second of good answers: wrk where it is installed, else our own generator."""
    if shutil.which("wrk") is None:
        return asyncio.run(load.flood(base, key, seconds, connections))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = load.BODY.decode().replace("'", "\\'")
        script.write(
            f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['content-type'] = 'application/json'\n"
            f"wrk.headers['authorization'] = 'Bearer {key}'\n"
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, f"{base}/chat/completions"]
        started = time.perf_counter()
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took = time.perf_counter() - started
    total = re.search(r"(\d+) requests in", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors: .*", out)
    if total is None or bad or (errors and not errors.group().endswith("timeout 0")):
        raise SystemExit(f"the load was not answered well:\n{out}")
    return int(total.group(1)) / took


if __name__ == "__main__":
    main()
