"""Where other apps put what they know on the overview: billing cannot import them, so they register what they show (see `AppConfig.ready`).

`figure` panels are the fourth number on top and are read with every live look; `main` panels are cards, `status` ones lines of the card "Signals".
A panel is asked only of those whose role may do its action, and answers None when it has nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from django.http import HttpRequest

from workspaces.roles import Action, may
from workspaces.views.frame import membership_of


class Place(StrEnum):
    FIGURE = "figure"
    MAIN = "main"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Panel:
    name: str
    place: Place
    needs: Action
    template: str
    """Included with the answer of `read` as `panel`."""
    read: Callable[[HttpRequest], Mapping[str, Any] | None]
    order: int = 100


_PANELS: Final[dict[str, Panel]] = {}


def register(panel: Panel) -> None:
    """The last one of a name counts."""
    _PANELS[panel.name] = panel


def shown(request: HttpRequest, place: Place) -> list[dict[str, Any]]:
    """The panels of a place that have something to say to who asks: [{"template", "panel"}]."""
    role = membership_of(request).role
    found = []
    for panel in sorted(_PANELS.values(), key=lambda one: (one.order, one.name)):
        if panel.place is place and may(role, panel.needs):
            answer = panel.read(request)
            if answer is not None:
                found.append({"template": panel.template, "panel": answer, "name": panel.name})
    return found
