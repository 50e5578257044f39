"""Gateways of our own on this worker's servers: what these tests kill is the gateway, not the stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.processes import Installation
from tests.rig.simulator import Simulator


@pytest.fixture
def site(tmp_path: Path, transactional_db: None, sluice_environment: dict[str, str]) -> Iterator[Installation]:
    """An installation without gateways and workers; start what the test needs."""
    simulator = Simulator(tmp_path / "simulator")
    environment = {**sluice_environment, "SLUICE_HOME": str(tmp_path), "SLUICE_SIMULATOR_URL": simulator.base_url}
    made = Installation(tmp_path, environment, simulator)
    try:
        simulator.start()
        yield made
    finally:
        made.stop_apps()
        simulator.stop()
