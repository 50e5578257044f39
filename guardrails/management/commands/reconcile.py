"""Compare a workspace's ledger, rollups and counters. Exit status 1 when something differs."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from billing.domain.money import usd_text
from billing.ledger.stream import StreamUnavailable
from billing.ledger.writer import StillBehind
from guardrails.reconciliation import Report, reconcile
from workspaces.models import Workspace


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", required=True, metavar="SLUG")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        workspace = Workspace.objects.filter(slug=options["workspace"]).first()
        if workspace is None:
            raise CommandError(f"there is no workspace {options['workspace']!r}", returncode=2)
        try:
            report = reconcile(workspace)
        except StillBehind as error:
            raise CommandError(str(error), returncode=3) from error
        except (StreamUnavailable, DatabaseError) as error:
            raise CommandError(f"a store does not answer: {type(error).__name__}: {error}", returncode=3) from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report)))
        else:
            self._tell(report)
        if report.differences:
            sys.exit(1)

    def _tell(self, report: Report) -> None:
        for name in ("ledger", "rollup", "settled", "held", "assumed"):
            self.stdout.write(f"{name:>9}  {usd_text(getattr(report, f'{name}_nano')):>20} USD")
        self.stdout.write(
            f"{report.entries} charges, {report.corrections} corrections, {report.voids} free, {report.open_holds} open"
        )
        if report.moving:
            self.stdout.write("calls kept coming: counters were not compared, ask again")
        for difference in report.differences:
            self.stdout.write(f"DIFFERENCE  {difference}")
        if not report.differences:
            self.stdout.write("no differences")
