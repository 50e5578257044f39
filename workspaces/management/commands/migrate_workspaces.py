"""Bring the schemas of workspaces up to date. Visits only those that are behind; run it after `migrate_schemas --shared`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from workspaces import schemas


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        schemas.prepare()
        loud = options["verbosity"] > 0
        done = schemas.bring_up_to_date(lambda workspace: self.stdout.write(f"  {workspace.slug}") if loud else None)
        if loud:
            self.stdout.write(f"{done} workspace schema(s) migrated")
