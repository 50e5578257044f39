"""Prepares the database of a benchmark and prints its virtual keys as JSON: Team workspaces without and with budgets and rate limits."""

from __future__ import annotations

import json
import sys

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from django.core.management import call_command

from guardrails.actions import create_budget, create_rate_limit
from guardrails.domain.periods import Period
from workspaces import actions
from workspaces.audit import Actor
from workspaces.models import Plan, User, Workspace

BUDGETS = (
    ("", "", Period.MONTH),
    ("", "", Period.DAY),
    ("model", "sim-instant", Period.MONTH),
    ("environment", "production", Period.MONTH),
    ("provider", "simulator", Period.MONTH),
    ("user", None, Period.DAY),
    ("virtual_key", None, Period.MONTH),
)
"""All of them meet every call of the benchmark."""
RATES = (("rpm", "", ""), ("tpm", "virtual_key", None), ("concurrency", "user", None))


WORKSPACES = {"bare": (0, 0), "one": (1, 0), "three": (3, 0), "five": (5, 0), "capped": (7, 0), "seven": (7, 3)}
"""Name -> hard budgets and rate limits that meet every call"""


def main(upstream: str, streaming: str, encrypted: str = "") -> None:
    call_command("migrate_schemas", shared=True, interactive=False, verbosity=0)
    call_command("migrate_workspaces", verbosity=0)
    owner = User.objects.create(email="bench@example.com", password="!")
    keys = {name: _workspace(owner, name, upstream, *has) for name, has in WORKSPACES.items()}
    keys["spent"] = _workspace(owner, "spent", upstream, 7, 3, cap="0.000000001")
    keys["stream"] = _workspace(owner, "stream", streaming, 7, 3)
    if encrypted:
        keys["tls"] = _workspace(owner, "tls", encrypted, 7, 3)
    print(json.dumps(keys))


def _workspace(owner: User, slug: str, base_url: str, budgets: int, rates: int, cap: str = "9000000") -> str:
    by = Actor.person(owner)
    workspace = actions.create_workspace(slug=f"bench-{slug}", name="Bench", owner=owner, by=by)
    Workspace.objects.filter(pk=workspace.pk).update(plan=Plan.TEAM)
    actions.add_credential(workspace=workspace, by=by, provider="simulator", secret="", base_url=base_url, verify=False)
    for scope, value, period in BUDGETS[:budgets]:
        create_budget(workspace=workspace, by=by, cap=cap, period=period, scope=scope, value=value)
    for metric, scope, value in RATES[:rates]:
        create_rate_limit(workspace=workspace, by=by, metric=metric, limit=1_000_000_000, scope=scope, value=value)
    return actions.create_virtual_key(workspace=workspace, by=by, name="bench").text


if __name__ == "__main__":
    main(*sys.argv[1:])
