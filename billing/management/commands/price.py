"""`manage.py price --json < lines`: prices answers one line at a time, without a database."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any

from django.core.management.base import BaseCommand

from billing.domain.evaluate import BadLine, evaluate
from billing.domain.pricing import PriceBook
from billing.prices import default_book


class Command(BaseCommand):
    help = "Price provider answers: one JSON object a line in (provider, endpoint, model, request, response_or_usage, streamed, at), one out."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="read JSON lines and write JSON lines (the only form there is)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        price_lines(sys.stdin, self.stdout, default_book(), now=datetime.now(UTC))


def price_lines(lines: IO[str], out: Any, book: PriceBook, *, now: datetime) -> None:
    """Answers every line with one line, in order; a line that cannot be read gets {"error": ...} and stops nothing."""
    for line in lines:
        if line.strip():
            out.write(json.dumps(_answer(line, book, now), ensure_ascii=False))


def _answer(line: str, book: PriceBook, now: datetime) -> dict[str, Any]:
    try:
        parsed = json.loads(line, parse_float=Decimal)
        if not isinstance(parsed, dict):
            return {"error": "a line must be a JSON object"}
        return evaluate(parsed, book, now=now)
    except BadLine as problem:
        return {"error": str(problem)}
    except (ValueError, RecursionError) as problem:
        return {"error": f"not readable as JSON: {problem}"[:300]}
