"""The outbox: deliveries made with their notice, leased by senders, ended once.

A sender leases what is due (a committed UPDATE with SKIP LOCKED, so two never hold the same), notes on each that it *begins*, sends, and notes
the end. A sender that dies leaves a lease that runs out. If its try had not begun, the next one is simply the next; if it had, it may have
arrived: it is sent once more under the same Message-ID, and never a third time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from django.db import connection
from django.db.models import F, QuerySet

from guardrails.domain.alerting import GIVEN_UP_AFTER, wait_s
from guardrails.domain.budgets import Scope
from guardrails.signals import audience
from guardrails.signals.models import Channel, Delivery, DeliveryState, Endpoint, EndpointKind, Notice, Pace
from workspaces import tenancy
from workspaces.models import Workspace

REASON: Final = "deliveries that are due are leased across workspaces"
LEASE: Final = timedelta(minutes=2)
_UIDS: Final = UUID("8a5e3c52-50b5-4a7e-9b1e-1d3b5d1f6c77")


def uid_of(workspace_id: int, what: str, to: str) -> UUID:
    return uuid5(_UIDS, f"{workspace_id}:{what}:{to}")


def hand_over(
    workspace: Workspace,
    notice: Notice,
    scope: Scope | None,
    value: str,
    now: datetime,
    *,
    later: datetime | None = None,
) -> list[Delivery]:
    """Make the deliveries of a new notice, in its transaction. `later`: not before then."""
    made: list[Delivery] = []
    for hearer in audience.hearers(workspace):
        if audience.wants(hearer, notice, scope, value):
            made += _to_person(workspace, notice, hearer, now, later)
    for endpoint in Endpoint.objects.filter(workspace_id=workspace.pk, paused_at=None):
        if not endpoint.kinds or notice.kind in endpoint.kinds:
            made.append(to_endpoint(notice, endpoint, later or now))
    return Delivery.objects.bulk_create(made, ignore_conflicts=True)


def _to_person(
    workspace: Workspace, notice: Notice, hearer: audience.Hearer, now: datetime, later: datetime | None
) -> list[Delivery]:
    mail = Delivery(
        uid=uid_of(workspace.pk, notice.key, str(hearer.user.pk)), workspace_id=workspace.pk, notice=notice,
        channel=Channel.MAIL, user_id=hearer.user.pk, due_at=max(audience.due(hearer, notice, now), later or now),
    )  # fmt: skip
    if hearer.preference.mail != Pace.DAILY or notice.kind == "digest":
        return [mail]
    mail.state = DeliveryState.COLLECTED
    morning = audience.next_morning(hearer.zone, now)
    daily = Delivery(
        uid=uid_of(workspace.pk, f"daily:{morning.date()}", str(hearer.user.pk)), workspace_id=workspace.pk,
        channel=Channel.DAILY, user_id=hearer.user.pk, due_at=morning,
    )  # fmt: skip
    return [mail, daily]


def to_endpoint(notice: Notice, endpoint: Endpoint, due_at: datetime, *, again: str = "") -> Delivery:
    """A delivery to a webhook or Slack. `again`: tells a replay from the first time."""
    return Delivery(
        uid=uid_of(notice.workspace_id, notice.key, f"{endpoint.pk}{again}"), workspace_id=notice.workspace_id, notice=notice,
        channel=Channel.SLACK if endpoint.kind == EndpointKind.SLACK else Channel.WEBHOOK, endpoint=endpoint, due_at=due_at,
    )  # fmt: skip


# --- A sender's steps -------------------------------------------------------------------------------------------------
def lease(channels: Sequence[str], now: datetime, *, limit: int = 50) -> list[Delivery]:
    """Take what is due, oldest first. What died twice in the middle is put aside on the way."""
    with tenancy.every_workspace(REASON), connection.cursor() as cursor:
        cursor.execute(_DOUBTED, {"channels": list(channels), "now": now})
        cursor.execute(_LEASE, {"channels": list(channels), "now": now, "until": now + LEASE, "limit": limit})
        ids = [row[0] for row in cursor.fetchall()]
        rows = Delivery.objects.select_related("notice", "endpoint").filter(pk__in=ids)
        return list(rows.order_by("due_at", "id"))


_DUE: Final = "state = 'waiting' AND channel = ANY(%(channels)s) AND due_at <= %(now)s AND (leased_until IS NULL OR leased_until <= %(now)s)"
_DOUBTED: Final = f"""
UPDATE signals_delivery SET doubts = doubts + 1, began_at = NULL,
    state = CASE WHEN doubts >= 1 THEN 'uncertain' ELSE state END,
    ended_at = CASE WHEN doubts >= 1 THEN %(now)s ELSE ended_at END,
    answer = CASE WHEN doubts >= 1 THEN 'The sender was interrupted twice; it may have arrived once or twice.' ELSE answer END
WHERE {_DUE} AND began_at IS NOT NULL
"""  # noqa: S608 - made of literals
_LEASE: Final = f"""
UPDATE signals_delivery SET leased_until = %(until)s WHERE id IN (
    SELECT id FROM signals_delivery WHERE {_DUE} ORDER BY due_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) RETURNING id
"""  # noqa: S608 - made of literals


def begin(delivery: Delivery, now: datetime) -> bool:
    """Note that from here on it may arrive. False when the lease ran out meanwhile: somebody else has it."""
    done = _row(delivery, leased_until=delivery.leased_until, state=DeliveryState.WAITING).update(
        began_at=now, leased_until=now + LEASE, tries=F("tries") + 1
    )
    delivery.leased_until = now + LEASE
    delivery.tries += 1
    return done == 1


def sent(delivery: Delivery, now: datetime, *, answer: str = "", status: int | None = None) -> None:
    _end(delivery, DeliveryState.SENT, now, answer, status)


def skipped(delivery: Delivery, now: datetime, why: str) -> None:
    _end(delivery, DeliveryState.SKIPPED, now, why, None)


def failed(delivery: Delivery, now: datetime, why: str, *, permanent: bool, status: int | None = None) -> bool:
    """Try again later, or give up. Answers whether it was given up."""
    if permanent or now - delivery.made_at > GIVEN_UP_AFTER:
        _end(delivery, DeliveryState.FAILED, now, why, status)
        return True
    pause = wait_s((now - delivery.made_at).total_seconds(), random.random())
    _row(delivery).update(
        began_at=None, leased_until=None, due_at=now + timedelta(seconds=pause), answer=why[:300], status=status
    )
    return False


def _end(delivery: Delivery, state: DeliveryState, now: datetime, answer: str, status: int | None) -> None:
    _row(delivery).update(
        state=state, began_at=None, leased_until=None, ended_at=now, answer=answer[:300], status=status
    )


def _row(delivery: Delivery, **more: object) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk=delivery.pk, **more)
