"""Bring the database up to date: with --shared the shared schema first, then the workspaces' schemas that are behind, and only those."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from workspaces import schemas


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shared", action="store_true", help="migrate the shared schema first")

    def handle(self, *args: Any, **options: Any) -> None:
        loud = options["verbosity"] > 0
        if options["shared"]:
            call_command("migrate_schemas", shared=True, interactive=False, verbosity=options["verbosity"])
        schemas.prepare()
        done = schemas.bring_up_to_date(lambda workspace: self.stdout.write(f"  {workspace.slug}") if loud else None)
        if loud:
            self.stdout.write(f"{done} workspace schema(s) migrated")
