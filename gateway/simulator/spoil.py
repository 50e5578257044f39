"""What a bad provider says about usage. The invoice never comes here: it is written from what was generated."""

from __future__ import annotations

from typing import Any

ABSENT = object()
_HUGE = 10**18


def spoil(usage: dict[str, Any], mode: str, *, over: int = 1_000_000) -> Any:
    """A truthful usage object -> what is sent: the same, ABSENT, None, or one with every integer changed."""
    if mode == "absent":
        return ABSENT
    if mode == "null":
        return None
    change = {
        "zero": lambda value: 0,
        "negative": lambda value: -value - 1,
        "float": lambda value: value + 0.5,
        "string": str,
        "huge": lambda value: _HUGE,
    }.get(mode)
    if mode == "over":
        return {key: value + over if _is_output(key) else value for key, value in usage.items()}
    return usage if change is None else _mapped(usage, change)


def put(holder: dict[str, Any], key: str, usage: Any) -> dict[str, Any]:
    """The holder with the usage in it, unless it is ABSENT."""
    if usage is not ABSENT:
        holder[key] = usage
    return holder


def _is_output(key: str) -> bool:
    return key in {"completion_tokens", "output_tokens", "total_tokens", "candidatesTokenCount", "totalTokenCount"}


def _mapped(usage: Any, change: Any) -> Any:
    if isinstance(usage, dict):
        return {key: _mapped(value, change) for key, value in usage.items()}
    if isinstance(usage, int) and not isinstance(usage, bool):
        return change(usage)
    return usage
