"""Acme's calls of the last minute, booked by the real ledger writer, and incidents made of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.cache import cache

from guardrails.anomalies import watching
from guardrails.anomalies.models import Incident
from tests.billing.ledger.conftest import Books, Events, books, events
from tests.cast import Cast
from workspaces import actions, tenancy
from workspaces.models import VirtualKey, Workspace

__all__ = ["books", "events"]


class Acme:
    """Acme, its key, and calls that end now."""

    def __init__(self, cast: Cast, events: Events, books: Books) -> None:
        self.workspace: Workspace = cast.acme
        self.events, self.books, self.owner = events, books, cast.alice.actor
        self.key: VirtualKey = actions.create_virtual_key(workspace=cast.acme, by=self.owner, name="Lab").row

    def fires(self, count: int, *, cost: int = 3_000_000, kind: str = "settle", **values: Any) -> None:
        """So many calls, spread over the last 40 seconds."""
        now_ms = time.time_ns() // 1_000_000
        for number in range(count):
            at_ms = now_ms - 40_000 + number * 39_000 // count
            given = {"key": str(self.key.pk), "at_ms": at_ms, **values}
            rid = self.events.emit("hold", self.workspace.pk, held=2 * cost, **given)
            self.events.emit(kind, self.workspace.pk, rid, cost=0 if kind == "void" else cost, held=2 * cost, **given)
        self.books.drain(self.workspace.pk)

    def watch(self) -> int:
        return watching.watch(datetime.now(UTC))

    def incidents(self) -> list[Incident]:
        with tenancy.entered(self.workspace):
            return list(Incident.objects.order_by("id"))

    def inside(self, do: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with tenancy.entered(self.workspace):
            return do(*args, **kwargs)


@pytest.fixture
def acme_calls(cast: Cast, events: Events, books: Books) -> Acme:
    cache.clear()
    return Acme(cast, events, books)


@pytest.fixture
def loop(acme_calls: Acme) -> Incident:
    """An agent that loops in one session, as an incident."""
    acme_calls.fires(60, dims={"agent": "scout", "session": "run-1", "feature": "research"})
    assert acme_calls.watch() == 1
    (incident,) = acme_calls.incidents()
    return incident
