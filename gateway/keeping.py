"""The one door to `gateway.models.Kept`: which of the things that providers keep are this workspace's, and what is still owed for them.

Batches, files and background answers are written before the client has its answer. A plain stored response is only an address: it is written a
moment later with others, and known to this process at once; losing one costs a 404 and no money.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from django.db.models import Q

from gateway.models import Kept, KeptKind, KeptState
from guardrails.policy import Policy
from guardrails.routes import Credential
from guardrails.threads import DATABASE_AWAY, in_thread
from workspaces import tenancy
from workspaces.ids import uuid7
from workspaces.models import Workspace

log = logging.getLogger(__name__)

R = TypeVar("R")
Name = tuple[int, str, str]
RESPONSES_KEPT = timedelta(days=30)
FILES_KEPT = timedelta(days=365)
BATCHES_KEPT = timedelta(days=40)
FLUSH_S = 0.05
MOST_WAITING = 20_000
MOST_REMEMBERED = 20_000
MOST_DUE = 20
CLAIM = timedelta(minutes=10)
"""Whoever has not finished booking by then has died: another may begin again, and nothing is booked twice."""
REASON = "the gateway looks for answers of all workspaces that nobody has come back for"


class KeptThing(msgspec.Struct, frozen=True):
    workspace_id: int
    kind: str
    object_id: str
    credential_id: str
    provider: str
    state: str = KeptState.FREE.value
    facts: dict[str, Any] = {}
    look_at: datetime | None = None
    made_at: datetime = datetime.fromtimestamp(0, UTC)

    @property
    def name(self) -> Name:
        return self.workspace_id, self.kind, self.object_id


class Keeper:
    """Of one process, inside its event loop."""

    def __init__(self) -> None:
        self._recent: OrderedDict[Name, KeptThing] = OrderedDict()
        self._waiting: list[tuple[Workspace, KeptThing]] = []
        self._writer: asyncio.Task[None] | None = None

    async def find(self, policy: Policy, kind: KeptKind, object_id: str) -> KeptThing | None:
        """What the workspace made under this id, or None."""
        recent = self._recent.get((policy.workspace_id, kind.value, object_id))
        if recent is not None and recent.state == KeptState.FREE:
            return recent
        return await self._inside(policy.workspace, lambda: _find(policy.workspace_id, kind, object_id))

    async def page(self, policy: Policy, kind: KeptKind, after: str, limit: int, provider: str = "") -> list[KeptThing]:
        """The newest first, those that came before `after`; one more than `limit` where there are more."""
        return await self._inside(
            policy.workspace, lambda: _page(policy.workspace_id, kind, after, limit + 1, provider)
        )

    async def keep(self, policy: Policy, *things: KeptThing) -> None:
        """Written when it returns. Raises DATABASE_AWAY."""
        await self._inside(policy.workspace, lambda: _write(things))

    def keep_soon(self, policy: Policy, thing: KeptThing) -> None:
        """An address that may be lost: known here at once, written within a moment."""
        self._recent[thing.name] = thing
        if len(self._recent) > MOST_REMEMBERED:
            self._recent.popitem(last=False)
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((policy.workspace, thing))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.ensure_future(self._write_waiting())

    async def show(self, policy: Policy, thing: KeptThing, shown: dict[str, Any]) -> None:
        """Note what the provider says of it now, for lists."""
        await self._inside(policy.workspace, lambda: _show(thing, shown))

    async def forget(self, policy: Policy, thing: KeptThing) -> None:
        self._recent.pop(thing.name, None)
        await self._inside(policy.workspace, lambda: _rows(thing).delete())

    async def claim(self, policy: Policy, thing: KeptThing) -> bool:
        """Begin to book what is owed; False when somebody has, or is at it."""
        return await self._inside(policy.workspace, lambda: _claim(thing))

    async def settled(self, policy: Policy, thing: KeptThing) -> None:
        await self._inside(policy.workspace, lambda: _rows(thing).update(state=KeptState.FREE, look_at=None))

    async def due(self) -> list[KeptThing]:
        """Some of what our own poll has to read now, of any workspace; nobody else gets them for a while. Drops what has expired."""
        return await in_thread(_due)

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer

    async def _write_waiting(self) -> None:
        while self._waiting:
            await asyncio.sleep(FLUSH_S)
            waiting, self._waiting = self._waiting, []
            by_workspace: dict[int, tuple[Workspace, list[KeptThing]]] = {}
            for workspace, thing in waiting:
                by_workspace.setdefault(thing.workspace_id, (workspace, []))[1].append(thing)
            for workspace, things in by_workspace.values():
                try:
                    await self._inside(workspace, lambda things=things: _write(things))  # type: ignore[misc]
                except DATABASE_AWAY as error:
                    log.warning("%d stored responses not written down: %s", len(things), type(error).__name__)

    @staticmethod
    async def _inside(workspace: Workspace, work: Callable[[], R]) -> R:
        def inside() -> R:
            with tenancy.entered(workspace):
                return work()

        return await in_thread(inside)


def usable(policy: Policy, thing: KeptThing) -> Credential | None:
    """The credential that made it, where it is still there."""
    of_provider = policy.credentials.get(thing.provider, ())
    return next((credential for credential in of_provider if credential.id == thing.credential_id), None)


# --- Reading and writing (synchronous, in a worker thread) ------------------------------------------------------------


def _rows(thing: KeptThing) -> Any:
    return Kept.objects.filter(workspace_id=thing.workspace_id, kind=thing.kind, object_id=thing.object_id)


def _thing(row: Kept) -> KeptThing:
    return KeptThing(
        row.workspace_id, row.kind, row.object_id, str(row.credential_id), row.provider, row.state, row.facts, row.look_at, row.made_at
    )  # fmt: skip


def _find(workspace_id: int, kind: KeptKind, object_id: str) -> KeptThing | None:
    row = Kept.objects.filter(
        workspace_id=workspace_id, kind=kind, object_id=object_id, expires_at__gt=datetime.now(UTC)
    ).first()
    return _thing(row) if row is not None else None


def _page(workspace_id: int, kind: KeptKind, after: str, limit: int, provider: str) -> list[KeptThing]:
    rows = Kept.objects.filter(workspace_id=workspace_id, kind=kind, expires_at__gt=datetime.now(UTC))
    if provider:
        rows = rows.filter(provider=provider)
    if after:
        last = Kept.objects.filter(workspace_id=workspace_id, kind=kind, object_id=after).first()
        if last is not None:
            rows = rows.filter(Q(made_at__lt=last.made_at) | Q(made_at=last.made_at, id__lt=last.id))
    return [_thing(row) for row in rows.order_by("-made_at", "-id")[:limit]]


_LIFE = {KeptKind.RESPONSE: RESPONSES_KEPT, KeptKind.THREAD: RESPONSES_KEPT, KeptKind.FILE: FILES_KEPT}


def _write(things: Sequence[KeptThing]) -> None:
    now = datetime.now(UTC)
    Kept.objects.bulk_create(
        [
            Kept(
                id=uuid7(),
                workspace_id=thing.workspace_id,
                kind=thing.kind,
                object_id=thing.object_id,
                credential_id=thing.credential_id,
                provider=thing.provider,
                state=thing.state,
                facts=thing.facts,
                made_at=now,
                look_at=thing.look_at,
                expires_at=now + _LIFE.get(KeptKind(thing.kind), BATCHES_KEPT),
            )
            for thing in things
        ],
        ignore_conflicts=True,
    )


def _show(thing: KeptThing, shown: dict[str, Any]) -> None:
    _rows(thing).update(facts={**thing.facts, "shown": shown})


def _claim(thing: KeptThing) -> bool:
    now = datetime.now(UTC)
    free = Q(state=KeptState.OPEN) | Q(state=KeptState.SETTLING, look_at__lt=now)
    return bool(_rows(thing).filter(free).update(state=KeptState.SETTLING, look_at=now + CLAIM))


def _due() -> list[KeptThing]:
    now = datetime.now(UTC)
    with tenancy.every_workspace(REASON):
        rows = list(
            Kept.objects.select_for_update(skip_locked=True)
            .filter(look_at__lte=now, state__in=[KeptState.OPEN, KeptState.SETTLING])
            .order_by("look_at")[:MOST_DUE]
        )
        for row in rows:  # the older, the less often
            age, row.state = now - row.made_at, KeptState.OPEN
            row.look_at = now + min(max(age / 4, timedelta(seconds=15)), timedelta(minutes=10))
        Kept.objects.bulk_update(rows, ["look_at", "state"])
        old = Kept.objects.filter(expires_at__lt=now).values("pk")[:500]
        Kept.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
    return [_thing(row) for row in rows]
