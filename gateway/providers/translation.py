"""How a provider is asked in another API than its own: what a translation is. The translations themselves are in `gateway.translation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.providers.dialect import Dialect

Request = Callable[[Mapping[str, Any], str], dict[str, Any]]


class Untranslatable(ValueError):
    """The other API has no word for it. The message says for what; `param` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Translation:
    endpoint: str
    """The provider's own, for whole answers."""
    streams: str
    """The provider's own, for streams."""
    request: Request
    """(the client's body, the provider's model) -> the provider's body. Raises Untranslatable."""
    dialect: Dialect
    """Reads the provider's answers for the bill, gives the client's."""
    needs_limit: bool = False
    """The provider demands an output limit."""
