"""What a client wants of repeating: `Sluice-Retries: 0` to any number (never above what the workspace allows), `Sluice-Fallbacks: off`."""

from __future__ import annotations

from gateway.errors import BadRequest

RETRIES, FALLBACKS = "sluice-retries", "sluice-fallbacks"
_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def take_wishes(sluice: dict[str, str]) -> tuple[int | None, bool]:
    """(most retries, whether to go elsewhere). Takes its headers out of the Sluice-* ones, of which the others are attribution. Raises BadRequest."""
    retries, fallbacks = sluice.pop(RETRIES, None), sluice.pop(FALLBACKS, None)
    most, elsewhere = None, True
    if retries is not None:
        text = retries.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 3):
            raise BadRequest("Sluice-Retries is a whole number.", param=RETRIES, code="invalid_header")
        most = int(text)
    if fallbacks is not None:
        wanted = _SWITCH.get(fallbacks.strip().lower())
        if wanted is None:
            raise BadRequest("Sluice-Fallbacks is on or off.", param=FALLBACKS, code="invalid_header")
        elsewhere = wanted
    return most, elsewhere
