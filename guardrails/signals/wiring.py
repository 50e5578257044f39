"""What signals hear of and add to, at start-up."""

from __future__ import annotations

from django.http import HttpRequest

from guardrails.signals import queries, stages
from workspaces import policy_signal
from workspaces.models import Workspace
from workspaces.policy_signal import PolicyChange
from workspaces.views import frame


def connect() -> None:
    policy_signal.register(_policy_changed)
    frame.BADGES["alerts"] = _unseen


def _policy_changed(change: PolicyChange) -> None:
    """A cap may have been raised: whoever was stopped by it is told when it lets calls through again."""
    workspace = Workspace.objects.filter(pk=change.workspace_id).first()
    if workspace is not None:
        stages.look_soon(workspace)


def _unseen(request: HttpRequest) -> int:
    return queries.unseen(frame.workspace_of(request), frame.membership_of(request))
