"""The course of one call that did not succeed at once: what was tried, what is tried next, and what the client hears when nothing helps.

Going elsewhere comes before waiting: first the routes that were not tried yet (the next credential, the next target of the alias) as far as the
rules allow, at once; then the same ones again after a pause, as often as the rules allow. The first error is the one that is told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway import routing
from gateway.edge import Call
from gateway.errors import GatewayError, NotAllowed, UnknownModel
from gateway.hop import rules
from gateway.hop.health import Health
from gateway.hop.rules import BreakerOpen
from gateway.routing import Route
from guardrails.domain.refusals import Refusal
from guardrails.policy import Grant
from workspaces.domain.routes import Condition
from workspaces.errors import Refused as WorkspaceRefused

_Place = tuple[str, str]
"""(credential, model): one route of a call."""


@dataclass(frozen=True, slots=True)
class Failure:
    route: Route
    error: GatewayError
    condition: Condition | None
    billed: bool
    """It may have cost something."""
    at: float


class Trip:
    """`note` each failure, then `onward` for what follows. `route` is where the next attempt goes, `number` counts the attempts."""

    def __init__(self, call: Call, grant: Grant, environment: str, ends_at: float, *, client_repeats: bool) -> None:
        """`ends_at` is `time.perf_counter()` time. `client_repeats`: this is already a repetition by the client's library, which then does
        the repeating, so that its tries and ours do not multiply."""
        self._call = call
        self._environment = environment
        self._ends_at = ends_at
        self._retries = 0 if client_repeats else retries_of(grant, call)
        self._repeated = 0
        self._failures: list[Failure] = []
        self._spoiled: set[str] = set()
        """Credentials that every model of theirs would meet the same failure with."""
        self.route: Route | None = None

    @property
    def number(self) -> int:
        """Of the next attempt, from 1."""
        return len(self._failures) + 1

    @property
    def within_s(self) -> float:
        """What is left of the total limit."""
        return max(0.001, self._ends_at - time.perf_counter())

    def note(self, route: Route, error: GatewayError, condition: Condition | None, *, billed: bool, at: float) -> None:
        self._failures.append(Failure(route, error, condition, billed, at))
        if condition is Condition.UNREACHABLE or error.status == 401:
            self._spoiled.add(route.credential.id)

    def onward(self, grant: Grant, health: Health, chance: float) -> float:
        """Chooses the next route; returns how many seconds to wait before it. Raises the error to tell when there is none."""
        last = self._failures[-1]
        condition, now = last.condition, last.at
        if (
            condition is None
            or self.number > rules.MOST_ATTEMPTS
            or now >= self._ends_at
            or not rules.may_go_on(condition, self._call.request.endpoint)
        ):
            raise self.told()
        routes = self._routes(grant)
        allowed = conditions_of(grant, self._call)
        if last.billed and Condition.NO_ANSWER not in allowed:
            raise self.told()  # nor to a route that failed earlier and unbilled: any further attempt could be paid a second time
        if (Condition.NO_ANSWER if last.billed else condition) in allowed:
            self.route = self._fresh(routes, health)
            if self.route is not None:
                return 0.0
        if self._repeated < self._retries:
            self.route, wait_s = self._again(grant, routes, health, chance, now)
            if self.route is not None and wait_s < self.within_s:
                self._repeated += 1
                return wait_s
        raise self.told()

    def moved(self, grant: Grant) -> Route:
        """The chosen route under a newer policy. Raises the error to tell when it is gone."""
        chosen = self.route
        for route in self._routes(grant):
            if chosen is not None and _place(route) == _place(chosen):
                self.route = route
                return route
        raise self.told()

    def told(self, refused: Refusal | WorkspaceRefused | GatewayError | None = None) -> GatewayError:
        """The first failure, with what else was tried; `refused` is why the next attempt was not admitted."""
        error = self._failures[0].error
        if len(self._failures) > 1 or refused is not None:
            error.facts["attempts"] = [
                f"{failure.route.provider.name}/{failure.route.model}: {failure.error.code}"
                for failure in self._failures
            ]
        if refused is not None:
            where = f"{self.route.provider.name}/{self.route.model}" if self.route else ""
            error.facts["next_attempt_refused"] = f"{where}: {refused.code}"
        error.headers.append((b"sluice-attempts", b"%d" % len(self._failures)))
        return error

    # --- Inside -------------------------------------------------------------------------------------------------------

    def _routes(self, grant: Grant) -> list[Route]:
        call = self._call
        try:
            return _routes(grant, call, self._environment)
        except (NotAllowed, UnknownModel):  # edited meanwhile
            return []

    def _fresh(self, routes: list[Route], health: Health) -> Route | None:
        """The first route that was not tried and may be asked; one that is better left alone only when there is no other."""
        tried = {_place(failure.route) for failure in self._failures}
        doubtful = None
        for route in routes:
            if _place(route) in tried or route.credential.id in self._spoiled:
                continue
            reason = health.against(route)
            if reason is None:
                return route
            if reason is not Condition.BREAKER_OPEN:
                doubtful = doubtful or route
        return doubtful

    def _again(
        self, grant: Grant, routes: list[Route], health: Health, chance: float, now: float
    ) -> tuple[Route | None, float]:
        """The tried route that may be repeated the soonest, and the wait before it."""
        policy = grant.policy.routes.rules
        latest = {_place(failure.route): failure for failure in self._failures}
        best: tuple[float, Route] | None = None
        for route in routes:
            failure = latest.get(_place(route))
            if failure is None or failure.condition is None or health.wait_s(route):
                continue
            if not rules.may_repeat(failure.error, failure.condition, billed=failure.billed):
                continue
            stated = failure.error.retry_after_s
            if stated is not None and stated * 1000 > policy.max_wait_ms:
                continue
            after = None if stated is None else max(0.0, failure.at + stated - now)
            wait_s = rules.pause_s(policy.pause_ms, self._repeated, after, chance)
            if best is None or wait_s < best[0]:
                best = wait_s, route
        return (best[1], best[0]) if best else (None, 0.0)


def first_choice(route: Route, call: Call, grant: Grant, environment: str, health: Health) -> Route:
    """The route to begin with, where something is known against credentials: this one, or as far as the rules allow a better one.

    Raises BreakerOpen when nobody may be asked now.
    """
    if health.against(route) is None:
        return route
    allowed = conditions_of(grant, call)
    fallback, wait_s = None, 0.0
    for place in _routes(grant, call, environment):
        reason = health.against(place)
        if reason is None:
            return place
        if reason is Condition.BREAKER_OPEN:
            wait_s = min(wait_s or 3600.0, health.wait_s(place))
        else:
            fallback = fallback or place
        if reason not in allowed:
            break
    if fallback is not None:
        return fallback
    raise breaker_open(route, wait_s)


def breaker_open(route: Route, wait_s: float) -> BreakerOpen:
    name = route.provider.name
    return BreakerOpen(
        f"{name} has failed repeatedly with the credential “{route.credential.name}” and is given a moment of rest.",
        facts={"provider": name, "credential": route.credential.name},
        retry_after_s=max(1, int(-(-wait_s // 1))),
    )


def conditions_of(grant: Grant, call: Call) -> frozenset[Condition]:
    """When this call may go elsewhere: what its alias says, or the workspace; nothing where the client does not want it."""
    if not call.request.fallbacks:
        return frozenset()
    routes = grant.policy.routes
    alias = routes.aliases.get(call.model)
    return routes.rules.fallback_on if alias is None else alias.fallback_on


def retries_of(grant: Grant, call: Call) -> int:
    """How often the call may be repeated: what the workspace allows; the client can only lower it."""
    most, wanted = grant.policy.routes.rules.retries, call.request.most_retries
    return most if wanted is None else min(most, wanted)


def _routes(grant: Grant, call: Call, environment: str) -> list[Route]:
    return routing.every(
        grant,
        call.model,
        environment,
        grant.policy.book,
        int(time.time()),
        call.request.endpoint,
        kept_by=call.credential,
    )


def _place(route: Route) -> _Place:
    return route.credential.id, f"{route.provider.name}/{route.model}"
