"""Gateways of our own on this worker's servers: what these tests kill is the gateway, not the stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.rig import world
from tests.rig.processes import Installation
from tests.rig.simulator import Simulator


@dataclass
class OnOurStores(Installation):
    """On the stores of this very process: what would be asked of a command is done here, in a thread, because an event loop may run in this one."""

    def ask(self, *words: str, given: Any = None) -> Any:
        def answer() -> Any:
            try:
                return json.loads(json.dumps(world.VERBS[words[0]](given)))
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(answer).result(120)


@pytest.fixture
def site(
    tmp_path: Path, transactional_db: None, sluice_environment: dict[str, str], settings: Any
) -> Iterator[Installation]:
    """An installation without gateways and workers; start what the test needs."""
    simulator = Simulator(tmp_path / "simulator")
    environment = {**sluice_environment, "SLUICE_HOME": str(tmp_path), "SLUICE_SIMULATOR_URL": simulator.base_url}
    settings.SIMULATOR_URL = simulator.base_url
    made = OnOurStores(tmp_path, environment, simulator)
    try:
        simulator.start()
        yield made
    finally:
        made.stop_apps()
        simulator.stop()
