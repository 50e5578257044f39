"""The most that pictures cost: by the piece where a model is priced so, by the most tokens of a size and quality where it is not. Pure.

Sources: OpenAI's image guide (gpt-image-1: 272 to 6,240 tokens a picture by quality; each partial picture 100 more) and its price calculator for
gpt-image-2 (1024x1024 high 7,024; 3584x2048 high 12,329: it grows slower than the area). Where nothing is published there is no bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from billing.domain.rates import Rates

MAX_PICTURES = 16
DEFAULT_FRAMES = 9
PARTIAL_TOKENS = 100
TEXT_TOKENS = 2_000
"""What a model writes and thinks beside the picture."""
INPUT_TOKENS = 16_000
"""Of one picture that is handed in, at high fidelity; gpt-image-1 takes 8,400 at most."""
_FIRST = {"low": 408, "medium": 1_584, "high": 6_240}
_SECOND = {"low": 1_100, "medium": 3_600, "high": 7_024}
_SECOND_CEILING = 16_000
_SQUARE = 1024 * 1024
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
_LARGEST = 3840 * 2160
FIELDS = frozenset(
    {
        "model", "prompt", "n", "size", "quality", "background", "moderation", "output_compression", "output_format", "partial_images",
        "response_format", "stream", "style", "user", "safety_identifier", "input_fidelity", "image_files", "metadata", "frame_count",
        "frame_duration_ms", "aspect_ratio", "seed",
    }
)  # fmt: skip
"""What a request for pictures may say whose price is known: anything else may cost what nobody published."""


def draws(endpoint: str) -> bool:
    return "/images/" in endpoint


def fee_of(request: Mapping[str, Any]) -> str:
    """The name of the fee for one picture of a model that is priced by quality and size (DALL-E)."""
    quality, size = request.get("quality"), request.get("size")
    quality = quality if isinstance(quality, str) and quality not in ("", "auto") else "standard"
    size = size if isinstance(size, str) and size not in ("", "auto") else "1024x1024"
    return f"image_{quality}_{size}"[:80]


def by_the_piece(units: Mapping[str, int]) -> bool:
    return any(unit == "images" or unit.startswith("image_") for unit in units)


def piece_unit(request: Mapping[str, Any], units: Mapping[str, int]) -> str:
    """The unit that a picture of this request is billed as, of a model that is priced by the piece; empty when it has no rate."""
    named = fee_of(request)
    return named if named in units else "images" if "images" in units else ""


def output_tokens(request: Mapping[str, Any], rates: Rates) -> tuple[int, str]:
    """(the most output tokens of one picture, or 0; why there is no bound)."""
    odd = next((name for name in request if name not in FIELDS), "")
    if odd:
        return 0, f"the price of {odd[:40]!r} in a request for pictures is not known"
    if by_the_piece(_units(rates)):
        return 0, ""
    if request.get("output_format") == "svg":
        return 0, "what another model writes for an SVG is not known beforehand"
    picture = _one(request, rates.model.lower())
    if not picture:
        return 0, "send a quality of low, medium or high, and a size like 1024x1024"
    frames = request.get("frame_count")
    if request.get("output_format") == "gif" or frames is not None:
        picture *= frames if type(frames) is int and 1 <= frames <= MAX_PICTURES else MAX_PICTURES
    partial = request.get("partial_images")
    return picture + PARTIAL_TOKENS * (partial if type(partial) is int and 0 < partial <= 10 else 0) + TEXT_TOKENS, ""


def _units(rates: Rates) -> Mapping[str, int]:
    compiled = rates.compiled()
    return compiled.numerators if compiled is not None else {}


def _one(request: Mapping[str, Any], model: str) -> int:
    quality = request.get("quality")
    if quality not in (None, "auto", "low", "medium", "high"):
        return 0
    if model.startswith(("gpt-image-1", "chatgpt-image", "simulator", "sim-")):
        return _FIRST.get(str(quality), _FIRST["high"])
    if not model.startswith("gpt-image-2"):
        return 0
    newer = model.startswith("gpt-image-2.")
    if newer and quality in (None, "auto"):
        return 0  # may be served as xhigh or max, whose tokens nobody has published
    area = _area(request.get("size"))
    tokens = min(_SECOND.get(str(quality), _SECOND["high"]) * max(area, _SQUARE) // _SQUARE, _SECOND_CEILING)
    return tokens * 2 if newer else tokens


def _area(size: Any) -> int:
    parsed = _SIZE.fullmatch(size) if isinstance(size, str) else None
    return int(parsed[1]) * int(parsed[2]) if parsed else _LARGEST
