"""What a client wants of repeating: `Sluice-Retries: 0` to any number (never above what the workspace allows), `Sluice-Fallbacks: off`."""

from __future__ import annotations

from gateway.edge import Request
from gateway.errors import BadRequest

RETRIES, FALLBACKS = "sluice-retries", "sluice-fallbacks"
_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def read_wishes(request: Request) -> None:
    """Takes its own headers out of the request's Sluice-* headers, of which the others are attribution. Raises BadRequest."""
    retries, fallbacks = request.sluice.pop(RETRIES, None), request.sluice.pop(FALLBACKS, None)
    if retries is not None:
        text = retries.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 3):
            raise BadRequest("Sluice-Retries is a whole number.", param=RETRIES, code="invalid_header")
        request.most_retries = int(text)
    if fallbacks is not None:
        wanted = _SWITCH.get(fallbacks.strip().lower())
        if wanted is None:
            raise BadRequest("Sluice-Fallbacks is on or off.", param=FALLBACKS, code="invalid_header")
        request.fallbacks = wanted
