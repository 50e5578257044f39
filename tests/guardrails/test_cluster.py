"""The core on a real Redis Cluster: three nodes, workspaces on different nodes, one of them killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterator

import pytest

from billing.domain import keys
from billing.ledger.stream import MoneyStream
from config.stack.process import free_port
from config.stack.redis import RedisServer
from guardrails.limiter import control, store
from guardrails.limiter.limiter import BudgetStoreUnavailable, Limiter
from guardrails.limiter.wire import Denied, FinishKind, Lost, Ok
from tests.guardrails.conftest import Bench, asking, budget_suffix, counter

SLOTS = [(0, 5460), (5461, 10922), (10923, 16383)]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    servers = []
    for number in range(3):
        bus = free_port()
        settings = {
            "cluster-enabled": "yes",
            "cluster-port": str(bus),
            "cluster-node-timeout": "2000",
            "cluster-require-full-coverage": "no",
        }
        servers.append(RedisServer(home=tmp_path_factory.mktemp(f"node{number}"), settings=settings))
    try:
        for server in servers:
            server.start()
        buses = [int(server.settings["cluster-port"]) for server in servers]
        for server, (first, last) in zip(servers, SLOTS, strict=True):
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                for other, bus in zip(servers, buses, strict=True):
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        until = time.monotonic() + 30
        while time.monotonic() < until and not all(_joined(server) for server in servers):
            time.sleep(0.05)
        yield servers
    finally:
        for server in servers:
            server.stop()


def _joined(server: RedisServer) -> bool:
    with server.client() as client:
        info = client.cluster("INFO")
        return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


@pytest.fixture
def workspaces(nodes: list[RedisServer]) -> list[int]:
    """One workspace on each node."""
    found: dict[int, int] = {}
    with nodes[0].client() as client:
        for workspace in range(1, 300):
            slot = client.execute_command("CLUSTER", "KEYSLOT", keys.meta_key(workspace))
            node = next(n for n, (first, last) in enumerate(SLOTS) if first <= slot <= last)
            found.setdefault(node, workspace)
    return [found[node] for node in range(3)]


@pytest.fixture
async def cluster(nodes: list[RedisServer], workspaces: list[int]) -> AsyncIterator[Bench]:
    bench = Bench(nodes[0].url(), store.connect_sync(nodes[0].url(), cluster=True))
    for node in nodes:
        with node.client() as client:
            client.flushall()
    for workspace in workspaces:
        bench.seed(workspace)
    yield bench
    for limiter in bench.limiters:
        await limiter.close(1.0)
    bench.store.close()


async def limiter_on(bench: Bench, **options: float) -> Limiter:
    async def known(workspace: int, rids: list[str]) -> set[str]:
        return set()

    made = Limiter(
        store.connect(bench.url, cluster=True),
        lost=lambda workspace, why: bench.lost.append((workspace, why)),
        known_to_ledger=known,
        **options,  # type: ignore[arg-type]
    )
    bench.limiters.append(made)
    for _ in range(10):  # as a gateway gets no call before it says that it is ready
        if not await made.ready():
            break
    return made


async def test_the_edge_of_seven_caps_is_exact_on_every_node_at_once(cluster: Bench, workspaces: list[int]) -> None:
    gates = [await limiter_on(cluster, reserve_s=2.0) for _ in range(2)]
    limits = [997 * 25 + 996 if n == 3 else 10**9 for n in range(7)]

    async def burst(workspace: int) -> list[object]:
        return list(
            await asyncio.gather(
                *(
                    gates[n % 2].admit(
                        workspace,
                        asking([counter(i, 997, limit) for i, limit in enumerate(limits)], workspace=workspace),
                    )
                    for n in range(300)
                )
            )
        )

    for workspace, answers in zip(workspaces, await asyncio.gather(*map(burst, workspaces)), strict=True):
        assert Tally(type(answer) for answer in answers) == {Ok: 25, Denied: 275}
        assert set(cluster.counters(workspace).values()) == {(0, 997 * 25)}


async def test_holds_are_settled_expired_corrected_and_streamed(cluster: Bench, workspaces: list[int]) -> None:
    limiter = await limiter_on(cluster, reserve_s=2.0)
    for workspace in workspaces:
        asks = [asking([counter(0, 100, 10_000)], workspace=workspace) for _ in range(3)]
        for ask in asks:
            ask.lease_ms = 50
            assert isinstance(await limiter.admit(workspace, ask), Ok)
        await limiter.finish(workspace, asks[0].rid, FinishKind.SETTLE, cost_nano=30)
        await limiter.finish(workspace, asks[1].rid, FinishKind.VOID)
        await asyncio.sleep(0.08)
        assert control.sweep(cluster.store, keys.partition_of(workspace), grace_ms=0).expired == 1
        assert await limiter.finish(workspace, asks[2].rid, FinishKind.SETTLE, cost_nano=60) == "OK"
        assert cluster.counters(workspace) == {budget_suffix(0): (90, 0)}
        stream = MoneyStream(cluster.url, cluster=True)
        kinds = [entry.fields[b"k"] for entry in stream.read_from(keys.partition_of(workspace), "", 100)]
        assert kinds == [b"hold"] * 3 + [b"settle", b"void", b"expire", b"adjust"]
        stream.close()


async def test_a_flushed_node_refuses_its_workspaces_and_no_others(
    cluster: Bench, nodes: list[RedisServer], workspaces: list[int]
) -> None:
    limiter = await limiter_on(cluster, reserve_s=2.0)
    for workspace in workspaces:
        await limiter.admit(workspace, asking([counter(0, 1, 10)], workspace=workspace))
    with nodes[1].client() as client:
        client.flushall()
    answers = [
        await limiter.admit(workspace, asking([counter(0, 1, 10)], workspace=workspace)) for workspace in workspaces
    ]
    assert [type(answer) for answer in answers] == [Ok, Lost, Ok]
    cluster.seed(workspaces[1], epoch=2)
    assert isinstance(await limiter.admit(workspaces[1], asking([], workspace=workspaces[1])), Ok)


async def test_a_killed_node_costs_its_own_workspaces_only_and_comes_back_by_itself(
    cluster: Bench, nodes: list[RedisServer], workspaces: list[int]
) -> None:
    limiter = await limiter_on(cluster, reserve_s=1.0)
    asks = {workspace: asking([counter(0, 100, 1000)], workspace=workspace) for workspace in workspaces}
    for workspace, ask in asks.items():
        await limiter.admit(workspace, ask)
    assert await limiter.ready() == ""
    nodes[2].kill()
    try:
        with pytest.raises(BudgetStoreUnavailable):
            await limiter.admit(workspaces[2], asking([], workspace=workspaces[2]))
        waiting = limiter.finish(workspaces[2], asks[workspaces[2]].rid, FinishKind.SETTLE, cost_nano=7)
        assert isinstance(await _persistently(limiter, workspaces[0]), Ok)
        assert await limiter.ready() == ""  # the others' workspaces are served
    finally:
        nodes[2].start()
    assert await _persistently(limiter, workspaces[2]) == Lost("restarted")  # it could be an older copy
    control.begin_rebuild(cluster.store, workspaces[2], 2)
    control.commit_rebuild(
        cluster.store, workspaces[2], epoch=2, seq=1, ver=1, state="active", counters=1
    )  # it was not
    assert isinstance(await _persistently(limiter, workspaces[2]), Ok)
    assert await asyncio.wait_for(waiting, 15) in ("OK", "ALREADY")
    assert cluster.counters(workspaces[2])[budget_suffix(0)] == (7, 0)


async def _persistently(limiter: Limiter, workspace: int) -> object:
    until = time.monotonic() + 15
    while True:
        try:
            return await limiter.admit(workspace, asking([], workspace=workspace))
        except BudgetStoreUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
