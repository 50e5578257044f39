"""One round over the workspaces that are due: each in its turn, and one that fails costs no other its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from django.db import connection

from workspaces import tenancy
from workspaces.models import Workspace

log = logging.getLogger(__name__)


def waiting(statement: str, values: Mapping[str, Any] | Sequence[Any], *, reason: str) -> list[int]:
    """The workspaces' ids that a SELECT over all of them answers in its first column; `reason` as `tenancy.every_workspace` wants it."""
    with tenancy.every_workspace(reason), connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]


def go_round(ids: Collection[int], visit: Callable[[Workspace], int], *, what: str) -> int:
    """Answers the sum of what `visit` answered. `what` is said of a workspace that failed; whatever was due there is due again."""
    total = 0
    for workspace in Workspace.objects.filter(pk__in=ids):
        try:
            total += visit(workspace)
        except Exception:  # the edge of one workspace's work: the others must have theirs
            log.exception("workspace %d: %s failed", workspace.pk, what)
    return total
