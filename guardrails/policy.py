"""What admission knows of a workspace, compiled once per policy version and kept in memory: budgets, limits, credentials, keys.

Memory may be old; it is never *trusted* to be new: each admit carries the version it was compiled from and the money Redis refuses an
older one than the newest it has seen. So a revoked key or a lowered cap bites on the next call of every replica, with no cache to wait for.
With PostgreSQL away, what is in memory keeps working for `LONGEST_S`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from hmac import compare_digest
from typing import Any
from uuid import UUID

import msgspec
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.db.models.functions import JSONObject

from billing import overrides
from billing.domain.dimensions import Dimension
from billing.domain.keys import partition_of, partition_prefix
from billing.domain.pricing import PriceBook
from billing.models import SequenceMark
from billing.prices import default_book
from guardrails import plans
from guardrails.domain.budgets import Budget as BudgetRule
from guardrails.domain.budgets import Matcher, Raised
from guardrails.domain.periods import Bounds
from guardrails.domain.rates import RateLimit as RateRule
from guardrails.domain.refusals import BudgetStoreUnavailable, InvalidKey
from guardrails.met import Meetings
from guardrails.models import BarredModel, Budget, Raise, RaiseState, RateLimit
from guardrails.routes import NO_ROUTES, Credential, Routes, Tiers, in_order, load_credentials, load_routes
from guardrails.threads import DATABASE_AWAY, in_thread
from workspaces import keys, tenancy
from workspaces.directory.models import Department
from workspaces.domain import keytext
from workspaces.keys import KeyKind, KeyText, MalformedKey, Stored
from workspaces.models import VirtualKey, Workspace, WorkspaceState
from workspaces.vault import door
from workspaces.vault.models import ProviderCredential

log = logging.getLogger(__name__)

NEW_S = 0.25
FRESH_S = 60.0
"""After this a policy is read again in the background, beside the calls."""
LONGEST_S = 300.0
"""After this a policy is not used any more (PostgreSQL has been away that long)."""
UNKNOWN_S = 5.0
"""How long a locator that does not exist is remembered (locators are random: none that was tried in vain comes into being)."""
MOST_UNKNOWN = 10_000
MOST_TIERS = 1_000
RENEW_PAUSE_S = 60.0
"""After a digest could not be renewed, none is tried this long."""


class PolicyUnavailable(BudgetStoreUnavailable):
    """A key or policy is not in memory and PostgreSQL cannot be asked."""

    def __init__(self) -> None:
        super().__init__("unreachable")
        self.message = "This workspace's settings cannot be read right now."


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key as admission sees it. `pins` are the dimensions it sets on every call."""

    id: str
    locator: str
    name: str
    workspace_id: int
    pins: Mapping[str, str]
    may_override: frozenset[str]
    allowed_models: frozenset[str]
    output_limit: int | None
    expires_ms: int | None
    stored: Stored = field(repr=False)
    revoked: bool = False
    """Or paused: it may be resumed, so it stays in memory."""
    credentials: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Provider -> the only credentials that may be used there"""

    def valid_at(self, now_ms: int) -> bool:
        return not self.revoked and (self.expires_ms is None or now_ms < self.expires_ms)


@dataclass(frozen=True, slots=True)
class Policy:
    """One workspace, compiled. Immutable: a change makes another one."""

    workspace: Workspace = field(repr=False)
    ver: int
    state: str
    plan: str
    zone: str
    slug: str
    budgets: tuple[BudgetRule, ...]
    rates: tuple[RateRule, ...]
    credentials: Mapping[str, tuple[Credential, ...]]
    """By provider, the oldest first"""
    barred: frozenset[tuple[str, str]]
    """(provider, model) whose real cost went above its bound: kept from hard budgets"""
    epoch: int
    seq: int
    """The highest event number the books have seen: the money Redis must not be behind it"""
    matcher: Matcher = field(repr=False)
    loaded_at: float = 0.0
    """`time.monotonic()` of the load"""
    book: PriceBook = field(default_factory=default_book, repr=False)
    """The price list under the workspace's own prices. The same object while they are the same"""
    routes: Routes = NO_ROUTES
    fingerprint_key: bytes = field(default=b"", repr=False)
    """Of call fingerprints; empty where the workspace wants none"""

    meetings: Meetings = field(init=False, repr=False)
    prefix: str = field(init=False, repr=False)
    """Of its partition's keys in the money Redis"""
    workspace_id: int = field(init=False)
    workspace_text: str = field(init=False, repr=False)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What others work out from this policy and nothing else, to be found again at the next call. Whoever keeps something bounds it."""
    _tiers: dict[tuple[str, str, frozenset[str] | None], Tiers] = field(default_factory=dict, repr=False)
    _bounds: dict[str, Bounds] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "workspace_id", int(self.workspace.id))
        object.__setattr__(self, "meetings", Meetings(self.matcher, self.rates, self.bounds_of))
        object.__setattr__(self, "prefix", partition_prefix(partition_of(self.workspace_id)))
        object.__setattr__(self, "workspace_text", str(self.workspace_id))

    def bounds_of(self, budget: BudgetRule, at_ms: int) -> Bounds:
        """The budget's period at a moment; the running one is kept at hand."""
        known = self._bounds.get(budget.id)
        if known is None or not known.holds(at_ms):
            known = self._bounds[budget.id] = budget.bounds_at(at_ms)
        return known

    def tiers(self, provider: str, environment: str, only: frozenset[str] | None = None) -> Tiers:
        """The credentials that a call may use at a provider, in the order of their use (`guardrails.routes.in_order`)."""
        name = (provider, environment, only)
        known = self._tiers.get(name)
        if known is None:
            found = in_order(self.credentials.get(provider, ()), environment, only)
            if len(self._tiers) < MOST_TIERS:  # environments come from headers
                self._tiers[name] = found
            return found
        return known


class Grant(msgspec.Struct, frozen=True):
    """A recognised key and the policy it lives under."""

    key: Key
    policy: Policy


class PolicyChanged(Exception):
    """The key or a credential is not what it was when this call was planned: plan it again under `grant`. Nothing was held."""

    def __init__(self, grant: Grant) -> None:
        super().__init__("plan the call again")
        self.grant = grant


@dataclass(slots=True)
class _Secret:
    text: str = field(repr=False)
    at: float = 0.0


class PolicyStore:
    """Keys and policies of one process (one event loop)."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._marks = blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._proved: dict[str, tuple[Stored, bytes]] = {}
        """Locator -> what is stored of the key, and the mark of the text that was found to be that one"""
        self._policies: dict[int, Policy] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._secrets: dict[tuple[int, str, int], _Secret] = {}
        self._loading: dict[int | str, asyncio.Task[Policy | None]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._renew_after = 0.0

    # --- Who calls ----------------------------------------------------------------------------------------------------

    async def recognise(self, presented: str) -> Grant:
        """A presented key -> its grant. Raises InvalidKey, the same for every way it can be wrong, and PolicyUnavailable."""
        key = self._keys.get(presented[keytext.LOCATOR])
        try:
            if key is None:
                text = keytext.parse(presented, KeyKind.VIRTUAL_KEY)
            elif presented.isascii():  # its form is that of a key when it turns out to be this one
                text = KeyText(KeyKind.VIRTUAL_KEY, key.locator, presented)
            else:
                raise InvalidKey
        except MalformedKey:
            raise InvalidKey from None
        policy = self._policies.get(key.workspace_id) if key else None
        if key is None or policy is None:
            key, policy = await self._find(text.locator)
        elif not key.valid_at(time.time_ns() // 1_000_000) and not self.is_new(policy):
            policy = await self._load(policy.workspace_id)  # it may have been given a longer life
            key = self._keys.get(text.locator)
        elif self._clock() - policy.loaded_at > FRESH_S:
            policy = await self._fresh(policy)
            key = self._keys.get(text.locator, key)
        return self._granted(text, key, policy)

    def _granted(self, text: KeyText, key: Key | None, policy: Policy | None) -> Grant:
        """The digest that PostgreSQL has is worked out when a key is first seen; the next times a quicker one says that it is the very same text.

        Both are keyed, that one with what only this process knows, so memory holds no more of a key than before. Whoever is refused, for an
        unknown locator or a wrong secret, has had both worked out (SECURITY.md S10).
        """
        mark = self._mark(text)
        proved = self._proved.get(text.locator)
        matches = proved is not None and key is not None and proved[0] is key.stored and compare_digest(proved[1], mark)
        if not matches:
            matches = keys.verify(text, key.stored if key else None)
        if not matches or key is None or policy is None or not key.valid_at(time.time_ns() // 1_000_000):
            raise InvalidKey
        if proved is None or proved[0] is not key.stored:
            if keys.is_outdated(key.stored):
                self._renew_digest(text, key)
            else:
                self._proved[text.locator] = key.stored, mark
        return Grant(key, policy)

    def _mark(self, text: KeyText) -> bytes:
        mark = self._marks.copy()
        mark.update(text.text.encode("ascii"))
        return mark.digest()

    def _renew_digest(self, text: KeyText, key: Key) -> None:
        """The pepper has changed since this key was made: store its digest under the new one, beside the call. One key at a time, and
        none for a while when PostgreSQL did not answer: there is no hurry, the next use asks again."""
        if self._renewing is None and self._clock() >= self._renew_after:
            self._renewing = asyncio.ensure_future(self._store_new_digest(text, key))

    async def _store_new_digest(self, text: KeyText, key: Key) -> None:
        try:
            stored = await in_thread(lambda: keys.renew_virtual_key(text))
        except DATABASE_AWAY as error:
            log.warning("a key's digest is not renewed yet: %s", type(error).__name__)
            stored = None
        finally:
            self._renewing = None
        if stored is None:
            self._renew_after = self._clock() + RENEW_PAUSE_S
        elif self._keys.get(key.locator) is key:
            self._keys[key.locator] = replace(key, stored=stored)

    async def close(self) -> None:
        """For a stopping gateway."""
        if self._renewing is not None:
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def renew(self, grant: Grant, presented: str | None = None) -> Grant:
        """The grant under the newest policy, after the money Redis has called this one stale. Raises InvalidKey when the key is gone."""
        await self._load(grant.policy.workspace_id)
        policy = self._policies.get(grant.policy.workspace_id)
        key = self._keys.get(grant.key.locator)
        if policy is None or key is None or not key.valid_at(time.time_ns() // 1_000_000):
            raise InvalidKey
        if presented is not None:
            return self._granted(keys.parse(presented), key, policy)
        return Grant(key, policy)

    async def secret(self, policy: Policy, credential: Credential) -> str:
        """The provider key of a credential, kept open in memory at most `LONGEST_S`. Raises door.VaultUnavailable, door.SecretUnreadable."""
        name = (policy.workspace_id, credential.id, policy.ver)
        known = self._secrets.get(name)
        if known is not None and self._clock() - known.at < LONGEST_S:
            return known.text
        try:
            text = await tenancy.run(policy.workspace, _open_secret, credential.id)
        except DATABASE_AWAY:
            raise PolicyUnavailable from None
        self._secrets = {
            held: secret
            for held, secret in self._secrets.items()
            if self._clock() - secret.at < LONGEST_S and (held[0] != name[0] or held[2] >= name[2])
        }
        self._secrets[name] = _Secret(text, self._clock())
        return text

    @property
    def holds_any(self) -> bool:
        """Whether any policy is in memory: then calls can be admitted without PostgreSQL for a while."""
        return bool(self._policies)

    def now(self) -> float:
        """By the clock that policies are dated with."""
        return self._clock()

    def is_new(self, policy: Policy, since: float | None = None) -> bool:
        """Read a moment ago, or begun to be read `since` a call came (`now`): new enough to refuse it without asking anybody else. However slow
        PostgreSQL is, a policy that was read for a call is new to it: else it would be read again and again."""
        return self._clock() - policy.loaded_at < NEW_S or (since is not None and policy.loaded_at >= since)

    def policy(self, workspace_id: int) -> Policy | None:
        """The policy in memory, if there is one."""
        return self._policies.get(workspace_id)

    async def of(self, workspace_id: int) -> Policy:
        """The policy of a workspace, for work that no key asks for. Raises InvalidKey when it is gone, and PolicyUnavailable."""
        return self._policies.get(workspace_id) or await self._load(workspace_id)

    # --- Loading ------------------------------------------------------------------------------------------------------

    async def _find(self, locator: str) -> tuple[Key | None, Policy | None]:
        since = self._unknown.get(locator)
        if since is not None and self._clock() - since < UNKNOWN_S:
            return None, None
        policy = await self._single(locator, lambda: _load_by_locator(locator, self._locators()))
        key = self._keys.get(locator)
        if policy is None or key is None:
            self._unknown[locator] = self._clock()
            while len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
        return key, policy

    def _locators(self) -> dict[int, list[str]]:
        """The keys in memory, by workspace."""
        found: dict[int, list[str]] = {}
        for key in self._keys.values():
            found.setdefault(key.workspace_id, []).append(key.locator)
        return found

    async def _fresh(self, policy: Policy) -> Policy:
        age = self._clock() - policy.loaded_at
        if age > LONGEST_S:
            return await self._load(policy.workspace_id)
        if policy.workspace_id not in self._loading:
            task = asyncio.ensure_future(self._load(policy.workspace_id))
            task.add_done_callback(_swallow_unavailable)
        return policy

    async def _load(self, workspace_id: int) -> Policy:
        policy = await self._single(
            workspace_id, lambda: _load_by_id(workspace_id, self._locators().get(workspace_id, ()))
        )
        if policy is None:  # the workspace is gone, its row too
            self._policies.pop(workspace_id, None)
            raise InvalidKey
        return policy

    async def _single(self, name: int | str, load: Callable[[], Loaded | None]) -> Policy | None:
        """One load at a time for a workspace or locator; who comes meanwhile waits for the same one."""
        task = self._loading.get(name)
        if task is None:
            task = asyncio.ensure_future(self._run(load))
            self._loading[name] = task
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(task)

    async def _run(self, load: Callable[[], Loaded | None]) -> Policy | None:
        started = self._clock()
        try:
            loaded = await in_thread(load)
        except DATABASE_AWAY as error:
            log.warning("policy not read: %s", type(error).__name__)
            raise PolicyUnavailable from None
        if loaded is None:
            return None
        return self._keep(loaded, started)

    def _keep(self, loaded: Loaded, started: float) -> Policy:
        policy = loaded.compile(started)
        before = self._policies.get(policy.workspace_id)
        if before is not None and before.ver > policy.ver:
            return before
        self._policies[policy.workspace_id] = policy
        for locator in [name for name, key in self._keys.items() if key.workspace_id == policy.workspace_id]:
            if locator not in loaded.keys:
                del self._keys[locator]
                self._proved.pop(locator, None)
        self._keys.update(loaded.keys)
        return policy


def _swallow_unavailable(task: asyncio.Task[Policy]) -> None:
    """A refresh in the background that finds PostgreSQL away changes nothing: the policy in memory is still good for a while."""
    if (
        not task.cancelled()
        and task.exception() is not None
        and not isinstance(task.exception(), BudgetStoreUnavailable | InvalidKey)
    ):
        log.error("policy not refreshed", exc_info=task.exception())


# --- Reading PostgreSQL (synchronous, in a worker thread) -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    workspace: Workspace
    keys: dict[str, Key]
    budgets: tuple[BudgetRule, ...]
    rates: tuple[RateRule, ...]
    credentials: dict[str, tuple[Credential, ...]]
    barred: frozenset[tuple[str, str]]
    seq: int
    book: PriceBook = field(default_factory=default_book)
    routes: Routes = NO_ROUTES

    def compile(self, loaded_at: float) -> Policy:
        workspace = self.workspace
        return Policy(
            workspace=workspace,
            ver=workspace.policy_version,
            state=workspace.state,
            plan=workspace.plan,
            zone=workspace.time_zone,
            slug=workspace.slug,
            budgets=self.budgets,
            rates=self.rates,
            credentials=self.credentials,
            barred=self.barred,
            epoch=workspace.admission_epoch,
            seq=self.seq,
            matcher=Matcher(self.budgets),
            loaded_at=loaded_at,
            book=self.book,
            routes=self.routes,
            fingerprint_key=keys.fingerprint_key(workspace.pk) if workspace.fingerprints else b"",
        )


def _load_by_locator(locator: str, in_memory: Mapping[int, Sequence[str]]) -> Loaded | None:
    row = keys.find_key(locator)
    return None if row is None else _load_by_id(row.workspace_id, [locator, *in_memory.get(row.workspace_id, ())])


def _load_by_id(workspace_id: int, locators: Sequence[str]) -> Loaded | None:
    """A workspace and those of its keys. Its version is read first: a change that commits meanwhile makes this policy stale, never too new."""
    workspace = Workspace.objects.filter(pk=workspace_id).first()
    if workspace is None:
        return None
    rows = VirtualKey.objects.select_related("member__user").filter(
        workspace_id=workspace_id, locator__in=locators, revoked_at=None
    )
    found = {row.locator: row for row in rows}
    if workspace.state == WorkspaceState.DELETING:
        return Loaded(workspace, {}, (), (), {}, frozenset(), 0)
    with tenancy.entered(workspace):
        departments = dict(Department.objects.values_list("id", "name"))
        seq = SequenceMark.objects.filter(workspace_id=workspace_id).values_list("seq", flat=True).first() or 0
        return Loaded(
            workspace=workspace,
            keys={locator: _key(row, departments) for locator, row in found.items()},
            budgets=budget_rules(workspace),
            rates=tuple(limit.rule() for limit in RateLimit.objects.all()),
            credentials=load_credentials(),
            barred=frozenset(BarredModel.objects.values_list("provider", "model")),
            seq=seq,
            book=overrides.book_of(workspace),
            routes=load_routes(),
        )


def budget_rules(workspace: Workspace) -> tuple[BudgetRule, ...]:
    """The budgets in force in the entered workspace, its plan's quota first."""
    quota = plans.quota_of(workspace)
    approved = Raise.objects.filter(budget=OuterRef("pk"), state=RaiseState.APPROVED)
    raised = ArraySubquery(approved.values_list(JSONObject(amount="amount", until="expires_at")))
    own = (
        budget.rule(tuple(Raised(one["amount"], _ms(datetime.fromisoformat(one["until"]))) for one in budget.raised))
        for budget in Budget.objects.annotate(raised=raised)
    )
    return (*([quota] if quota else ()), *own)


def _key(row: VirtualKey, departments: Mapping[UUID, str]) -> Key:
    member = row.member
    department = row.department or (
        departments.get(member.department_id, "") if member and member.department_id else ""
    )
    pins = {
        Dimension.MEMBER.value: member.user.email if member else "",
        Dimension.AGENT.value: row.agent,
        Dimension.DEPARTMENT.value: department,
        Dimension.ENVIRONMENT.value: row.environment,
    }
    return Key(
        id=str(row.id),
        locator=row.locator,
        name=row.name,
        workspace_id=row.workspace_id,
        pins={name: value for name, value in pins.items() if value},
        may_override=frozenset(row.may_override),
        allowed_models=frozenset(row.allowed_models),
        output_limit=row.output_limit,
        expires_ms=None if row.expires_at is None else _ms(row.expires_at),
        stored=Stored.of(row),
        revoked=row.revoked_at is not None or row.paused_at is not None,
        credentials={provider: frozenset(ids) for provider, ids in row.credentials.items()},
    )


def _open_secret(workspace: Workspace, credential_id: str) -> str:
    credential = (
        ProviderCredential.objects.select_related("data_key").filter(pk=credential_id, disabled_at=None).first()
    )
    if credential is None:
        raise door.SecretUnreadable("This provider credential was deleted.", hint="Add the provider key again.")
    return door.open_secret(workspace, credential)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
