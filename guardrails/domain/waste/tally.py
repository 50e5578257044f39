"""What a sorter has counted so far, by place: it can be put down as JSON and taken up again, so that a day of any size is looked at in parts.

Whole numbers and short texts only; its size is bounded by places, however many calls were counted. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Any, Final, TypeVar

from guardrails.domain.waste.values import Call, Category, Choice, Found, Saved, Subject, subject_of

MOST_PLACES: Final = 2_000
MOST_SAMPLES: Final = 5
MOST_NAMED: Final = 12
REST: Final = "__other__"


@dataclass(slots=True)
class Sum:
    calls: int = 0
    cost_nano: int = 0
    waste_nano: int = 0
    assumed_nano: int = 0
    samples: list[tuple[int, str]] = field(default_factory=list)
    """(waste, call id), a heap of the dearest."""

    def add(self, call: Call, waste_nano: int) -> None:
        self.calls += 1
        self.cost_nano += call.cost_nano
        self.waste_nano += waste_nano
        if call.assumed:
            self.assumed_nano += waste_nano
        (heappushpop if len(self.samples) >= MOST_SAMPLES else heappush)(self.samples, (waste_nano, call.call_id))

    def found(self, category: Category, subject: Subject, **facts: Any) -> Found:
        names = tuple(call_id for _, call_id in sorted(self.samples, reverse=True) if call_id)
        waste = min(max(0, self.waste_nano), self.cost_nano)
        return Found(category, subject, self.calls, self.cost_nano, waste, min(self.assumed_nano, waste), names, facts)


@dataclass(slots=True)
class Failures(Sum):
    failed: int = 0
    """Attempts, charged or not."""
    retried: int = 0
    """Of them, those that the gateway itself had repeated."""
    errors: Counter[str] = field(default_factory=Counter)
    by_time: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Loop(Sum):
    sessions: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Answers:
    """Of one feature and model, what none of the earlier categories took."""

    calls: int = 0
    simple: Sum = field(default_factory=Sum)
    simple_output: int = 0
    by_model: dict[str, int] = field(default_factory=dict)
    unpriced: set[str] = field(default_factory=set)
    resent: Sum = field(default_factory=Sum)
    """Of all calls."""
    resent_not_simple: Sum = field(default_factory=Sum)
    resent_tokens: int = 0
    prompt_tokens: int = 0


Group = TypeVar("Group", Sum, Failures, Loop, Answers)


@dataclass(slots=True)
class Tally:
    failures: dict[Subject, Failures] = field(default_factory=dict)
    aborted: dict[Subject, Sum] = field(default_factory=dict)
    loops: dict[Subject, Loop] = field(default_factory=dict)
    duplicates: dict[Subject, Sum] = field(default_factory=dict)
    answers: dict[Subject, Answers] = field(default_factory=dict)
    offered: dict[tuple[str, str], tuple[Choice, ...]] = field(default_factory=dict)
    """The cheaper models, as they were offered at first: sums of what they would have cost begin with the day's first call."""
    saved: dict[str, Saved] = field(default_factory=dict)
    """By the finding of the promise."""
    calls: int = 0
    cost_nano: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **{name: [[place.key, _plain(group)] for place, group in getattr(self, name).items()] for name in _MAKERS},
            "offered": [[*of, [[one.model, one.in_use] for one in choices]] for of, choices in self.offered.items()],
            "saved": {name: [one.calls, one.cost_nano, one.would_have_nano] for name, one in self.saved.items()},
            "calls": self.calls,
            "cost_nano": self.cost_nano,
        }


def at(groups: dict[Subject, Group], place: Subject, make: Callable[[], Group]) -> Group:
    """The group of a place; beyond `MOST_PLACES` they share one."""
    known = groups.get(place)
    if known is None:
        if len(groups) >= MOST_PLACES:
            place = place._replace(feature=REST, agent=REST if place.agent else "")
            if place in groups:
                return groups[place]
        known = groups[place] = make()
    return known


def count(counter: Counter[str], name: str) -> None:
    """Names come from clients: so many are told apart, the rest is one."""
    counter[name if name in counter or len(counter) < MOST_NAMED * 10 else REST] += 1


def tally_of(plain: Mapping[str, Any]) -> Tally:
    """Back from `Tally.plain`, also after its way through a database."""
    made = Tally(calls=plain["calls"], cost_nano=plain["cost_nano"])
    for name, make in _MAKERS.items():
        setattr(made, name, {subject_of(key): make(group) for key, group in plain[name]})
    for provider, model, choices in plain["offered"]:
        made.offered[provider, model] = tuple(Choice(name, in_use) for name, in_use in choices)
    made.saved = {name: Saved(*numbers) for name, numbers in plain["saved"].items()}
    return made


# --- As JSON ----------------------------------------------------------------------------------------------------------
def _plain(group: Sum | Answers) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _FIELDS[type(group)]:
        value = getattr(group, name)
        if isinstance(value, Sum):
            value = _plain(value)
        elif isinstance(value, set):
            value = sorted(value)
        elif isinstance(value, Counter):
            value = [[key, number] for key, number in value.items()]  # keys that are numbers stay numbers
        found[name] = value
    return found


def _sum(plain: Mapping[str, Any]) -> Sum:
    return Sum(**_sums(plain))


def _sums(plain: Mapping[str, Any]) -> dict[str, Any]:
    samples = [(waste, call_id) for waste, call_id in plain["samples"]]
    return {**{name: plain[name] for name in ("calls", "cost_nano", "waste_nano", "assumed_nano")}, "samples": samples}


def _failures(plain: Mapping[str, Any]) -> Failures:
    return Failures(
        **_sums(plain), failed=plain["failed"], retried=plain["retried"], errors=Counter(dict(plain["errors"])),
        by_time=Counter(dict(plain["by_time"])),
    )  # fmt: skip


def _loop(plain: Mapping[str, Any]) -> Loop:
    return Loop(**_sums(plain), sessions=Counter(dict(plain["sessions"])))


def _answers(plain: Mapping[str, Any]) -> Answers:
    sums = {name: _sum(plain[name]) for name in ("simple", "resent", "resent_not_simple")}
    return Answers(**{**plain, **sums, "unpriced": set(plain["unpriced"])})


_MAKERS: Final[dict[str, Callable[[Mapping[str, Any]], Any]]] = {
    "failures": _failures, "aborted": _sum, "loops": _loop, "duplicates": _sum, "answers": _answers,
}  # fmt: skip
_FIELDS: Final = {kind: tuple(kind.__dataclass_fields__) for kind in (Sum, Failures, Loop, Answers)}
