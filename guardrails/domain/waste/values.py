"""The words of waste: categories, the call as it is judged, what was found and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from billing.domain.extraction.record import Usage

SEPARATOR: Final = "\x1f"


class Category(StrEnum):
    FAILURES = "failures"
    """Failed attempts that were charged; bursts of failed attempts, charged or not."""
    ABORTED = "aborted"
    """Output that was generated after the client had gone."""
    LOOPS = "loops"
    """Calls of one session that a limit an hour would have refused."""
    DUPLICATES = "duplicates"
    """The same question, answered again within the hour."""
    OVERKILL = "overkill"
    """Short answers of a dear model."""
    OVERSIZED = "oversized"
    """Context of a session sent again at the full price, where the provider would have read it from its cache."""
    IDLE_KEYS = "idle_keys"
    """Keys that nobody uses: no dollars, a door."""


PRECEDENCE: Final = (
    Category.FAILURES, Category.ABORTED, Category.LOOPS, Category.DUPLICATES, Category.OVERKILL, Category.OVERSIZED,
)  # fmt: skip
"""In this order a call is asked; the first cause that it has is the one it counts for."""


class Subject(NamedTuple):
    """What a finding is about. Empty where it does not matter."""

    feature: str = ""
    agent: str = ""
    provider: str = ""
    model: str = ""
    virtual_key: str = ""

    @property
    def key(self) -> str:
        return SEPARATOR.join(self)


def subject_of(key: str) -> Subject:
    """Back from `Subject.key`. Raises ValueError for text that is none."""
    parts = key.split(SEPARATOR)
    if len(parts) != len(Subject._fields):
        raise ValueError(f"not a subject: {key!r}")
    return Subject(*parts)


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt as the books know it now, corrections added."""

    call_id: str
    at_ms: int
    cost_nano: int
    provider: str
    model: str
    usage: Usage
    """Its buckets and the context they were priced in, without a model served or a price stated: for asking other prices."""
    attempt: int = 1
    model_requested: str = ""
    feature: str = ""
    agent: str = ""
    session: str = ""
    fingerprint: int | None = None
    error: str = ""
    failed: bool = False
    """An error of ours or the provider's; a client that hung up is none."""
    hung_up: bool = False
    assumed: bool = False
    """Its cost is an unconfirmed upper bound."""

    @property
    def prompt_tokens(self) -> int:
        return self.usage.input_tokens

    @property
    def output_tokens(self) -> int:
        return self.usage.output_tokens


@dataclass(frozen=True, slots=True)
class Found:
    """Waste of one cause at one place, of the calls that were looked at."""

    category: Category
    subject: Subject
    calls: int
    """That are waste, or of which a part is."""
    cost_nano: int
    """What these calls cost."""
    waste_nano: int
    """The part of it that bought nothing; for OVERKILL and OVERSIZED, what another way of asking would have saved."""
    assumed_nano: int = 0
    """The part of the waste that is an unconfirmed upper bound."""
    samples: tuple[str, ...] = ()
    """Call ids, the dearest first."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Evidence: whole numbers, short texts, and maps of them."""


class Choice(NamedTuple):
    """A cheaper model that the workspace allows."""

    model: str
    in_use: bool
    """The workspace asks it already, elsewhere."""


class Promise(NamedTuple):
    """A cheaper model was put in another one's place: what is saved since is counted call by call."""

    finding: str
    provider: str
    model: str
    """That is asked for, and was answered before."""
    feature: str
    from_ms: int


@dataclass(slots=True)
class Saved:
    """What a promise came to, on the calls that were looked at."""

    calls: int = 0
    cost_nano: int = 0
    would_have_nano: int = 0
    """What the same calls would have cost before the lever."""

    @property
    def saved_nano(self) -> int:
        return self.would_have_nano - self.cost_nano
