"""How values of dimensions read on pages: keys by their names, providers by their titles, everything else made inert."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest

from billing.domain.dimensions import OTHER, Dimension
from workspaces.domain.names import plain
from workspaces.views import reads as workspace_reads
from workspaces.views.frame import workspace_of

WITHOUT = "without one"


class Names:
    """Values of dimensions -> names, the names of virtual keys looked up once for all."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self.keys: dict[str, str] = {}

    def learn(self, dimension: str, values: Iterable[str]) -> None:
        """Look the names of these up, where they are not the values themselves."""
        if dimension == Dimension.VIRTUAL_KEY:
            missing = {value for value in values if value} - self.keys.keys()
            if missing:
                self.keys |= workspace_reads.key_names(workspace_of(self._request), missing)

    def of(self, dimension: str, value: str) -> str:
        if not value:
            return WITHOUT
        if value == OTHER:
            return "more values than are kept apart"
        if dimension == Dimension.VIRTUAL_KEY:
            self.learn(dimension, [value])
            return plain(self.keys[value])
        return workspace_reads.title_of(value) if dimension == Dimension.PROVIDER else plain(value)

    def row(self, dimension: str, value: str) -> dict[str, Any]:
        return {"value": value, "name": self.of(dimension, value), "is_named": bool(value) and value != OTHER}
