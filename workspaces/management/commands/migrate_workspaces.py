"""Bring the database up to date: with --shared the shared schema first, then the workspaces' schemas that are behind, and only those."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import SUPPRESS
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand, CommandParser

from workspaces import schemas

ROOT = Path(__file__).resolve().parents[3]
FEW = 20
"""So many are migrated before other processes had started."""


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shared", action="store_true", help="migrate the shared schema first")
        parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
        parser.add_argument("--part", help=SUPPRESS)  # k/n: what one of the processes does

    def handle(self, *args: Any, **options: Any) -> None:
        loud = options["verbosity"] > 0
        if options["part"]:
            number, count = map(int, options["part"].split("/"))
            schemas.bring_up_to_date(lambda workspace: print(workspace.slug, flush=True), part=(number, count))
            return
        if options["shared"]:
            call_command("migrate_schemas", shared=True, interactive=False, verbosity=options["verbosity"])
        schemas.prepare()
        self._done, self._all, self._lock = 0, len(schemas.behind()), Lock()
        jobs = max(1, options["jobs"]) if self._all > FEW else 1
        if jobs == 1:
            schemas.bring_up_to_date(lambda workspace: self._say(workspace.slug, loud))
        else:
            with ThreadPoolExecutor(jobs) as threads:
                failed = sum(threads.map(lambda number: self._in_process(f"{number}/{jobs}", loud), range(jobs)))
            if failed:
                raise CommandError(f"{failed} of {jobs} processes failed: run it again, it goes on where it ended")
        if loud:
            self.stdout.write(f"{self._done} workspace schema(s) migrated")

    def _in_process(self, part: str, loud: bool) -> bool:
        """Migrate one part in a process of its own; whether that failed."""
        command = [sys.executable, "manage.py", "migrate_workspaces", "--part", part]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
            for line in process.stdout or ():
                self._say(line.strip(), loud)
        return process.returncode != 0

    def _say(self, slug: str, loud: bool) -> None:
        with self._lock:
            self._done += 1
            if loud:
                self.stdout.write(f"  {self._done} of {self._all}: {slug}")
