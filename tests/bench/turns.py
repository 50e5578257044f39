"""Rounds in turns: each of the compared makes calls for a while, one after the other, so that a noisy neighbour disturbs all alike."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench import load
from tests.bench.stack import Stack

NAMES = {"bare": "Sluice, no budget", "one": "Sluice, 1 budget", "seven": "Sluice, 7 budgets + 3 rate limits"}
NGINX = "nginx proxy_pass"


@dataclass(frozen=True)
class Way:
    """One of the compared: where it is, and the processes whose time it takes."""

    base: str
    key: str
    pids: list[int]
    headers: Mapping[str, str] = field(default_factory=dict)


def way_of(stack: Stack, name: str) -> Way:
    if name == NGINX:
        return Way(f"{stack.nginx_url}/v1", "none", stack.nginx_pids)
    return Way(f"{stack.gateway_url}/v1", stack.keys[name], [stack.gateway_pid])


@dataclass(frozen=True)
class Rounds:
    """What the rounds of one of the compared came to."""

    rates: list[float] = field(default_factory=list)
    costs_us: list[float] = field(default_factory=list)
    redis_us: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def in_turns(
    stack: Stack, ways: Mapping[str, Way], what: str, prompt: int, connections: int, rounds: int, seconds: float
) -> dict[str, Rounds]:
    body = load.body_of(prompt)
    found = {name: Rounds() for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            before, store = stack.cpu_s(*way.pids), stack.cpu_s(stack.redis_pid)
            length = seconds if number else 0.5  # the first round warms
            rate = fire(way, body, length, connections)
            if number:
                calls = max(1.0, rate * length)
                found[name].rates.append(rate)
                found[name].costs_us.append((stack.cpu_s(*way.pids) - before) / calls * 1e6)
                found[name].redis_us.append((stack.cpu_s(stack.redis_pid) - store) / calls * 1e6)
                print(f"{what}, {connections} connections: {NAMES.get(name, name)} {rate:,.0f}/s", flush=True)
    return found


def fire(way: Way, body: bytes, seconds: float, connections: int) -> float:
    """Calls a second of good answers: wrk where it is installed, else our own generator."""
    if shutil.which("wrk") is None:
        return asyncio.run(load.flood(way.base, way.key, seconds, connections, body, headers=way.headers))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        text = body.decode().replace("'", "\\'")
        script.write(
            f"wrk.method = 'POST'\nwrk.body = '{text}'\nwrk.headers['content-type'] = 'application/json'\n"
            f"wrk.headers['authorization'] = 'Bearer {way.key}'\n"
            + "".join(f"wrk.headers['{name}'] = '{value}'\n" for name, value in way.headers.items())
        )
        script.flush()
        whole = max(1, round(seconds))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{whole}s",
            "--timeout",
            "10s",
            "-s",
            script.name,
            f"{way.base}/chat/completions",
        ]
        started = time.perf_counter()
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took = time.perf_counter() - started
    total = re.search(r"(\d+) requests in", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = re.search(r"Socket errors: .*", out)
    if total is None or bad or errors:
        raise SystemExit(f"the load was not answered well:\n{out}")
    return int(total.group(1)) / took
