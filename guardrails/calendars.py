"""Budgets follow their workspace to another time zone."""

from __future__ import annotations

import logging

from guardrails.actions import follow_time_zone
from workspaces import policy_signal
from workspaces.models import Workspace
from workspaces.policy_signal import PolicyChange

log = logging.getLogger(__name__)


def listen() -> None:
    policy_signal.register(follow)


def follow(change: PolicyChange) -> None:
    """After any change of a workspace's policy: its zone may have been what changed."""
    workspace = Workspace.objects.filter(pk=change.workspace_id).first()
    if workspace is not None and follow_time_zone(workspace):
        log.info("workspace %d: budgets follow to %s when their periods end", workspace.pk, workspace.time_zone)
