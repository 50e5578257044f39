"""Posting notices to webhooks (signed as Standard Webhooks says) and to Slack, through the one guarded door (`workspaces.outbound`).

Requests of a batch run side by side in threads that touch no database, each bounded in time and bytes; redirects are not followed. What fails is
tried again for two days; an endpoint that only fails for three days is paused, and its workspace told.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from billing.ledger.writer import crash_point
from guardrails.domain import webhooks
from guardrails.domain.alerting import LEAST_WAIT_S
from guardrails.signals import outbox
from guardrails.signals.letters import Block, Reader, letter_of
from guardrails.signals.links import address
from guardrails.signals.mail import in_workspaces
from guardrails.signals.models import Channel, Delivery, DeliveryState, Endpoint, EndpointKind, Notice, Severity
from guardrails.signals.telling import notify
from guardrails.signals.text import one_line
from workspaces import outbound
from workspaces.models import Workspace
from workspaces.vault import door
from workspaces.vault.door import VaultError

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
AT_ONCE: Final = 16
PAUSED_AFTER: Final = timedelta(days=3)
PURPOSE: Final = {EndpointKind.WEBHOOK: "webhook secret", EndpointKind.SLACK: "slack address"}
_POST_TO: Final = "The receiver"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A request ready to go: everything a thread needs, and no database."""

    delivery: Delivery
    base_url: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int | None
    said: str
    permanent: bool = False
    gone: bool = False

    @property
    def is_good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def post_due(*, busy_s: float = 15.0) -> int:
    """Post what is due, until nothing is or the time is over. Answers how many were taken."""
    ends_at, done = time.monotonic() + busy_s, 0
    while time.monotonic() < ends_at:
        leased = outbox.lease([Channel.WEBHOOK, Channel.SLACK], datetime.now(UTC), limit=AT_ONCE)
        if not leased:
            break
        parcels = [parcel for workspace, delivery in in_workspaces(leased) if (parcel := _packed(workspace, delivery))]
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="post") as threads:
            outcomes = dict(zip([parcel.delivery.pk for parcel in parcels], threads.map(_posted, parcels), strict=True))
        crash_point("hook_answered")
        sent = [parcel.delivery for parcel in parcels]
        for workspace, delivery in in_workspaces(sent):
            done += _noted(workspace, delivery, outcomes[delivery.pk])
    return done


def _packed(workspace: Workspace, delivery: Delivery) -> Parcel | None:
    """Inside the workspace. None when there is nothing to send any more."""
    endpoint, notice, now = delivery.endpoint, delivery.notice, datetime.now(UTC)
    assert endpoint is not None  # noqa: S101 - a constraint of the table
    assert notice is not None  # noqa: S101 - only daily mails have none
    if endpoint.paused_at is not None:
        outbox.skipped(delivery, now, "The endpoint is paused.")
        return None
    try:
        secret = door.open_note(workspace, endpoint.pk, PURPOSE[EndpointKind(endpoint.kind)])
    except VaultError as error:
        outbox.failed(delivery, now, str(error), permanent=error.status == 409)
        return None
    is_slack = endpoint.kind == EndpointKind.SLACK
    try:
        body = orjson.dumps(slack_message(workspace, notice) if is_slack else payload(workspace, notice))
    except Exception:  # whatever a notice holds, its delivery is marked and tried again, and the queue goes on
        log.exception("delivery %s cannot be composed", delivery.uid)
        outbox.failed(delivery, now, "It could not be composed.", permanent=False)
        return None
    if not outbox.begin(delivery, now):
        return None
    if is_slack:
        return Parcel(delivery, *split_url(secret), {"content-type": "application/json"}, body)
    signed = webhooks.headers(secret, f"msg_{delivery.uid.hex}", int(now.timestamp()), body)
    return Parcel(delivery, *split_url(endpoint.url), signed, body)


def _posted(parcel: Parcel) -> Outcome:
    try:
        answer = outbound.post(
            parcel.base_url, parcel.path, headers=parcel.headers, content=parcel.body, timeout_s=TIMEOUT_S
        )
    except outbound.OutboundFailed as error:
        return Outcome(None, str(error), permanent=error.permanent)
    if 200 <= answer.status < 300:
        return Outcome(answer.status, "")
    if 300 <= answer.status < 400:
        return Outcome(
            answer.status, f"{_POST_TO} answered with a redirect, which is not followed. Write the final address."
        )
    said = one_line(answer.body[:200].decode("utf-8", "replace"), 160)
    return Outcome(
        answer.status, f"{_POST_TO} answered {answer.status}{f': {said}' if said else ''}", gone=answer.status == 410
    )


def _noted(workspace: Workspace, delivery: Delivery, outcome: Outcome) -> int:
    now, endpoint = datetime.now(UTC), delivery.endpoint
    assert endpoint is not None  # noqa: S101 - a constraint of the table
    if outcome.is_good:
        outbox.sent(delivery, now, status=outcome.status)
        Endpoint.objects.filter(pk=endpoint.pk, failing_since__isnull=False).update(failing_since=None)
        return 1
    outbox.failed(delivery, now, outcome.said, permanent=outcome.permanent or outcome.gone, status=outcome.status)
    # The others of this endpoint would meet the same: they wait, so that they do not keep those of other endpoints waiting.
    soon = now + timedelta(seconds=LEAST_WAIT_S)
    waiting = Delivery.objects.filter(endpoint=endpoint, state=DeliveryState.WAITING, leased_until__isnull=True)
    waiting.update(due_at=Greatest(F("due_at"), soon))
    since = endpoint.failing_since or now
    Endpoint.objects.filter(pk=endpoint.pk, failing_since__isnull=True).update(failing_since=now)
    if outcome.gone or now - since > PAUSED_AFTER:
        _pause(workspace, endpoint, outcome.said, now)
    return 1


def _pause(workspace: Workspace, endpoint: Endpoint, why: str, now: datetime) -> None:
    with transaction.atomic():
        paused = Endpoint.objects.filter(pk=endpoint.pk, paused_at=None).update(paused_at=now, paused_why=why[:200])
        if not paused:
            return
        said = {
            "lead": [f"“{endpoint.name}” gets no notices any more: {why}", "Put it right, then switch it on again."],
            "buttons": [["Open the endpoint", address("endpoint", workspace.slug, endpoint.pk)]],
        }
        notify(
            workspace, kind="endpoint_paused", severity=Severity.WARNING, key=f"paused:{endpoint.pk}:{now.isoformat()}",
            title=f"Notices to “{endpoint.name}” are paused", facts={"letter": said}, at=now, now=now,
        )  # fmt: skip


# --- What is sent -----------------------------------------------------------------------------------------------------
def payload(workspace: Workspace, notice: Notice) -> dict[str, Any]:
    """A webhook's body. Facts are those of the notice: amounts as integers in the budget's unit, moments in ISO 8601."""
    return {
        "type": f"alert.{notice.kind}",
        "timestamp": notice.at.astimezone(UTC).isoformat(),
        "data": {
            "id": str(notice.id),
            "workspace": workspace.slug,
            "kind": notice.kind,
            "severity": notice.severity,
            "title": notice.title,
            "url": address("alert", workspace.slug, notice.id),
            **notice.facts,
        },
    }


def slack_message(workspace: Workspace, notice: Notice) -> dict[str, Any]:
    """Block Kit: https://docs.slack.dev/reference/block-kit/blocks"""
    letter = letter_of(notice, Reader(workspace, ZoneInfo(workspace.time_zone)))
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": _MARK[letter.tone] + one_line(letter.title, 140), "emoji": True},
        }
    ]
    body = [f"*{_escaped(letter.figure)}* {_escaped(letter.beside)}"] if letter.figure else []
    body += [_escaped(line) for line in letter.lead]
    body += [f"• {_escaped(point)}" for point in letter.points]
    if body:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(body)[:2900]}})
    if letter.blocks:
        blocks.append({"type": "section", "fields": [_field(block) for block in letter.blocks[:8]]})
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": button.label[:70]}, "url": button.url[:2900]}
        for button in letter.buttons[:5]
    ]
    buttons[0]["style"] = "primary"
    blocks.append({"type": "actions", "elements": buttons})
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"Sluice · {_escaped(workspace.name)}"}]})
    return {"text": one_line(f"[{workspace.name}] {_escaped(letter.title)}", 300), "blocks": blocks}


_MARK: Final = {"critical": "🛑 ", "warning": "⚠️ ", "info": "", "good": "✅ "}


def _field(block: Block) -> dict[str, str]:
    lines = [
        f"{_escaped(one_line(line.name, 60))}: {line.amount}{f' ({line.beside})' if line.beside else ''}"
        for line in block.lines
    ]
    return {"type": "mrkdwn", "text": "\n".join([f"*{_escaped(block.title)}*", *lines])[:1900]}


def _escaped(text: str) -> str:
    """Slack's control characters, so that a customer's name is no link and no mention; asterisks and the like stay harmless text."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"{letter}\u200b" if letter in "*_~`" else letter for letter in plain)


def split_url(url: str) -> tuple[str, str]:
    """An endpoint's address as the door wants it: (scheme and host, path with its query)."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{path}?{parts.query}" if parts.query else path


def is_us(url: str) -> bool:
    """Whether an address is this installation's own: a notice must not call the place that makes notices."""
    ours, theirs = urlsplit(settings.PUBLIC_URL), urlsplit(url)
    hosts = {(ours.hostname or "").lower(), *(host.lower() for host in settings.ALLOWED_HOSTS)}
    default = {"https": 443, "http": 80}
    same_port = (theirs.port or default.get(theirs.scheme)) == (ours.port or default.get(ours.scheme))
    return (theirs.hostname or "").lower() in hosts and (same_port or theirs.scheme != "http")
