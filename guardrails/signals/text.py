"""Text that becomes a header, a subject or a line of chat."""

from __future__ import annotations

import re

_SPACE = re.compile(r"\s+")


def one_line(text: str, longest: int) -> str:
    """On one line, without control characters and the invisible ones that turn text around (SECURITY.md S37); cut with an ellipsis."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    plain = _SPACE.sub(" ", plain).strip()
    return plain if len(plain) <= longest else plain[: longest - 1].rstrip() + "…"
