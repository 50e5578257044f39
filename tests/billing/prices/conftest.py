"""Fixtures of the neighbours: events and books of the ledger, the gate of guardrails, a whole gateway."""

from tests.billing.ledger.conftest import books, events
from tests.gateway.conftest import echo_upstream, gateway, shop, world
from tests.guardrails.conftest import gate

__all__ = ["books", "echo_upstream", "events", "gate", "gateway", "shop", "world"]
