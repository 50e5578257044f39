"""Text for a cell of a spreadsheet: what a program would run as a formula is shown as text (SECURITY.md, CSV injection)."""

from __future__ import annotations

_STARTS = ("=", "+", "-", "@", "\t", "\r")


def inert(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would take it for a formula. Numbers with a sign are none of ours."""
    return f"'{text}" if text.startswith(_STARTS) else text
