from __future__ import annotations

import pytest
from openai import OpenAI

from tests.gateway.world import GatewayProcess, Shop


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key)
