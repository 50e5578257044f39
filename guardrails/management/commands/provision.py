"""Make or find a user, a workspace, a provider credential, a budget and a rate limit; make a virtual key. Idempotent but for the key.

All of it in one transaction: on any error nothing was made. The budget, the limit and the credential end up as this call says.
"""

from __future__ import annotations

import json
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import connection, transaction

from billing.domain.dimensions import Dimension
from guardrails.actions import create_budget, create_rate_limit, update_budget, update_rate_limit
from guardrails.domain.budgets import Kind, Unit
from guardrails.domain.rates import Metric
from guardrails.models import Budget, RateLimit
from workspaces import actions, tenancy
from workspaces.audit import Actor
from workspaces.errors import Refused
from workspaces.models import Membership, Plan, Role, User, Workspace, WorkspaceState
from workspaces.vault import door
from workspaces.vault.models import ProviderCredential

CREDENTIAL = "default"
OPERATOR = Actor("manage.py provision", installation=True)


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True, help="the owner; made, with a verified address, when unknown")
        parser.add_argument("--workspace", required=True, metavar="SLUG")
        parser.add_argument(
            "--provider", required=True, metavar="NAME", help="openai, simulator, openai_compatible, ..."
        )
        parser.add_argument("--provider-key", default="", metavar="KEY", help="goes into the vault")
        parser.add_argument(
            "--base-url", default="", metavar="URL", help="where the provider is, if not at its usual address"
        )
        parser.add_argument(
            "--setting",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="what the provider needs beside the key: region=us-east-1, resource=...; several times",
        )
        parser.add_argument("--budget", metavar="USD", help="cap of the whole workspace, e.g. 50 or 0.25")
        parser.add_argument("--budget-period", default="month", choices=["day", "week", "month"])
        parser.add_argument("--rpm", metavar="N", help="calls a minute of each virtual key")
        parser.add_argument("--key-name", default="provisioned", metavar="N", help="name of the virtual key")
        parser.add_argument(
            "--plan",
            choices=Plan.values,
            help="of a workspace that is made now; an operator's own has no call quota (default: team)",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = provision(options)
        except Refused as refused:
            field = f" ({refused.field})" if refused.field else ""
            raise CommandError(f"{refused}{field} {refused.hint}".strip(), returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps(made))
            return
        for name, value in made.items():
            self.stdout.write(f"{name:12} {value}")
        self.stdout.write("The virtual key is shown this once.")


def provision(options: dict[str, Any]) -> dict[str, str]:
    """What the command prints. Raises Refused."""
    with transaction.atomic():
        with connection.cursor() as cursor:  # two runs for one workspace go one after the other
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('sluice provision', 0))")
        user = _user(options["email"])
        workspace = _workspace(options["workspace"], user, options["plan"])
        membership = _membership(workspace, user)
        with tenancy.entered(workspace):
            _credential(
                workspace, options["provider"], options["provider_key"], options["base_url"], options["setting"]
            )
            if options["budget"] is not None:
                _budget(workspace, options["budget"], options["budget_period"])
            if options["rpm"] is not None:
                _rate_limit(workspace, options["rpm"])
            key = actions.create_virtual_key(workspace=workspace, by=OPERATOR, name=options["key_name"])
            token = actions.operators_token(workspace=workspace, by=OPERATOR, membership=membership)
    return {
        "workspace": workspace.slug,
        "virtual_key": key.text,
        "base_url": f"{settings.PUBLIC_URL}/v1",
        "api_token": token.text,
    }


def _user(email: str) -> User:
    """The person with this address, which counts as verified from now on: the operator vouches for it.

    Somebody may have signed up with an address that is not theirs and never verified it: their password goes.
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise CommandError(f"{email!r} is not an e-mail address", returncode=2) from None
    user, new = User.objects.get_or_create(email=email)
    address, _ = EmailAddress.objects.get_or_create(user=user, email=email, defaults={"primary": True})
    if new or not address.verified:
        user.set_unusable_password()
        user.save(update_fields=["password"])
        address.verified = True
        address.save(update_fields=["verified"])
    return user


def _workspace(slug: str, owner: User, plan: str | None) -> Workspace:
    found: Workspace | None = Workspace.objects.filter(slug=slug).exclude(state=WorkspaceState.DELETING).first()
    if found is not None:
        return found
    name = slug.replace("-", " ").title()
    made: Workspace = actions.create_workspace(
        slug=slug, name=name or slug, owner=owner, by=OPERATOR, plan=plan or Plan.TEAM
    )
    return made


def _membership(workspace: Workspace, user: User) -> Membership:
    rows = Membership.objects.select_related("user", "workspace")
    return rows.filter(workspace=workspace, user=user).first() or actions.add_member(
        workspace=workspace, by=OPERATOR, user=user, role=Role.OWNER
    )


def _credential(workspace: Workspace, provider: str, secret: str, base_url: str, named: list[str]) -> None:
    """Without asking the provider: a command of automation makes no calls of its own."""
    chosen: dict[str, object] = {name: value for name, _, value in (pair.partition("=") for pair in named)}
    found = ProviderCredential.objects.select_related("data_key").filter(provider=provider, name=CREDENTIAL).first()
    if found is None:
        actions.add_credential(
            workspace=workspace, by=OPERATOR, provider=provider, secret=secret, name=CREDENTIAL, base_url=base_url,
            access_settings=chosen, verify=False,
        )  # fmt: skip
        return
    same = found.base_url == base_url.rstrip("/") and found.settings == chosen
    if not same or door.open_secret(workspace, found) != secret.strip():
        actions.rotate_credential(
            workspace=workspace, by=OPERATOR, credential_id=found.id, secret=secret, base_url=base_url,
            access_settings=chosen, verify=False,
        )  # fmt: skip
    if found.disabled_at is not None:
        actions.enable_credential(workspace=workspace, by=OPERATOR, credential_id=found.id)


def _budget(workspace: Workspace, usd: str, period: str) -> None:
    found = Budget.objects.filter(by="", period=period, unit=Unit.USD, kind=Kind.BUDGET).first()
    if found is None:
        create_budget(workspace=workspace, by=OPERATOR, cap=usd, period=period)
    else:
        update_budget(workspace=workspace, by=OPERATOR, budget_id=found.pk, cap=usd)


def _rate_limit(workspace: Workspace, rpm: str) -> None:
    found = RateLimit.objects.filter(by=Dimension.VIRTUAL_KEY, value=None, metric=Metric.RPM).first()
    if found is None:
        create_rate_limit(
            workspace=workspace, by=OPERATOR, metric=Metric.RPM, limit=rpm, scope=Dimension.VIRTUAL_KEY, value=None
        )
    else:
        update_rate_limit(workspace=workspace, by=OPERATOR, limit_id=found.pk, limit=rpm)
