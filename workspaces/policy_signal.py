"""Telling admission that a workspace's policy changed. Writers call `bump`; guardrails registers the push to the money Redis.

The version is raised in the transaction of the change, the listeners run after its commit. A push that fails is not lost:
`policy_pushed < policy_version` stays true until one succeeds, and a periodic task looks for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import F

from workspaces.models import Workspace


@dataclass(frozen=True, slots=True)
class PolicyChange:
    workspace_id: int
    version: int
    state: str


Listener = Callable[[PolicyChange], None]
_listeners: list[Listener] = []


def register(listener: Listener) -> None:
    """Called at start-up (`AppConfig.ready`) by whoever must hear of changes. Registering twice is once."""
    if listener not in _listeners:
        _listeners.append(listener)


def bump(workspace: Workspace) -> int:
    """Raise the policy version, in the transaction of the change itself. Returns the new version, set on `workspace` too.

    The row stays locked until the commit, so versions are committed in order.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("bump() belongs into the transaction of the change")
    Workspace.objects.filter(pk=workspace.pk).update(policy_version=F("policy_version") + 1)
    row: tuple[int, str] = Workspace.objects.values_list("policy_version", "state").get(pk=workspace.pk)
    version, state = row
    workspace.policy_version = version
    change = PolicyChange(workspace.pk, version, state)
    for listener in _listeners:
        transaction.on_commit(lambda listener=listener: listener(change), robust=True)  # type: ignore[misc]
    return version
