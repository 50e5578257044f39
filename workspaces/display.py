"""In which currency the page that is being made shows amounts. Set once a page (`views.frame`), read wherever an amount is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from workspaces.domain.currencies import DOLLARS, Display
from workspaces.models import Workspace

_DISPLAY: Final[ContextVar[Display | None]] = ContextVar("display", default=None)


def display_of(workspace: Workspace) -> Display | None:
    """None: dollars."""
    if workspace.display_currency == DOLLARS or workspace.display_rate is None:
        return None
    return Display(workspace.display_currency, workspace.display_rate)


@contextmanager
def shown_as(workspace: Workspace) -> Iterator[None]:
    token = _DISPLAY.set(display_of(workspace))
    try:
        yield
    finally:
        _DISPLAY.reset(token)


def current() -> Display | None:
    return _DISPLAY.get()
