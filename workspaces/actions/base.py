"""What every action does: lock the workspace, check its words, say no clearly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from workspaces import tenancy, zones
from workspaces.errors import Invalid, NotThere, WrongState
from workspaces.models import Workspace, WorkspaceState

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Minted(Generic[Row]):
    """A new row and the text of its secret, which is shown now and never again."""

    row: Row
    text: str = field(repr=False)


@contextmanager
def changing(workspace: Workspace, *, even_suspended: bool = True) -> Iterator[Workspace]:
    """A transaction inside the workspace that holds its row's lock: writers of one workspace go one after the other, in one order of
    locks (workspace, then audit chain), so that they cannot deadlock. `workspace` is refreshed under the lock."""
    with transaction.atomic(), tenancy.entered(workspace):
        locked = Workspace.objects.select_for_update(no_key=True).filter(pk=workspace.pk).first()
        if locked is None or locked.state == WorkspaceState.DELETING:
            raise NotThere("This workspace was deleted.")
        if locked.state == WorkspaceState.SUSPENDED and not even_suspended:
            raise WrongState("This workspace is suspended.", hint="An owner can resume it in its settings.")
        for name in ("slug", "name", "time_zone", "plan", "state", "policy_version"):
            setattr(workspace, name, getattr(locked, name))
        yield workspace


def words(value: Any, *, field: str, longest: int = 80, required: bool = True) -> str:
    """A single line for people: trimmed, printable, bounded. It ends up in headers, logs and subjects (SECURITY.md S37)."""
    if not isinstance(value, str):
        raise Invalid("Write text here.", field=field)
    text = value.strip()
    if not text and required:
        raise Invalid("This cannot be empty.", field=field)
    if len(text) > longest:
        raise Invalid(f"This has more than {longest} characters.", field=field)
    if not text.isprintable():
        raise Invalid("This has characters that cannot be shown (line breaks, for example).", field=field)
    return text


def time_zone(value: str) -> str:
    if value not in zones.names():
        raise Invalid("There is no such time zone. Write one like Europe/Berlin.", field="time_zone")
    return value


def future(value: datetime | None, *, field: str = "expires_at") -> datetime | None:
    if value is not None and (timezone.is_naive(value) or value <= timezone.now()):
        raise Invalid("This must be a time to come.", field=field)
    return value


def identity(value: Any) -> UUID:
    """An id as it comes from an address. Raises NotThere, as an unknown one does."""
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise NotThere("There is nothing with this id.") from None
