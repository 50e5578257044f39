"""Make the demo workspace: three months of believable traffic through the real ledger path. Says the address and the login."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from guardrails.demo import build, story
from workspaces.models import Workspace


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--size", type=float, default=1.0, metavar="N", help="share of the story's 260,000 calls (0.001 to 2)"
        )
        parser.add_argument("--workspace", default=story.SLUG, metavar="SLUG")

    def handle(self, *args: Any, **options: Any) -> None:
        size, slug = options["size"], options["workspace"]
        if not 0.001 <= size <= 2:
            raise CommandError("--size is from 0.001 to 2", returncode=2)
        there = Workspace.objects.filter(slug=slug).first()
        if there is None or build.is_half_made(there):
            logging.getLogger("billing.ledger").setLevel(logging.WARNING)  # each threshold of three months is no news
            try:
                made = build.make(now=datetime.now(UTC), size=size, slug=slug, say=self._say)
            except build.NotHere as refused:
                raise CommandError(str(refused), returncode=2) from None
            self._say(f"{made.calls:,} calls in {made.seconds:.0f} s")
        self.stdout.write(
            f"\nThe demo:  {settings.PUBLIC_URL}/w/{slug}/\n  e-mail    {story.OWNER}\n  password  {story.PASSWORD}"
            f"\n  or        {story.address_of(story.LEAD)}, the lead of a department, with the same password"
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
