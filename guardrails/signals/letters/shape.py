"""A letter as plain values: what every way of telling lays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

from guardrails.signals.links import address
from guardrails.signals.models import Notice, Severity
from workspaces.models import Workspace


@dataclass(frozen=True, slots=True)
class Button:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a small table: a name, an amount, and a share or change beside it."""

    name: str
    amount: str
    beside: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    title: str
    lines: tuple[Line, ...]
    is_list: bool = False
    """Its lines are places to go, rather than amounts with a link beside: plain text then shows the addresses, too."""


@dataclass(frozen=True, slots=True)
class Letter:
    title: str
    tone: str
    """info, warning, critical or good."""
    figure: str = ""
    """The number, large."""
    beside: str = ""
    """What stands beside the number."""
    percent: int | None = None
    lead: tuple[str, ...] = ()
    """Sentences."""
    points: tuple[str, ...] = ()
    """What happens next, one line each."""
    points_title: str = "What happens next"
    blocks: tuple[Block, ...] = field(default=())
    buttons: tuple[Button, ...] = field(default=())
    """The first is the one most people need."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose clock a letter speaks."""

    workspace: Workspace
    zone: ZoneInfo


Writer = Callable[[Notice, Reader], Letter]
TONES: Final = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "critical"}


def notice_button(notice: Notice, reader: Reader) -> Button:
    return Button("Open it in Sluice", address("alert", reader.workspace.slug, notice.id))
