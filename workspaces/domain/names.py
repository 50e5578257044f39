"""Names that customers' customers chose, made safe to show: nothing in them may turn, hide or reorder the text around them. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

_MARKS: Final = frozenset(
    "\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""Direction marks, overrides, isolates, and characters without width. (Joiners stay: Persian and emoji are written with them.)"""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def plain(text: str) -> str:
    """The text with control, direction and invisible characters written out (`⟨U+202E⟩`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if c in _MARKS or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def cell(text: str) -> str:
    """The text for a cell of a CSV file: made plain, and an apostrophe before what a spreadsheet would run as a formula.

    The rule is OWASP's ("CSV Injection"): a leading =, +, -, @, tab, or carriage return; full-width forms are read as their plain ones.
    """
    shown = plain(text)
    if text.startswith(_FORMULA) or unicodedata.normalize("NFKC", text[:1]).startswith(_FORMULA):
        return f"'{shown}"
    return shown
