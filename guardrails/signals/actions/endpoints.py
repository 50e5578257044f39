"""Webhooks and Slack: made, changed, tested, replayed, deleted."""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from guardrails.domain import webhooks
from guardrails.signals import hooks, outbox
from guardrails.signals.models import (
    Delivery,
    DeliveryState,
    Endpoint,
    EndpointKind,
    Kind,
    Notice,
    Severity,
)
from workspaces import audit
from workspaces.actions.base import Minted, changing, identity, words
from workspaces.audit import Actor
from workspaces.domain.addresses import BadBaseUrl, parse_base_url
from workspaces.errors import Invalid, NotThere, Taken, WrongState
from workspaces.models import Workspace
from workspaces.vault import door

MOST_ENDPOINTS: Final = 20
LONGEST_URL: Final = 500
MOST_TESTS_WAITING: Final = 5


def create_endpoint(
    *, workspace: Workspace, by: Actor, kind: str, name: str, url: str, kinds: Any = ()
) -> Minted[Endpoint]:
    """Somewhere to post notices. Answers a webhook's signing secret, shown now and never again ("" for Slack, whose address is the secret)."""
    if kind not in EndpointKind.values:
        raise Invalid(f"Choose among: {', '.join(EndpointKind.values)}.", field="kind")
    with changing(workspace):
        if Endpoint.objects.filter(workspace_id=workspace.pk).count() >= MOST_ENDPOINTS:
            raise Invalid(f"A workspace has at most {MOST_ENDPOINTS} webhooks. Delete some first.")
        address = checked_url(kind, url)
        is_slack = kind == EndpointKind.SLACK
        row = Endpoint(
            workspace_id=workspace.pk, kind=kind, name=words(name, field="name"), url=_shown_of_slack(address) if is_slack else address,
            kinds=checked_kinds(kinds), created_by=by.name[:254],
        )  # fmt: skip
        _save(row, force_insert=True)
        secret = "" if is_slack else webhooks.secret_text(secrets.token_bytes(webhooks.SECRET_BYTES))
        door.seal_note(workspace, row.pk, hooks.PURPOSE[EndpointKind(kind)], address if is_slack else secret)
        audit.record(
            workspace=workspace, by=by, action="webhook.create", target=f"{row.pk} {row.name}", after=_shown(row)
        )
    return Minted(row, secret)


def update_endpoint(*, workspace: Workspace, by: Actor, endpoint_id: UUID | str, **changes: Any) -> Endpoint:
    """Change name, url, kinds, or paused (True or False)."""
    unknown = set(changes) - {"name", "url", "kinds", "paused"}
    if unknown:
        raise Invalid(f"This cannot be changed: {', '.join(sorted(unknown))}.", field=min(unknown))
    with changing(workspace):
        row = _found(workspace, endpoint_id)
        before = _shown(row)
        if "name" in changes:
            row.name = words(changes["name"], field="name")
        if "kinds" in changes:
            row.kinds = checked_kinds(changes["kinds"])
        if "url" in changes:
            _readdress(workspace, row, changes["url"])
        if "paused" in changes:
            _pause(row, changes["paused"])
        _save(row)
        audit.record(
            workspace=workspace,
            by=by,
            action="webhook.change",
            target=f"{row.pk} {row.name}",
            before=before,
            after=_shown(row),
        )
    return row


def rotate_secret(*, workspace: Workspace, by: Actor, endpoint_id: UUID | str) -> Minted[Endpoint]:
    """Another signing secret, in force at once."""
    with changing(workspace):
        row = _found(workspace, endpoint_id)
        if row.kind != EndpointKind.WEBHOOK:
            raise WrongState("Slack has no signing secret. To use another address, change it.")
        secret = webhooks.secret_text(secrets.token_bytes(webhooks.SECRET_BYTES))
        door.seal_note(workspace, row.pk, hooks.PURPOSE[EndpointKind.WEBHOOK], secret)
        audit.record(workspace=workspace, by=by, action="webhook.rotate_secret", target=f"{row.pk} {row.name}")
    return Minted(row, secret)


def delete_endpoint(*, workspace: Workspace, by: Actor, endpoint_id: UUID | str) -> None:
    with changing(workspace):
        row = _found(workspace, endpoint_id)
        audit.record(
            workspace=workspace, by=by, action="webhook.delete", target=f"{row.pk} {row.name}", before=_shown(row)
        )
        door.forget_note(workspace, row.pk)
        Delivery.objects.filter(
            endpoint=row
        ).delete()  # first: Django takes a nullable key for one whose order does not matter
        row.delete()


def test_endpoint(*, workspace: Workspace, by: Actor, endpoint_id: UUID | str) -> Delivery:
    """Send a notice that says it is a test, to this endpoint only. It goes like any other, so the log shows what came back."""
    now = timezone.now()
    with changing(workspace):
        row = _found(workspace, endpoint_id)
        if row.paused_at is not None:
            raise WrongState("This webhook is paused.", hint="Switch it on first.")
        waiting = Delivery.objects.filter(endpoint=row, state=DeliveryState.WAITING, notice__kind=Kind.TEST)
        if waiting.count() >= MOST_TESTS_WAITING:
            raise WrongState("Several tests are on their way already.")
        said = {"lead": [f"{by.name} sent this to see whether notices arrive at “{row.name}”. They do."]}
        notice = Notice.objects.create(
            workspace_id=workspace.pk, kind=Kind.TEST, severity=Severity.INFO, key=f"test:{row.pk}:{now.isoformat()}",
            title="A test from Sluice", facts={"letter": said}, at=now, made_at=now, archived_at=now, archived_by=by.name[:254],
        )  # fmt: skip
        delivery = outbox.to_endpoint(notice, row, now)
        delivery.save()
        audit.record(workspace=workspace, by=by, action="webhook.test", target=f"{row.pk} {row.name}")
    return delivery


def replay(*, workspace: Workspace, by: Actor, endpoint_id: UUID | str, delivery_id: int) -> Delivery:
    """Send a delivery of the log once more, as one of its own."""
    now = timezone.now()
    with changing(workspace):
        row = _found(workspace, endpoint_id)
        old = (
            Delivery.objects.select_related("notice")
            .filter(workspace_id=workspace.pk, endpoint=row, pk=delivery_id)
            .first()
        )
        if old is None or old.notice is None:
            raise NotThere("There is no such delivery.")
        if old.state == DeliveryState.WAITING:
            raise WrongState("This delivery is still on its way.")
        if row.paused_at is not None:
            raise WrongState("This webhook is paused.", hint="Switch it on first.")
        delivery = outbox.to_endpoint(old.notice, row, now, again=f":{now.isoformat()}")
        delivery.save()
        audit.record(
            workspace=workspace,
            by=by,
            action="webhook.replay",
            target=f"{row.pk} {row.name}",
            after={"delivery": old.pk},
        )
    return delivery


def checked_url(kind: str, value: Any) -> str:
    """An address that notices may be posted to. Raises Invalid with a sentence. What its name resolves to is checked again at every post."""
    text = value.strip() if isinstance(value, str) else ""
    if (
        not text
        or len(text) > LONGEST_URL
        or not text.isascii()
        or not text.isprintable()
        or any(sign in text for sign in ' \\"<>^`{|}')
    ):
        raise Invalid("Write an address like https://example.com/hooks/sluice.", field="url")
    if "#" in text or "@" in urlsplit(text).netloc:
        raise Invalid("The address must not carry a fragment, a user name or a password.", field="url")
    base, _ = hooks.split_url(text)
    try:
        origin, _ = parse_base_url(base, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    except BadBaseUrl as error:
        raise Invalid(
            str(error).replace("base URL", "address").replace("A provider is", "A webhook is"), field="url"
        ) from None
    if hooks.is_us(text):
        raise Invalid("This is Sluice's own address: it would call itself.", field="url")
    if kind == EndpointKind.SLACK and not _is_slack(origin.host):
        raise Invalid("Write the address of an incoming webhook, https://hooks.slack.com/services/...", field="url")
    return text


def _is_slack(host: str) -> bool:
    """Slack's own hosts; where private addresses are allowed (development, tests), any."""
    return host in ("hooks.slack.com", "hooks.slack-gov.com") or settings.ALLOW_PRIVATE_UPSTREAMS


def checked_kinds(value: Any) -> list[str]:
    known = set(Kind.values) - {Kind.TEST}
    if not isinstance(value, list | tuple) or not all(
        isinstance(one, str) and len(one) <= 16 and one.replace("_", "").isalnum() for one in value
    ):
        raise Invalid(f"Choose among: {', '.join(sorted(known))}; none means all.", field="kinds")
    return sorted(set(value))


def _readdress(workspace: Workspace, row: Endpoint, url: Any) -> None:
    address = checked_url(row.kind, url)
    if row.kind == EndpointKind.SLACK:
        door.seal_note(workspace, row.pk, hooks.PURPOSE[EndpointKind.SLACK], address)
        address = _shown_of_slack(address)
    row.url, row.failing_since = address, None


def _pause(row: Endpoint, value: Any) -> None:
    if not isinstance(value, bool):
        raise Invalid("Write true or false.", field="paused")
    if value and row.paused_at is None:
        row.paused_at, row.paused_why = timezone.now(), "Paused by hand."
    elif not value:
        row.paused_at, row.paused_why, row.failing_since = None, "", None


def _shown_of_slack(address: str) -> str:
    return f"https://{urlsplit(address).hostname}/…{address[-4:]}"


def _save(row: Endpoint, *, force_insert: bool = False) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=force_insert)
    except IntegrityError as error:
        if "endpoint_name_once" not in str(error):
            raise
        raise Taken("There is a webhook of this name already.", field="name") from None


def _found(workspace: Workspace, endpoint_id: UUID | str) -> Endpoint:
    row = Endpoint.objects.select_for_update().filter(workspace_id=workspace.pk, pk=identity(endpoint_id)).first()
    if row is None:
        raise NotThere("There is no such webhook in this workspace.")
    return row


def _shown(row: Endpoint) -> dict[str, Any]:
    return {"kind": row.kind, "name": row.name, "url": row.url, "kinds": row.kinds, "paused": row.paused_at is not None}
