"""What this process saw of each credential: its breaker, its rate limits, whether its key is taken. In memory; each replica finds out itself.

A credential that works has no record at all: `troubled` is False, and a call pays for one look at it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.hop.breaker import Breaker
from gateway.routing import Route
from guardrails.policy import Policy
from guardrails.threads import DATABASE_AWAY, in_thread
from workspaces import actions
from workspaces.domain.routes import Condition
from workspaces.errors import Refused

log = logging.getLogger(__name__)

MOST_RECORDS = 10_000
LONGEST_COOLING_S = 60.0
REFUSED_S = 60.0
"""How long a credential that the provider refused goes last, and after which the next refusal is written down again."""
_COUNTED = frozenset({Condition.UNREACHABLE, Condition.SERVER_ERROR, Condition.NO_ANSWER})
"""What makes a credential fail. A rate limit belongs to a model, a refused key to people."""


class Health:
    """Of one process (one event loop)."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()
        self._cooling: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()
        self.troubled = False
        """Whether anything at all is known against any credential."""

    # --- Before an attempt --------------------------------------------------------------------------------------------

    def wait_s(self, route: Route) -> float:
        """How long the breaker of a route's credential keeps attempts away; 0: it may be asked."""
        breaker = self._breakers.get(route.credential.id)
        return 0.0 if breaker is None else breaker.wait_s(self._clock())

    def enter(self, route: Route) -> bool:
        """Whether an attempt may be sent now; takes the probe's place where there is one."""
        breaker = self._breakers.get(route.credential.id)
        return breaker is None or breaker.enter(self._clock())

    def against(self, route: Route) -> Condition | None:
        """What speaks against asking a route now: its breaker, a rate limit that is used up, a key that was refused a moment ago."""
        if not self.troubled:
            return None
        if self.wait_s(route):
            return Condition.BREAKER_OPEN
        now, credential = self._clock(), route.credential.id
        if self._refused.get(credential, -REFUSED_S) + REFUSED_S > now:
            return Condition.CREDENTIAL_REFUSED
        return Condition.RATE_LIMITED if self._cooling.get((credential, route.model), 0.0) > now else None

    # --- After one ----------------------------------------------------------------------------------------------------

    def answered(self, policy: Policy, route: Route) -> None:
        """The provider took the key and answered. Only called where there is something to take back."""
        credential = route.credential
        if credential.id in self._refused or credential.rejected:
            self._refused.pop(credential.id, None)
            self._note(policy, route, healthy=True, status=200)
        breaker = self._breakers.get(credential.id)
        if breaker is not None:
            now = self._clock()
            breaker.succeeded(now)
            if breaker.is_idle(now):
                del self._breakers[credential.id]
        self._cooling.pop((credential.id, route.model), None)
        self._look()

    def failed(
        self, policy: Policy, route: Route, condition: Condition | None, *, status: int = 0, retry_after_s: float = 0
    ) -> None:
        """An attempt failed. None: by its own fault, so the provider is well."""
        credential = route.credential
        now = self._clock()
        if condition is None:
            if self.troubled or credential.rejected:
                self.answered(policy, route)
            return
        if condition in _COUNTED:
            breaker = self._breakers.get(credential.id)
            if breaker is None:
                breaker = self._breakers[credential.id] = Breaker(now)
            if breaker.failed(now):
                log.warning("breaker of credential %s (%s) opens", credential.id, route.provider.name)
        elif condition is Condition.RATE_LIMITED and retry_after_s:
            self._cooling[credential.id, route.model] = now + min(retry_after_s, LONGEST_COOLING_S)
        elif condition is Condition.CREDENTIAL_REFUSED:
            news = self._refused.get(credential.id, -REFUSED_S) + REFUSED_S <= now
            self._refused[credential.id] = now
            if news:
                self._note(policy, route, healthy=False, status=status)
        for known in (self._breakers, self._cooling, self._refused):
            if len(known) > MOST_RECORDS:
                known.popitem(last=False)
        self._look()

    async def close(self) -> None:
        if self._writing:
            await asyncio.wait(self._writing, timeout=2.0)

    # --- Inside -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Forget what is over. Only runs while something is wrong."""
        now = self._clock()
        for name in [name for name, until in self._cooling.items() if until <= now]:
            del self._cooling[name]
        for credential in [name for name, at in self._refused.items() if at + REFUSED_S <= now]:
            del self._refused[credential]
        for credential in [name for name, breaker in self._breakers.items() if breaker.is_idle(now)]:
            del self._breakers[credential]
        self.troubled = bool(self._breakers or self._cooling or self._refused)

    def _note(self, policy: Policy, route: Route, *, healthy: bool, status: int) -> None:
        """Write it down for people, off the call's path."""
        task = asyncio.ensure_future(_write(policy, route, healthy, status))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)


async def _write(policy: Policy, route: Route, healthy: bool, status: int) -> None:
    def write() -> None:
        actions.note_health(
            workspace=policy.workspace, credential_id=route.credential.id, healthy=healthy, status=status
        )

    try:
        await in_thread(write)
    except (*DATABASE_AWAY, Refused) as error:  # it will be seen again
        log.warning("health of credential %s not written: %s", route.credential.id, type(error).__name__)
