"""Fixtures of the neighbours: events and books of the ledger, the gate of guardrails."""

from tests.billing.ledger.conftest import books, events
from tests.guardrails.conftest import gate

__all__ = ["books", "events", "gate"]
