"""Wrap every workspace's data key with the present SLUICE_MASTER_KEY. Resumable; traffic goes on, because both keys are read meanwhile.

Steps: 1. put the new key into SLUICE_MASTER_KEY_PREVIOUS of every process; 2. swap the two; 3. run this command until it says that
the old key can be removed; 4. remove SLUICE_MASTER_KEY_PREVIOUS.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from workspaces import audit
from workspaces.models import Workspace, WorkspaceState
from workspaces.vault import door


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            primary = door.master_keys().primary_id
        except door.VaultUnavailable as error:
            raise CommandError(f"{error} {error.hint}") from None
        rewrapped, failed = 0, []
        for workspace in Workspace.objects.exclude(state=WorkspaceState.DELETING).order_by("id").iterator():
            try:
                rewrapped += self._rewrap(workspace, primary)
            except door.VaultError as error:
                failed.append(workspace.slug)
                self.stderr.write(f"{workspace.slug}: {error} {error.hint}")
        self.stdout.write(f"{rewrapped} data key(s) wrapped with master key {primary}")
        if failed:
            raise CommandError(f"{len(failed)} workspace(s) still need the old key: {', '.join(failed[:20])}")
        self.stdout.write("No data key names another master key: SLUICE_MASTER_KEY_PREVIOUS can be removed.")

    def _rewrap(self, workspace: Workspace, primary: str) -> int:
        """One workspace in one transaction: a kill between two of them loses nothing."""
        with transaction.atomic():
            done = door.rewrap(workspace)
            if done:
                audit.record(
                    workspace=workspace, by=audit.SYSTEM, action="vault.rewrap", after={"master_key_id": primary}
                )
        return done
