"""Acme asks a dear model, through the real stream and writer, and is looked at for waste."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.domain.extraction.record import Usage, UsageContext
from billing.prices import default_book
from guardrails.domain.waste import pricing
from guardrails.waste import looking
from guardrails.waste.models import Finding
from tests.billing.ledger.conftest import Books, Events, books, events
from tests.cast import Cast
from workspaces import tenancy
from workspaces.models import Workspace

__all__ = ["books", "events"]
OPUS, HAIKU = "claude-opus-4-5", "claude-haiku-4-5"
BOOK = default_book()


class Asking:
    """Calls of a workspace at moments of the last days."""

    def __init__(self, workspace: Workspace, events: Events, books: Books) -> None:
        self.workspace, self.events, self.books = workspace, events, books
        self.now = (datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=0)
        """A noon: what is asked within minutes is of one day."""
        self._number = 0

    def ask(
        self,
        count: int = 1,
        *,
        days_ago: float = 1,
        model: str = OPUS,
        fresh: int = 3000,
        output: int = 200,
        step_s: float = 40,
        **values: Any,
    ) -> list[int]:
        """So many calls, one after the other; answers what each cost."""
        costs = []
        for number in range(count):
            self._number += 1  # events of one millisecond have no order
            at = self.now - timedelta(days=days_ago) + timedelta(seconds=number * step_s, milliseconds=self._number)
            buckets = {"input_uncached": fresh, "output_text": output}
            used = Usage(buckets=buckets, context=UsageContext(prompt_total=fresh))
            at_ms = int(at.timestamp() * 1000)
            cost = pricing.priced(BOOK, "anthropic", model, at_ms, used)
            assert cost is not None
            given = {"dims": {"feature": "summary"}, **values}
            self.events.call(
                self.workspace.pk,
                cost=cost,
                held=cost,
                at_ms=at_ms,
                model=model,
                provider="anthropic",
                buckets=buckets,
                **given,
            )
            costs.append(cost)
        return costs

    def look(self, **later: float) -> None:
        self.books.drain(self.workspace.pk)
        assert looking.look_at(self.workspace, self.now + timedelta(**later))

    def findings(self, **wanted: Any) -> list[Finding]:
        with tenancy.entered(self.workspace):
            return list(Finding.objects.filter(**wanted).order_by("-waste_nano"))


@pytest.fixture
def asking(cast: Cast, events: Events, books: Books) -> Asking:
    return Asking(cast.acme, events, books)
