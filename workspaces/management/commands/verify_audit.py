"""Walk the hash chains of the audit log. Exit 1 at the first fault of any of them.

With --heads FILE the heads of the last run, kept outside the database, are compared too (a chain may only have grown), and the file
is written anew: run it daily and keep the file where the database's administrator cannot reach it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workspaces import audit, tenancy
from workspaces.models import AuditRecord, Workspace


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workspace", metavar="SLUG", help="only this workspace's chain")
        parser.add_argument(
            "--heads", type=Path, metavar="FILE", help="compare with, then rewrite, the heads in this file"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object a chain")

    def handle(self, *args: Any, **options: Any) -> None:
        known = _read(options["heads"])
        verdicts = [_against(audit.verify(chain), known.get(chain)) for chain in _chains(options["workspace"], known)]
        for verdict in verdicts:
            if options["json"]:
                shown = {
                    "workspace_id": verdict.workspace_id,
                    "records": verdict.records,
                    "head": verdict.head,
                    "fault": verdict.fault,
                }
                self.stdout.write(json.dumps(shown))
            else:
                self.stdout.write(
                    f"{verdict.workspace_id}: {verdict.records} records, {verdict.fault or 'intact'}, head {verdict.head}"
                )
        faults = [verdict for verdict in verdicts if verdict.fault]
        if faults:
            raise CommandError(f"{len(faults)} audit chain(s) broken")
        if options["heads"]:
            heads = {**known, **{verdict.workspace_id: (verdict.records, verdict.head) for verdict in verdicts}}
            options["heads"].write_text(json.dumps(heads, indent=1) + "\n")


def _chains(slug: str | None, known: dict[int, tuple[int, str]]) -> list[int]:
    if not slug:
        return sorted({*audit.chains(), *known})
    workspace = Workspace.objects.filter(slug=slug).first()
    if workspace is None:
        raise CommandError(f"there is no workspace {slug}")
    return [workspace.id]


def _against(verdict: audit.Verdict, head: tuple[int, str] | None) -> audit.Verdict:
    """A chain that is intact in itself must still contain the record that was its head the last time."""
    if verdict.fault or head is None or head[0] == 0:
        return verdict
    with tenancy.every_workspace("comparing the head of an audit chain with the one kept elsewhere"):
        then = AuditRecord.objects.filter(workspace_id=verdict.workspace_id, number=head[0]).first()
    if then is None or bytes(then.hash).hex() != head[1]:
        return audit.Verdict(
            verdict.workspace_id, verdict.records, verdict.head, f"it is not the chain whose record {head[0]} was kept"
        )
    return verdict


def _read(path: Path | None) -> dict[int, tuple[int, str]]:
    if path is None or not path.exists():
        return {}
    return {int(chain): (number, head) for chain, (number, head) in json.loads(path.read_text()).items()}
