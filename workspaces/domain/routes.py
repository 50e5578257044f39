"""The words of routing: where an alias points, what makes a call go elsewhere, how often it is repeated. Values only.

An alias is a name of the workspace's own ("fast") for an ordered list of targets. It may carry the name of a model: then calls of that model
get its fallbacks without a change in the application; `provider/model` always means the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

MOST_TARGETS = 8
MOST_ALIASES = 200
MOST_RETRIES = 5
DEFAULT_RETRIES = 2
DEFAULT_PAUSE_MS = 250
LONGEST_PAUSE_MS = 5_000
DEFAULT_WAIT_MS = 1_000
LONGEST_WAIT_MS = 30_000
MOST_PRIORITY = 100
MOST_WEIGHT = 1_000

ALIAS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,99}", re.ASCII)
"""No slash, which parts a provider from its model."""
MODEL_NAME = re.compile(r"[!-~]{1,200}", re.ASCII)


class Condition(StrEnum):
    """Why an attempt did not answer, as far as another one may do better. A request that the provider calls wrong (400, 404, 413, 422, its
    content filter) is none of these: it would be wrong elsewhere, too."""

    UNREACHABLE = "unreachable"
    """Nothing was sent: no address, no connection, no TLS."""
    RATE_LIMITED = "rate_limited"
    """429."""
    SERVER_ERROR = "server_error"
    """5xx, 529 among them, and 408."""
    CREDENTIAL_REFUSED = "credential_refused"
    """401 and 403: the provider does not take the key."""
    NO_ANSWER = "no_answer"
    """Asked, then silence until the first-byte limit or an end before the first byte. It may have been billed, and is booked at its hold."""
    BREAKER_OPEN = "breaker_open"
    """Not asked: the credential has failed too often just now."""


DEFAULT_CONDITIONS = frozenset(Condition) - {Condition.NO_ANSWER}
"""Those that cost nothing. Going elsewhere after NO_ANSWER can pay twice, so a rule has to say it."""


class Target(msgspec.Struct, frozen=True):
    """One place an alias points to."""

    provider: str
    model: str
    """As the provider knows it."""
    credential: str = ""
    """Id of the only credential that may be used; empty: any of the provider's."""

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


class Alias(msgspec.Struct, frozen=True):
    name: str
    targets: tuple[Target, ...]
    """In the order in which they are tried."""
    fallback_on: frozenset[Condition] = DEFAULT_CONDITIONS


class Rules(msgspec.Struct, frozen=True):
    """What a workspace allows when an attempt fails."""

    retries: int = DEFAULT_RETRIES
    """How often a call is repeated where it was already tried. 0: never."""
    pause_ms: int = DEFAULT_PAUSE_MS
    """Before the first repetition, where the provider names no time; doubled for each further one, and jittered."""
    max_wait_ms: int = DEFAULT_WAIT_MS
    """The longest Retry-After of a provider that is waited for. A longer one is passed to the client, whose library waits by itself."""
    fallback_on: frozenset[Condition] = DEFAULT_CONDITIONS
    """When a model without an alias moves on to another credential of its provider. Empty: never."""


DEFAULT_RULES = Rules()
TIMEOUTS: Mapping[str, tuple[float, float]] = {
    "connect_s": (0.05, 60),
    "first_byte_s": (0.05, 3_600),
    "idle_s": (0.05, 3_600),
    "total_s": (0.05, 86_400),
}
"""The time limits that a credential may have of its own, in seconds: (least, most)."""


def conditions(names: Iterable[str]) -> frozenset[Condition]:
    """Stored names -> conditions; a name that this version does not know is left out."""
    return frozenset(Condition(name) for name in names if name in Condition.__members__.values())


def alias(name: str, targets: Iterable[Mapping[str, Any]], fallback_on: Iterable[str]) -> Alias:
    """A stored alias -> its value."""
    places = tuple(Target(place["provider"], place["model"], place.get("credential") or "") for place in targets)
    return Alias(name, places, conditions(fallback_on))
