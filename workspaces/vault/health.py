"""Telling others that a provider stopped, or began again, to take a credential. Alerts register here; writers call `announce`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction


@dataclass(frozen=True, slots=True)
class CredentialHealth:
    """One change, committed."""

    workspace_id: int
    credential_id: str
    provider: str
    name: str
    healthy: bool
    message: str
    """For people; nothing of the provider's own text."""


Listener = Callable[[CredentialHealth], None]
_listeners: list[Listener] = []


def register(listener: Listener) -> None:
    """Called at start-up (`AppConfig.ready`). Registering twice is once. A listener that fails stops nobody."""
    if listener not in _listeners:
        _listeners.append(listener)


def announce(health: CredentialHealth) -> None:
    """After the commit of the transaction it is called in."""
    for listener in _listeners:
        transaction.on_commit(lambda listener=listener: listener(health), robust=True)  # type: ignore[misc]
