"""Amounts as a page writes them: dollars, or converted to the workspace's display currency and marked. Titles keep the exact dollars."""

from __future__ import annotations

from collections.abc import Callable

from billing.domain import money
from workspaces import display


def show(nano: int) -> str:
    return shown(nano, money.show_usd)


def exact(nano: int) -> str:
    """Always dollars, to the last digit: for titles and price lines."""
    return f"{'-' if nano < 0 else ''}${money.usd_text(abs(nano))}"


def shown(nano: int, write: Callable[[int], str]) -> str:
    """`write`: how nano-dollars would be written; it begins with a dollar sign (after a minus)."""
    now = display.current()
    return write(nano) if now is None else now.show(write(now.convert(nano)), nano)
