"""Bring the database up to date: with --shared the shared schema first, then the workspaces' schemas that are behind, and only those."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from workspaces import schemas
from workspaces.models import Workspace

FEW = 25
"""So many are migrated before one more process pays: it costs 30 to 50 ms of a core (a fork, a connection), a schema 2 to 5 ms and more."""
CAN_FORK = sys.platform == "linux"  # elsewhere libraries may not survive it


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shared", action="store_true", help="migrate the shared schema first")
        parser.add_argument("--jobs", type=_at_least_one, help=f"processes (default: one a core, and one for {FEW})")

    def handle(self, *args: Any, **options: Any) -> None:
        loud = options["verbosity"] > 0
        if options["shared"]:
            call_command("migrate_schemas", shared=True, interactive=False, verbosity=options["verbosity"])
        schemas.prepare()
        behind = schemas.behind()
        jobs = options["jobs"] or min(os.cpu_count() or 1, len(behind) // FEW) or 1
        done = 0
        for slug in _migrated(behind, jobs if CAN_FORK else 1):
            done += 1
            if loud:
                self.stdout.write(f"  {done} of {len(behind)}: {slug}")
        if loud:
            self.stdout.write(f"{done} workspace schema(s) migrated")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("1 or more")
    return int(text)


def _migrated(behind: Sequence[Workspace], jobs: int) -> Iterator[str]:
    """Migrate; the addresses of the workspaces, each when it is done. The first is migrated here: the others learn from it."""
    scripts: schemas.Scripts = {}
    said: list[str] = []
    first = behind[:1] if jobs > 1 else behind
    for workspace in first:
        schemas.bring_up_to_date(lambda done: said.append(done.slug), [workspace], scripts)
        yield from said
        said.clear()
    rest = behind[len(first) :]
    if rest:
        yield from _in_processes([rest[number::jobs] for number in range(min(jobs, len(rest)))], scripts)


def _in_processes(parts: Sequence[Sequence[Workspace]], scripts: schemas.Scripts) -> Iterator[str]:
    """Migrate each part in a process of its own. They are forked: to start Python and Django costs as much as to migrate hundreds.

    A part goes on to its end when another fails. When we are killed, each ends at the next thing it has to say.
    """
    connection.close()  # a connection, and the pool's threads, are one process's
    connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's
    context = get_context("fork")
    running = []
    readers: list[Connection] = []
    for part in parts:
        reader, writer = context.Pipe(duplex=False)
        readers.append(reader)
        process = context.Process(target=_migrate_part, args=(part, scripts, writer, tuple(readers)))
        process.start()
        writer.close()  # before the next is forked: the pipe ends when its process does
        running.append(process)
    while readers:
        ready = wait(readers)
        for reader in [one for one in readers if one in ready]:
            try:
                yield reader.recv()
            except EOFError:
                readers.remove(reader)
                reader.close()
    for process in running:
        process.join()
    failed = sum(process.exitcode != 0 for process in running)
    if failed:
        raise CommandError(f"{failed} of {len(parts)} processes failed: run it again, it goes on where it ended")


def _migrate_part(
    part: Sequence[Workspace], scripts: schemas.Scripts, writer: Connection, others: tuple[Connection, ...]
) -> None:
    """In a process of its own."""
    for reader in others:
        reader.close()
    schemas.bring_up_to_date(lambda workspace: writer.send(workspace.slug), part, scripts)
