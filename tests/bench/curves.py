"""Draws the curves of docs/performance.md from the measured points: `python -m tests.bench.curves FILE.json`. Plain SVG, no library."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tests.bench.report import PAGE, Point

PICTURES = PAGE.parent / "pictures"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 70, 20, 44, 52
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea")


@dataclass(frozen=True)
class Curve:
    title: str
    x: str
    y: str
    is_log: bool = False
    """The x axis in powers of ten"""


CURVES = {
    "connections": Curve("Connections at once", "connections", "calls a second, one core", is_log=True),
    "budgets": Curve("Budgets that meet a call", "budgets", "µs of CPU a call"),
    "prompt": Curve("Size of the prompt", "bytes of the request", "calls a second, one core", is_log=True),
    "workspaces": Curve("Workspaces that a gateway has met", "workspaces", "MB of a gateway's memory"),
    "writer": Curve(
        "The ledger's writer while the ledger grows", "entries in the ledger", "entries a second, one core"
    ),
    "size": Curve("PostgreSQL while the ledger grows", "entries in the ledger", "MB with indexes"),
}


def draw(points: Iterable[Point], folder: Path = PICTURES) -> list[Path]:
    """A picture of every curve that has points; answers their files."""
    by_curve: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for point in points:
        by_curve.setdefault(point.curve, {}).setdefault(point.line, []).append((point.x, point.y))
    written = []
    for name, lines in by_curve.items():
        path = folder / f"performance-{name}.svg"
        path.write_text(picture(CURVES[name], {line: sorted(some) for line, some in lines.items()}), encoding="utf-8")
        written.append(path)
    return written


def picture(curve: Curve, lines: dict[str, list[tuple[float, float]]]) -> str:
    xs = [x for some in lines.values() for x, _ in some]
    ticks = _ticks(max(y for some in lines.values() for _, y in some))
    low, high = min(xs), max(xs)

    def at_x(x: float) -> float:
        scaled = (
            (math.log10(x) - math.log10(low)) / (math.log10(high / low) or 1)
            if curve.is_log
            else (x - low) / (high - low or 1)
        )
        return LEFT + scaled * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - y / ticks[-1] * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(curve.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="600" fill="#111827">{escape(curve.title)}</text>',
    ]
    for tick in ticks:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(tick):.1f}" y2="{at_y(tick):.1f}" stroke="#e5e7eb"/>'
        )
        parts.append(
            f'<text x="{LEFT - 8}" y="{at_y(tick) + 4:.1f}" text-anchor="end" fill="#4b5563">{tick:,.0f}</text>'
        )
    for x in sorted(set(xs)):
        parts.append(
            f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#4b5563">{x:,.0f}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle" fill="#111827">{escape(curve.x)}</text>'
    )
    parts.append(f'<text x="14" y="{TOP - 8}" fill="#111827">{escape(curve.y)}</text>')
    for number, (name, some) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in some)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in some]
        parts += [
            f'<text x="{at_x(x):.1f}" y="{at_y(y) - 8:.1f}" text-anchor="middle" fill="{colour}">{y:,.0f}</text>'
            for x, y in some
        ]
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{20 + 16 * number}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _ticks(most: float) -> Sequence[float]:
    """Zero and up to five round steps, the last at or above the most."""
    step = 10 ** math.floor(math.log10(most)) if most > 0 else 1
    for factor in (0.2, 0.5, 1, 2):
        if most / (step * factor) <= 5:
            step *= factor
            break
    return [step * number for number in range(math.ceil(most / step) + 1)]


if __name__ == "__main__":
    for file in draw(Point(**one) for one in json.loads(Path(sys.argv[1]).read_text())):
        print(file)
