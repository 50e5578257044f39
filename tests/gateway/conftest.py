"""The gateway's installation, shared by the tests of one worker; every test gets a workspace of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.world import GatewayProcess, Shop, World


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    sluice_environment: dict[str, str],
    django_db_setup: None,
    django_db_blocker: Any,
) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"), sluice_environment, django_db_blocker.unblock)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="session")
def gateway(world: World) -> GatewayProcess:
    return world.gateway()


@pytest.fixture
def shop(world: World) -> Shop:
    return world.shop()
