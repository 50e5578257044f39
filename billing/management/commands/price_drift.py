"""`manage.py price_drift [--litellm PATH | --page PROVIDER=PATH ...] [--json]`: our price table against litellm's, or against the providers' own
price pages; exit status 1 on a difference without a reason."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.prices import default_book, drift, pages
from billing.prices.drift import Compared, Rule, Unreadable

LIST = "model_prices_and_context_window_backup.json"
OPEN = "open:"
"""How the reason of a difference begins that is known and not yet decided."""


class Command(BaseCommand):
    help = "Compare our price table with litellm's price JSON. Exit status 1 when a difference has no reason in billing/prices/drift.json."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--litellm", type=Path, help=f"{LIST}; default: the one of an installed litellm")
        parser.add_argument(
            "--page", action="append", metavar="PROVIDER=PATH", help="a provider's own price page, saved as Markdown"
        )
        parser.add_argument("--allowed", type=Path, default=drift.ALLOWED, help="the decisions and their reasons")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--all", action="store_true", help="also list the differences that have a reason")

    def handle(self, *args: Any, **options: Any) -> None:
        now = datetime.now(UTC)
        try:
            rules = drift.read_rules(options["allowed"])
            if options["page"]:
                found = _pages(options["page"], rules, now)
            else:
                listed = drift.read_list(options["litellm"] or _installed())
                found = drift.compare(default_book(), listed, rules, now)
        except Unreadable as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(_plain(found)))
        else:
            self._show(found, everything=options["all"])
        if found.unexplained:
            raise SystemExit(1)

    def _show(self, found: Compared, *, everything: bool) -> None:
        still_open = sum(difference.reason.startswith(OPEN) for difference in found.differences)
        self.stdout.write(
            f"{found.rates} rates compared, {len(found.differences)} differ: {len(found.unexplained)} without a reason, "
            f"{still_open} still open"
        )
        for difference in found.differences if everything else found.unexplained:
            self.stdout.write(f"  {difference}")
        for reason in found.unused:
            self.stdout.write(f"  no longer needed: {reason}")


def _pages(given: list[str], rules: list[Rule], now: datetime) -> Compared:
    """Several pages as one comparison."""
    book, compared = default_book(), []
    for one in given:
        provider, equals, path = one.partition("=")
        if not equals or not book.knows(provider):
            raise CommandError(f"--page needs PROVIDER=PATH with a provider of the price table, not {one!r}")
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CommandError(f"{path}: {error}") from error
        compared.append(pages.compare(book, provider, text, rules, now))
        if not compared[-1].rates:
            raise CommandError(f"{path} has no token prices in a form that is read: the page's format may have changed")
    differences = tuple(difference for one in compared for difference in one.differences)
    return Compared(sum(one.rates for one in compared), differences, ())


def _installed() -> Path:
    """The list inside litellm's wheel, found without importing it."""
    spec = find_spec("litellm")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / LIST).exists():
            return Path(folder) / LIST
    raise CommandError(f"litellm is not installed: give its {LIST} with --litellm (pip download --no-deps litellm)")


def _plain(found: Compared) -> dict[str, Any]:
    return {
        "rates": found.rates,
        "unexplained": [asdict(difference) for difference in found.unexplained],
        "explained": [asdict(difference) for difference in found.differences if difference.reason],
        "unused": list(found.unused),
    }
