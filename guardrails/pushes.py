"""Policy changes on their way to the money Redis: pushed after the commit, repaired when a push was lost.

A lost push is not an open door: replicas that still hold the old policy are only refused later, and the first admit with the new version
lifts the version for everybody. The repair makes "later" a few seconds.
"""

from __future__ import annotations

import logging

from django.db.models import F

from guardrails.limiter import control
from guardrails.limiter.connection import sync_store
from guardrails.limiter.store import StoreError
from workspaces import policy_signal
from workspaces.models import Workspace
from workspaces.policy_signal import PolicyChange

log = logging.getLogger(__name__)


def listen() -> None:
    policy_signal.register(push)


def push(change: PolicyChange) -> None:
    """Tell the money Redis; when it does not answer, leave it to `repair_pushes`."""
    try:
        control.push_policy(sync_store(), change.workspace_id, change.version, change.state)
    except StoreError as error:
        log.warning(
            "policy %d of workspace %d not pushed yet: %s", change.version, change.workspace_id, type(error).__name__
        )
        return
    Workspace.objects.filter(pk=change.workspace_id, policy_pushed__lt=change.version).update(
        policy_pushed=change.version
    )


def repair_pushes() -> int:
    """Push what was lost. Returns how many workspaces were behind."""
    behind = list(Workspace.objects.filter(policy_pushed__lt=F("policy_version"))[:500])
    for workspace in behind:
        push(PolicyChange(workspace.pk, workspace.policy_version, workspace.state))
    return len(behind)
