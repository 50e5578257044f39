"""Which reader an answer needs: by the endpoint's path first, by the answer's shape where the path does not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.domain.extraction import openai, streams
from billing.domain.extraction.common import Call, unreadable
from billing.domain.extraction.record import Usage

Event = Mapping[str, Any]


def _no_answer(call: Call) -> Usage:
    return unreadable("usage_missing")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one API tells its usage: in a whole body, in a stream's events, or not at all (a binary answer)."""

    name: str
    whole: Callable[[Event, Call], Usage]
    stream: Callable[[Sequence[Event], Call], Usage]
    absent: Callable[[Call], Usage] = _no_answer


COMPLETIONS = Dialect("completions", openai.completions, streams.completions)
RESPONSES = Dialect("responses", openai.responses, streams.responses)


def choose(call: Call, payload: Any) -> Dialect:
    path = call.endpoint.lower()
    if "/responses" in path:
        return RESPONSES
    return COMPLETIONS
