"""`manage.py rerate [--workspace SLUG] [--since DAY] [--dry-run]`: what prices that arrived or changed make of past calls."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.domain.money import show_usd, usd_text
from billing.domain.rerating import totals_by_model
from billing.ledger.stream import StreamUnavailable
from billing.ledger.writer import StillBehind
from guardrails import rerating
from guardrails.recovery import NotNow as RebuildNotNow
from guardrails.rerating import NotNow, Report
from workspaces.models import Workspace, WorkspaceState


class Command(BaseCommand):
    help = (
        "Price calls again whose price was missing, or was changed backwards, and book the differences as corrections. "
        "Nothing is edited; running it again changes nothing more."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", help="slug; without it, every workspace")
        parser.add_argument(
            "--since", type=_day, help="calls admitted from this day (UTC) on; without it, all open books"
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would be booked, and book nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object a workspace")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["workspace"]
        workspaces = Workspace.objects.exclude(state=WorkspaceState.DELETING).order_by("slug")
        if slug:
            workspaces = workspaces.filter(slug=slug)
            if not workspaces.exists():
                raise CommandError(f"there is no workspace {slug!r}")
        for workspace in workspaces:
            try:
                report = rerating.rerate(workspace, since=options["since"], dry_run=options["dry_run"])
            except (NotNow, RebuildNotNow, StillBehind, StreamUnavailable) as error:
                raise CommandError(f"{workspace.slug}: {type(error).__name__}: {error}. Run it again.") from error
            if options["json"]:
                self.stdout.write(json.dumps(_plain(report)))
            else:
                self._show(report)

    def _show(self, report: Report) -> None:
        verb = "would be corrected" if report.dry_run else "corrected"
        self.stdout.write(
            f"{report.workspace}: {len(report.corrected)} of {report.seen} calls {verb}, by {show_usd(report.delta_nano)}"
        )
        for provider, model, count, before, after in totals_by_model(report.corrected):
            self.stdout.write(f"  {provider}/{model}: {count} calls, {show_usd(before)} -> {show_usd(after)}")
        for reason, count in report.left.most_common():
            self.stdout.write(f"  {count} left: {reason}")


def _plain(report: Report) -> dict[str, Any]:
    return {
        "workspace": report.workspace,
        "dry_run": report.dry_run,
        "seen": report.seen,
        "corrected": len(report.corrected),
        "delta_usd": usd_text(report.delta_nano),
        "delta_nano": report.delta_nano,
        "models": [
            {"provider": provider, "model": model, "calls": count, "before_nano": before, "after_nano": after}
            for provider, model, count, before, after in totals_by_model(report.corrected)
        ],
        "left": dict(report.left),
    }


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"write a day like 2026-11-01, not {text!r}") from None
