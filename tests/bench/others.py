"""What is measured beside the gateway itself: the other gateways, an upstream over TLS, a cold start, a second worker."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.bench import load, report, rivals
from tests.bench.report import Row
from tests.bench.stack import GATEWAY_CORE, Stack, gateway, memory_mb
from tests.bench.turns import NAMES, NGINX, Way, fire, in_turns, way_of


def beside(stack: Stack, ours: list[str], rounds: int, seconds: float) -> list[Row]:
    """The other gateways in the same rounds, forwarding to the same upstream on the same core."""
    with rivals.running(stack.home, stack.upstream_url, GATEWAY_CORE) as others:
        if not others:
            print("no other gateway is installed (make bench-rivals)", flush=True)
            return []
        ways = {name: way_of(stack, name) for name in ours} | {
            other.name: Way(other.base, other.key, other.pids, other.headers) for other in others
        }
        found = in_turns(stack, ways, "beside others", 0, 64, rounds, seconds)
        times = asyncio.run(
            load.alone(
                {
                    "straight": (f"{stack.upstream_url}/v1", "none", {}),
                    **{name: (way.base, way.key, way.headers) for name, way in ways.items()},
                },
                200,
            )
        )
        straight = statistics.median(times["straight"])
        rows = []
        for name, one in found.items():
            facts = [
                f"{statistics.median(one.costs_us):.0f} µs CPU a call",
                f"a lone call: adds {(statistics.median(times[name]) - straight) * 1e3:.2f} ms",
            ]
            other = next((rival for rival in others if rival.name == name), None)
            if other is None and name != NGINX:
                facts += [f"**{one.rate / found[rival.name].rate:.1f} times {rival.name}**" for rival in others]
            elif other is not None:
                facts += [
                    f"first answer {other.started_s:.1f} s after its start",
                    f"{memory_mb(*other.pids):.0f} MB",
                    other.interpreter,
                ]
            rows.append(
                Row(
                    "beside others, tiny chat, 64 connections",
                    NAMES.get(name, name),
                    "; ".join(facts),
                    f"{report.spread(one.rates)} calls/s",
                )
            )
    return rows


def tls(stack: Stack, rounds: int, seconds: float) -> list[Row]:
    """The same canned answer over TLS 1.3 on kept connections."""
    with gateway(stack.home, stack.environment, "tests.bench.trusting") as (url, pid):
        ways = {name: Way(f"{url}/v1", stack.keys[key], [pid]) for name, key in (("plain", "seven"), ("TLS", "tls"))}
        found = in_turns(stack, ways, "upstream", 0, 64, rounds, seconds)
    plain, tls = (statistics.median(found[name].costs_us) for name in ("plain", "TLS"))
    return [
        Row(
            "an upstream over TLS, 64 connections",
            NAMES["seven"],
            f"{tls:.0f} µs CPU a call, {plain:.0f} over plain connections: **{tls / plain:.2f}** of it",
            f"{report.spread(found['TLS'].rates)} calls/s",
        )
    ]


def start(stack: Stack, rounds: int) -> Row:
    """A gateway from the start of its process until it says it is ready to admit calls."""
    taken, sizes = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        with gateway(stack.home, stack.environment) as (_, pid):
            taken.append(time.perf_counter() - began)
            sizes.append(memory_mb(pid))
    return Row(
        "cold start",
        "a gateway",
        f"{statistics.median(sizes):.0f} MB then",
        f"**{statistics.median(taken):.2f} s** until /readyz",
    )


def workers(stack: Stack, rounds: int, seconds: float) -> Row:
    """Two gateways share one core here, because the other one makes the load. What they lose against one is what they cost each other:
    on two free cores they reach twice the rest."""
    with gateway(stack.home, stack.environment) as (second, pid):
        one = Way(f"{stack.gateway_url}/v1", stack.keys["seven"], [stack.gateway_pid])
        other = Way(f"{second}/v1", stack.keys["seven"], [pid])
        alone: list[float] = []
        together: list[float] = []
        for number in range(rounds + 1):
            for rates, ways in ((alone, [one]), (together, [one, other])):
                before = stack.cpu_s(stack.gateway_pid, pid)
                with ThreadPoolExecutor(2) as threads:
                    rate = sum(threads.map(_fire_at(seconds, 64 // len(ways)), ways))
                if number:
                    rates.append((stack.cpu_s(stack.gateway_pid, pid) - before) / (rate * seconds) * 1e6)
    single, double = statistics.median(alone), statistics.median(together)
    return Row(
        "two workers",
        NAMES["seven"],
        f"{single:.0f} µs CPU a call with one, {double:.0f} with two that share budgets and Redis",
        f"**{2 * single / double:.2f} times** one, on two free cores",
    )


def _fire_at(seconds: float, connections: int) -> Callable[[Way], float]:
    return lambda way: fire(way, load.BODY, seconds, connections)
