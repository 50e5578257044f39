"""What a lead may see: their department's, and nothing else. One door, which pages and API open and every reader of the books asks.

A role that the table lists as narrowed may do an action only where the handler says that it narrows (`narrows`), and only inside `narrowed_to`.
A page or route that says nothing is closed to it: what is new leaks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from workspaces.directory.models import Department
from workspaces.errors import NotAllowed
from workspaces.models import Membership, Role

_DEPARTMENT: Final[ContextVar[str | None]] = ContextVar("department", default=None)


@contextmanager
def narrowed_to(membership: Membership) -> Iterator[None]:
    """Inside the block, which is inside the workspace, books and people are those of a lead's department; of everybody else's, all.

    Raises NotAllowed for a lead without a department.
    """
    if membership.role != Role.LEAD:
        yield
        return
    if membership.department_id is None:
        name = None
    else:
        name = Department.objects.filter(pk=membership.department_id).values_list("name", flat=True).first()
    if name is None:
        raise NotAllowed("You lead no department yet.", hint="Ask an owner or admin to put you in one.")
    token = _DEPARTMENT.set(name)
    try:
        yield
    finally:
        _DEPARTMENT.reset(token)


def department() -> str | None:
    """The name of the department that readers are narrowed to; None: they see everything."""
    return _DEPARTMENT.get()
