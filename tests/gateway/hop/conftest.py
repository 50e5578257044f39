from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.asgi import Gateway
from tests.cast import Cast
from tests.gateway.hop.house import House, ScriptedProvider, sync
from workspaces import actions


@pytest.fixture
async def provider(settings: Any) -> AsyncIterator[ScriptedProvider]:
    started = ScriptedProvider()
    await started.start()
    settings.SIMULATOR_URL = started.base_url
    yield started
    await started.stop()


@pytest.fixture
async def house(provider: ScriptedProvider, committed_cast: Cast) -> AsyncIterator[House]:
    """Acme with one credential ("first"), repetitions without a pause, and a short patience."""
    acme, alice = committed_cast.acme, committed_cast.alice.actor

    def made() -> str:
        actions.add_credential(
            workspace=acme, by=alice, provider="simulator", secret="sk-first", name="first", verify=False,
            timeouts={"first_byte_s": 0.6, "idle_s": 2, "total_s": 20},
        )  # fmt: skip
        actions.change_hop_rules(workspace=acme, by=alice, pause_ms=0)
        return actions.create_virtual_key(workspace=acme, by=alice, name="app").text

    key = await sync(made)
    gateway = Gateway()
    gateway.runtime.gate.limiter._reserve_s = (
        5.0  # a test machine may be slow; how fast admission is, is tested elsewhere
    )
    yield House(committed_cast, gateway, provider, key)
    await gateway.close()
