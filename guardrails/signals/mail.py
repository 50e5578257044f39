"""Mails: composing one from its delivery, and sending what is due.

A mail's Message-ID is made from its delivery's uid, so a second copy (after a sender died between the server's 250 and our note of it) is
recognised by whoever files mail. Failures that pass are tried again; an address that its server refuses for good is not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string

from billing.ledger.writer import crash_point
from guardrails.signals import audience, outbox
from guardrails.signals.letters import Letter, Reader, daily, letter_of
from guardrails.signals.links import address
from guardrails.signals.models import Channel, Delivery, DeliveryState, Kind, Pace
from guardrails.signals.text import one_line
from workspaces import tenancy
from workspaces.models import Membership, Workspace, WorkspaceState

log = logging.getLogger(__name__)

UNSUBSCRIBE_SALT: Final = "signals.unsubscribe"
MOST_IN_A_DAILY: Final = 100
_COLOURS: Final = {"info": "#1d5fbf", "warning": "#a15c07", "critical": "#c02626", "good": "#146c36"}


class NotWanted(Exception):
    """The mail is not to be sent (any more). The message says why."""


@dataclass(frozen=True, slots=True)
class Composed:
    message: EmailMultiAlternatives
    included: tuple[int, ...] = ()
    """Collected deliveries that a daily mail carries."""


# --- Composing --------------------------------------------------------------------------------------------------------
def compose(workspace: Workspace, delivery: Delivery) -> Composed:
    """The mail of a delivery, inside its workspace. Raises NotWanted."""
    assert delivery.user_id is not None  # noqa: S101 - a constraint of the table
    membership = Membership.objects.select_related("user").filter(workspace=workspace, user_id=delivery.user_id).first()
    if membership is None:
        raise NotWanted("No member of the workspace any more.")
    to = audience.verified_address(delivery.user_id)
    if to is None:
        raise NotWanted("The address was never verified.")
    preference = audience.preference_of(workspace, membership)
    reader = Reader(workspace, ZoneInfo(membership.user.time_zone or workspace.time_zone))
    included: tuple[int, ...] = ()
    if delivery.channel == Channel.DAILY:
        found = _collected(workspace, delivery.user_id)
        if not found:
            raise NotWanted("Nothing was collected.")
        included = tuple(one.pk for one in found)
        letter = daily([one.notice for one in found if one.notice], reader)
    else:
        assert delivery.notice is not None  # noqa: S101 - only a daily mail has none
        is_digest = delivery.notice.kind == Kind.DIGEST
        if (is_digest and not preference.weekly) or (not is_digest and preference.mail == Pace.OFF):
            raise NotWanted("Switched off by the reader meanwhile.")
        letter = letter_of(delivery.notice, reader)
    what = "weekly" if delivery.notice is not None and delivery.notice.kind == Kind.DIGEST else "alerts"
    return Composed(_message(workspace, delivery, letter, to, _why(workspace, membership, what), what), included)


def _collected(workspace: Workspace, user_id: UUID) -> list[Delivery]:
    rows = Delivery.objects.select_related("notice").filter(
        workspace_id=workspace.pk, user_id=user_id, state=DeliveryState.COLLECTED
    )
    return list(rows.order_by("-id")[:MOST_IN_A_DAILY])


def _why(workspace: Workspace, membership: Membership, what: str) -> str:
    heard = "get its weekly digest" if what == "weekly" else "hear of its budgets"
    return (
        f"You are {membership.get_role_display().lower()} of {workspace.name} and {heard} at {membership.user.email}."
    )


def _message(
    workspace: Workspace, delivery: Delivery, letter: Letter, to: str, why: str, what: str
) -> EmailMultiAlternatives:
    assert delivery.user_id is not None  # noqa: S101 - as above
    unsubscribe = unsubscribe_url(workspace, delivery.user_id, what)
    filled = None if letter.percent is None else max(0, min(100, letter.percent))
    context = {
        "letter": letter, "workspace": workspace.name, "colour": _COLOURS[letter.tone], "why": why,
        "filled": filled, "unfilled": None if filled is None else 100 - filled,
        "preferences_url": address("alert_preferences", workspace.slug), "unsubscribe_url": unsubscribe,
    }  # fmt: skip
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    message = EmailMultiAlternatives(
        subject=one_line(f"[{workspace.name}] {letter.title}", 200),
        body=render_to_string("signals/mail/letter.txt", context),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[to],
        headers={
            "Message-ID": f"<{delivery.uid}@{host}>",
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
            "List-Id": f"<{what}.{workspace.slug}.{host}>",
            "List-Unsubscribe": f"<{unsubscribe}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
    )
    message.attach_alternative(render_to_string("signals/mail/letter.html", context), "text/html")
    return message


def unsubscribe_url(workspace: Workspace, user_id: UUID, what: str) -> str:
    return address("unsubscribe", signing.dumps([workspace.pk, str(user_id), what], salt=UNSUBSCRIBE_SALT))


def read_unsubscribe(token: str) -> tuple[int, UUID, str] | None:
    """(workspace, person, "alerts" or "weekly") of a link of ours; None for any other text. Links do not expire: mails are kept for years."""
    try:
        workspace_id, user_id, what = signing.loads(token, salt=UNSUBSCRIBE_SALT)
        return int(workspace_id), UUID(user_id), str(what)
    except (signing.BadSignature, ValueError, TypeError):
        return None


# --- Sending ----------------------------------------------------------------------------------------------------------
class Passing(Exception):
    """Not delivered; later it may be."""


class Refused(Exception):
    """The other side refused it for good."""


def send_due(*, busy_s: float = 20.0) -> int:
    """Send the mails that are due, until none is or the time is over. Answers how many went out."""
    ends_at, done = time.monotonic() + busy_s, 0
    while time.monotonic() < ends_at:
        leased = outbox.lease([Channel.MAIL, Channel.DAILY], datetime.now(UTC))
        if not leased:
            break
        with _Connection() as connection:
            for workspace, delivery in in_workspaces(leased):
                done += _send_one(workspace, delivery, connection)
        if connection.is_down:
            break
    return done


def in_workspaces(leased: list[Delivery]) -> Iterator[tuple[Workspace, Delivery]]:
    """Each delivery inside its workspace; those of deleted workspaces are left to go with it."""
    workspaces = Workspace.objects.in_bulk({delivery.workspace_id for delivery in leased})
    for delivery in leased:
        workspace = workspaces.get(delivery.workspace_id)
        if workspace is None or workspace.state == WorkspaceState.DELETING:
            with tenancy.every_workspace("deliveries of deleted workspaces end"):
                outbox.skipped(delivery, datetime.now(UTC), "The workspace was deleted.")
            continue
        with tenancy.entered(workspace):
            yield workspace, delivery


def _send_one(workspace: Workspace, delivery: Delivery, connection: _Connection) -> int:
    if connection.is_down:
        outbox.failed(delivery, datetime.now(UTC), connection.why, permanent=False)
        return 0
    try:
        composed = compose(workspace, delivery)
    except NotWanted as error:
        outbox.skipped(delivery, datetime.now(UTC), str(error))
        return 0
    except Exception:  # whatever a notice holds, its delivery is marked and tried again, and the queue goes on
        log.exception("mail %s cannot be composed", delivery.uid)
        outbox.failed(delivery, datetime.now(UTC), "It could not be composed.", permanent=False)
        return 0
    try:
        connection.open()
        if not outbox.begin(delivery, datetime.now(UTC)):
            return 0
        connection.send(composed.message)
    except Passing as error:
        outbox.failed(delivery, datetime.now(UTC), str(error), permanent=False)
        return 0
    except Refused as error:
        outbox.failed(delivery, datetime.now(UTC), str(error), permanent=True)
        return 0
    crash_point("mail_accepted")
    now = datetime.now(UTC)
    outbox.sent(delivery, now)
    if composed.included:
        Delivery.objects.filter(pk__in=composed.included).update(state=DeliveryState.SENT, ended_at=now)
    return 1


class _Connection:
    """One connection to the mail server for a batch; foreign errors become ours here."""

    def __init__(self) -> None:
        self.backend: BaseEmailBackend = get_connection()
        self.is_down, self.why = False, ""

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: Any) -> None:
        with suppress(OSError, SMTPException):
            self.backend.close()

    def open(self) -> None:
        """Raises Passing when the server cannot be reached: then nothing of the batch can go."""
        try:
            self.backend.open()
        except (OSError, SMTPException) as error:
            self.is_down, self.why = True, _said(error)
            raise Passing(self.why) from None

    def send(self, message: EmailMultiAlternatives) -> None:
        try:
            self.backend.send_messages([message])
        except SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            self._renew()
            if codes and all(code >= 500 for code in codes):
                raise Refused(f"The mail server refused the address ({codes[0]}).") from None
            raise Passing(_said(error)) from None
        except (OSError, SMTPException) as error:
            self._renew()
            raise Passing(_said(error)) from None
        except Exception as error:  # anymail is optional: its errors are known by their module, all others go on
            if type(error).__module__.partition(".")[0] != "anymail":
                raise
            if "Recipient" in type(error).__name__:
                raise Refused("The mail provider refused the address.") from None
            raise Passing(_said(error)) from None

    def _renew(self) -> None:
        """After an error in the middle the state of the connection is unknown."""
        with suppress(OSError, SMTPException):
            self.backend.close()
        self.backend = get_connection()


def _said(error: BaseException) -> str:
    code = getattr(error, "smtp_code", None)
    return f"The mail server did not take it ({type(error).__name__}{f' {code}' if code else ''})."
