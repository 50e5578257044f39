"""A gateway killed at each named point of a call: nothing is lost, nothing is charged twice, every hold ends charged or released.

The matrix with everything else dying too is the rig's (tests/chaos); this is the gateway's own share of it.
"""

from __future__ import annotations

import time

import httpx
import pytest

from billing.domain import keys
from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.limiter import LEASE_MS
from tests.gateway.world import GatewayProcess, Shop, World

CALL = {
    "model": "sim-small",
    "messages": [{"role": "user", "content": "hi [[sim:drip gap_ms=50 tokens=10]]"}],  # chunks that arrive one by one
    "max_completion_tokens": 50,
}
CASES = [
    ("before_admit", False),
    ("after_admit", True),
    ("after_headers_sent", False),
    ("after_headers_sent", True),
    ("after_chunk:2", True),
    ("after_last_byte", False),
    ("after_finish", True),
]


def post(gateway: GatewayProcess, shop: Shop, *, stream: bool) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={**CALL, "stream": stream},
        headers={"authorization": f"Bearer {shop.key}"},
        timeout=20,
    )


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_gateway_that_dies_leaves_books_that_cover_the_invoice(world: World, gateway: GatewayProcess) -> None:
    shops = [world.shop() for _ in CASES]
    for shop, (point, stream) in zip(shops, CASES, strict=True):
        assert post(gateway, shop, stream=False).status_code == 200
        doomed = world.gateway(SLUICE_CRASH_AT=point)
        with pytest.raises(httpx.TransportError):
            post(doomed, shop, stream=stream)
        assert doomed.process is not None
        assert doomed.process.wait(10) == 137
        doomed.close()
        assert post(gateway, shop, stream=False).status_code == 200, "another gateway goes on at once"
    for shop, (point, _) in zip(shops, CASES, strict=True):
        let_the_lease_end(shop)
        entries = shop.booked()
        assert len(entries) == (2 if point == "before_admit" else 3), point
        for entry in entries:
            line = world.simulator.line_of(str(entry.rid))
            invoiced = line.cost_nano if line is not None and line.billed else 0
            assert entry.cost_nano >= invoiced
            assert entry.basis == "assumed" or entry.cost_nano == invoiced


def let_the_lease_end(shop: Shop) -> None:
    """What nobody came back for ends within its lease (30 s): the sweeper is told that so much time has passed."""
    with shop.world.at_home():
        store, partition = sync_store(), keys.partition_of(shop.workspace.pk)
        rids = shop.open_holds()
        for rid in rids:
            deadline_ms = int(store.hget(keys.workspace_prefix(shop.workspace.pk) + f"r:{rid}", "dl"))
            assert deadline_ms - time.time() * 1000 <= LEASE_MS
        control.sweep(store, partition, grace_ms=-LEASE_MS)
    assert not shop.open_holds()
