"""Which cheaper models a workspace allows in the place of another one: those it uses already, and the smaller ones of the same generation.

Only of the same provider: the same tokens, the same caches, the same API, so that the price book's answer on them is exact. Whether a smaller
model answers as well is for the workspace to try: nothing here says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from billing.domain.book import PriceBook
from guardrails.domain.waste.values import Choice

MOST = 4
_SIZES = (("opus", "sonnet", "haiku"), ("pro", "flash", "flash-lite"), ("large", "medium", "small"))
"""Sizes of one generation, as vendors name them, the largest first."""
_SUFFIXES = ("-mini", "-nano")
_NOT_CHAT = re.compile(r"embed|audio|image|tts|realtime|transcribe|search|moderation|whisper|dall-e")


def smaller(model: str) -> list[str]:
    """Names that the smaller siblings of a model would have."""
    found = []
    for sizes in _SIZES:
        at = next((place for place, size in enumerate(sizes) if _sized(model, size)), None)
        if at is not None:
            found += [re.sub(rf"(?<![a-z]){sizes[at]}(?![a-z])", size, model) for size in sizes[at + 1 :]]
    if model.endswith("-mini"):
        found.append(f"{model.removesuffix('-mini')}-nano")
    elif not found and not model.endswith("-nano"):
        found += [f"{model}{suffix}" for suffix in _SUFFIXES]
    return found


def _sized(model: str, size: str) -> bool:
    return re.search(rf"(?<![a-z]){size}(?![a-z-]*lite)(?![a-z])", model) is not None


def choices(
    book: PriceBook, provider: str, model: str, *, at_s: int, used: Collection[str], barred: Collection[str] = ()
) -> tuple[Choice, ...]:
    """Cheaper on fresh input and on output, and with a window as large as the model's own where both are known. The first one is the one proposed:
    the cheapest in use, else the dearest of the smaller siblings (the shortest step down).

    `used`: models of this provider that the workspace's calls ask; `barred`: those that its keys may not ask.
    """
    own = _prices(book, provider, model, at_s)
    if own is None:
        return ()
    found: dict[str, tuple[Choice, tuple[int, int]]] = {}
    for name in _candidates(model, used):
        rates = _prices(book, provider, name, at_s)
        cheaper = rates is not None and rates[0] * 10 <= own[0] * 9 and rates[1] * 10 <= own[1] * 9
        if rates is not None and cheaper and name not in barred and _wide_enough(book, provider, model, name):
            found.setdefault(name, (Choice(name, name in used), rates))
    in_use = sorted(
        (one for one in found.values() if one[0].in_use), key=lambda one: (one[1][1], one[1][0], one[0].model)
    )
    others = sorted(
        (one for one in found.values() if not one[0].in_use), key=lambda one: (-one[1][1], -one[1][0], one[0].model)
    )
    return tuple(choice for choice, _ in (*in_use, *others)[:MOST])


def _candidates(model: str, used: Iterable[str]) -> list[str]:
    kind = bool(_NOT_CHAT.search(model))
    names = [*sorted(used), *smaller(model)]
    return [name for name in names if name != model and bool(_NOT_CHAT.search(name)) == kind]


def _prices(book: PriceBook, provider: str, model: str, at_s: int) -> tuple[int, int] | None:
    """(input, output) in nano-dollars a million tokens; None for what is not sold by tokens in and out, and for what is free."""
    rates = book.rates_at(provider, model, at_s)
    compiled = None if rates is None or rates.free else rates.compiled()
    if compiled is None:
        return None
    fresh, output = compiled.numerators.get("input_uncached"), compiled.numerators.get("output_text")
    if not fresh or not output:
        return None
    return fresh * 1_000_000 // compiled.denominator, output * 1_000_000 // compiled.denominator


def _wide_enough(book: PriceBook, provider: str, model: str, other: str) -> bool:
    own, its = book.meta(provider, model), book.meta(provider, other)
    if its is not None and its.mode not in ("", "chat", "responses"):
        return False
    return (
        own is None
        or its is None
        or not own.context_window
        or not its.context_window
        or its.context_window >= own.context_window // 2
    )
