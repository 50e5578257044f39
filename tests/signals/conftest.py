"""A real SMTP server that remembers what it took and fails on demand, and budgets whose spend is booked by the real ledger writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from billing.domain import keys
from billing.domain.money import NANO_PER_USD
from config.stack.process import free_port
from guardrails import actions
from guardrails.models import Budget
from guardrails.signals import telling
from tests.billing.ledger.conftest import Books, Events, books, events
from tests.cast import Cast
from workspaces.audit import SYSTEM
from workspaces.models import Workspace

__all__ = ["books", "events"]
USD = NANO_PER_USD


@dataclass
class Mailbox:
    """What arrived, and what the server answers next."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """Answers to the coming DATA commands; afterwards it takes everything."""
    refused: set[str] = field(default_factory=set)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refused:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content, policy=modern))
        return answer

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    box = Mailbox(free_port())
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", box.port, 5
    yield box
    controller.stop()


def text_of(mail: EmailMessage, subtype: str = "plain") -> str:
    body = mail.get_body(preferencelist=(subtype,))
    assert body is not None
    return str(body.get_content())


class Spending:
    """A workspace that spends: calls are booked by the real writer, budgets made by the real actions."""

    def __init__(self, workspace: Workspace, events: Events, books: Books) -> None:
        self.workspace, self.events, self.books = workspace, events, books

    def budget(self, cap: str = "100", **settings: Any) -> Budget:
        given = {"period": "month", "name": "Production", **settings}
        return actions.create_budget(workspace=self.workspace, by=SYSTEM, cap=cap, **given)

    def spend(
        self,
        budget: Budget,
        usd: float,
        *,
        at: datetime | None = None,
        value: str = "",
        drain: bool = True,
        **dims: str,
    ) -> None:
        at = at or datetime.now(UTC)
        at_ms = int(at.timestamp() * 1000)
        start = budget.rule().bounds_at(at_ms).start_ms
        suffix = keys.counter_suffix(budget.pk, start, keys.value_digest(value) if value else "")
        nano = round(usd * USD)
        unit = budget.rule().unit.counted_in
        amount = nano if unit == "nano" else round(usd)
        self.events.call(
            self.workspace.pk,
            cost=nano,
            held=nano,
            at_ms=at_ms,
            model=dims.pop("model", "gpt-5"),
            dims=dims,
            charges=[[suffix, unit, amount]],
        )
        if drain:
            self.drain()

    def drain(self) -> None:
        self.books.drain(self.workspace.pk)

    def tell(self, now: datetime | None = None) -> int:
        return telling.tell(now or datetime.now(UTC))


@pytest.fixture
def spending(cast: Cast, events: Events, books: Books) -> Spending:
    return Spending(cast.acme, events, books)


@pytest.fixture
def later() -> Callable[..., datetime]:
    return lambda **delta: datetime.now(UTC) + timedelta(**delta)
