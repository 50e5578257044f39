"""`manage.py reconcile --workspace SLUG --json`: books against counters; exit status 1 on a difference."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.domain.money import show_usd
from guardrails import reconciliation
from workspaces.models import Workspace, WorkspaceState


class Command(BaseCommand):
    help = "Compare a workspace's ledger, rollups and counters, as integers. Exit status 1 on a difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", help="slug; without it, every workspace")
        parser.add_argument("--json", action="store_true", help="print one JSON object a workspace")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["workspace"]
        workspaces = Workspace.objects.exclude(state=WorkspaceState.DELETING).order_by("slug")
        if slug:
            workspaces = workspaces.filter(slug=slug)
            if not workspaces.exists():
                raise CommandError(f"there is no workspace {slug!r}")
        differing = 0
        for workspace in workspaces:
            try:
                found = reconciliation.report(workspace)
            except reconciliation.Busy as error:
                raise CommandError(str(error)) from error
            differing += bool(found.differences)
            if options["json"]:
                self.stdout.write(json.dumps(found.as_plain()))
                continue
            verdict = "equal" if not found.differences else f"{len(found.differences)} DIFFERENCES"
            self.stdout.write(
                f"{found.workspace}: {found.entries} entries, {show_usd(found.ledger_nano)} in the ledger, "
                f"{found.open_holds} open holds, books and counters {verdict}"
            )
            for difference in found.differences:
                self.stdout.write(f"  {difference}")
        if differing:
            raise SystemExit(1)
