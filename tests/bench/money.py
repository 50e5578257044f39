"""What a call costs the money Redis: an admit and its finish, one call after the other or many in a batch, without the gateway.

    python -m tests.bench.money [--pairs 200] [--rounds 20] [--beside OTHER/guardrails/limiter/lua ...]

Prints the processor time of the server's main thread (its kernel time included) and the commands inside the two scripts. It is the least of some
rounds, because noise only ever adds. `--beside` measures the scripts of other folders in turns with ours, each on a server of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import hiredis

from billing.domain import keys
from config.stack import redis
from guardrails.domain.periods import FOREVER_MS
from guardrails.limiter import control, scripts, store
from guardrails.limiter.wire import AdmitRequest, CounterAsk, FinishKind, FinishRequest, RateAsk, encode
from workspaces.ids import uuid7

W = 42
PREFIX = keys.partition_prefix(keys.partition_of(W))
STREAM = keys.stream_key(keys.partition_of(W))
WAYS = {"no budget": (0, 0), "1 budget": (1, 0), "7 budgets": (7, 0), "7 budgets + 3 rate limits": (7, 3)}
CAP, AMOUNT, COST = 9 * 10**15, 2_310_000, 412_345
CONTEXT = (
    '{"call":"019aa9b5-6b1e-7c41-9f0e-0d5d6b2f3a11","key":"019aa9b5-1f4b-7a11-8a52-b4f4e2d4d001","provider":"openai",'
    '"credential":"019aa9b5-1f4b-7a11-8a52-b4f4e2d4d002","model":"gpt-4o-mini","endpoint":"/v1/chat/completions","dims":'
    '{"user":"alice@example.com","environment":"production","team":"019aa9b5-1f4b-7a11-8a52-b4f4e2d4d003"},'
    '"price_version":"2026-11-20.1","fingerprint":"9f86d081884c7d65"}'
)
OUTCOME = (
    '{"basis":"measured","price_status":"exact","http_status":200,"model_served":"gpt-4o-mini-2024-07-18","provider_request_id":'
    '"req_5f0c7d0e2b","buckets":{"input":2006,"output":300},"breakdown":[{"unit":"input","quantity":2006,"rate_per_m_usd":"0.15",'
    '"cost_usd":"0.0003009"},{"unit":"output","quantity":300,"rate_per_m_usd":"0.6","cost_usd":"0.00018"}],"raw_usage":{"prompt_tokens":2006,'
    '"completion_tokens":300,"total_tokens":2306},"first_byte_ms":412,"duration_ms":1893,"overhead_us":701}'
)


def budget(number: int) -> CounterAsk:
    """The seven of the other benchmarks: months and days, two of them for each value."""
    start_ms = int(time.time() // 86_400) * 86_400_000
    digest = keys.value_digest("alice@example.com") if number >= 5 else ""
    suffix = keys.counter_suffix(f"{number:08x}-0000-7000-8000-000000000000", start_ms, digest)
    return CounterAsk(
        suffix, "nano", AMOUNT, CAP, 0, FOREVER_MS, label=digest and "alice", most_values=10_000 * bool(digest)
    )


def rates() -> list[RateAsk]:
    name = "0000000{}-0000-7000-8000-00000000000f"
    digest = keys.value_digest("alice@example.com")
    many = 10**9
    return [
        RateAsk(keys.rate_suffix(name.format(1), "rpm"), "g", many, 60_000_000, many),
        RateAsk(keys.rate_suffix(name.format(2), "tpm", digest), "g", many, 60_000_000, many, 2_506, 1, 10_000),
        RateAsk(keys.rate_suffix(name.format(3), "concurrency", digest), "c", many),
    ]


@dataclass
class Side:
    """A server and the scripts that are measured on it."""

    name: str
    server: redis.RedisServer
    texts: dict[str, str]
    connection: socket.socket
    reader: hiredis.Reader = field(default_factory=hiredis.Reader)
    shas: dict[str, bytes] = field(default_factory=dict)

    def ask(self, *words: bytes | str | int) -> Any:
        self.connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # takes any sequence
        while (answer := self.reader.gets()) is False:
            self.reader.feed(self.connection.recv(1 << 20))
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    def run(self, script: str, *arguments: bytes | int) -> list[Any]:
        answer: list[Any] = self.ask("EVALSHA", self.shas[script], 1, STREAM, *arguments)
        return answer

    def ready(self) -> None:
        self.ask("AUTH", self.server.password)
        self.shas = {name: self.ask("SCRIPT", "LOAD", text) for name, text in self.texts.items()}
        money = store.connect_sync(self.server.url())
        control.begin_rebuild(money, W, 1)
        control.commit_rebuild(money, W, epoch=1, seq=0, ver=1, state="active", counters=0)
        money.close()

    def cpu_us(self) -> float:
        """Of the thread that runs commands, also in the kernel."""
        assert self.server.process is not None
        pid = self.server.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e3

    def commands(self) -> int:
        rows = [line.partition(":calls=")[2] for line in self.ask("INFO", "commandstats").decode().split("\r\n")]
        return sum(int(row.partition(",")[0]) for row in rows if row)

    def trim(self) -> None:
        self.ask("DEL", STREAM)


def texts_of(folder: Path) -> dict[str, str]:
    """ADMIT and FINISH of a folder of scripts."""
    load = partial(scripts.Script.load, folder=folder)
    admit = load("admit", "common", "rates", "admit", flags=scripts.NEEDS_MEMORY)
    return {"admit": admit.text, "finish": load("finish", "common", "release", "finish").text}


@contextlib.contextmanager
def side(name: str, folder: Path, home: Path) -> Iterator[Side]:
    with redis.running(home) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = Side(name, server, texts_of(folder), connection)
        made.ready()
        yield made


def pairs_of(budgets: int, limits: int, count: int) -> list[tuple[bytes, bytes]]:
    """Admits and their finishes, as the gateway packs them."""
    asks, rate_asks = [budget(number) for number in range(7 - budgets, 7)], rates()[:limits]
    pairs = []
    for _ in range(count):
        rid = str(uuid7())
        hold = AdmitRequest(PREFIX, str(W), rid, 1, 1, 0, AMOUNT, 30_000, CONTEXT, asks, rate_asks)
        end = FinishRequest(PREFIX, str(W), rid, FinishKind.SETTLE, COST, 2_306, 1, OUTCOME)
        pairs.append((encode(hold), encode(end)))
    return pairs


def replay(one: Side, pairs: list[tuple[bytes, bytes]], batch: int) -> None:
    for first in range(0, len(pairs), batch):
        some = pairs[first : first + batch]
        held = one.run("admit", time.time_ns() // 1_000_000, 85, *[hold for hold, _ in some])
        ended = one.run("finish", *[end for _, end in some])
        assert all(reply[0] == b"OK" for reply in [*held, *ended]), (held, ended)


Costs = dict[tuple[str, str, int], list[tuple[float, float]]]
"""Way, side and batch -> CPU us and commands a pair, of each round"""


def measured(sides: list[Side], options: argparse.Namespace) -> Costs:
    """Everything in turns, so that a noisy neighbour disturbs all alike."""
    found: Costs = {}
    for number in range(options.rounds + 1):
        for way, (budgets, limits) in WAYS.items():
            for one, batch in product(sides, (1, options.batch)):
                pairs = pairs_of(budgets, limits, options.pairs)
                one.trim()
                cpu, commands = one.cpu_us(), one.commands()
                replay(one, pairs, batch)
                cost = (one.cpu_us() - cpu) / len(pairs), (one.commands() - commands) / len(pairs)
                if number:  # the first round makes the counters
                    found.setdefault((way, one.name, batch), []).append(cost)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.money", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200, help="calls a round")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16, help="calls a script call, where they come together")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="folders with other scripts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-money-") as home, contextlib.ExitStack() as parts:
        folders = {"ours": scripts.FOLDER, **{folder.name: folder for folder in options.beside}}
        sides = [parts.enter_context(side(name, folder, Path(home) / name)) for name, folder in folders.items()]
        for (way, name, batch), costs in measured(sides, options).items():
            cpu, commands = [min(column) for column in zip(*costs, strict=True)]
            median = statistics.median(cost for cost, _ in costs)
            print(
                f"{way:26} {batch:3} at once, {name:10} {cpu:6.1f} us (median {median:6.1f}), {commands:5.1f} commands"
            )


if __name__ == "__main__":
    main()
