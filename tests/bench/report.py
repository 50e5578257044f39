"""The measured figures as one Markdown table, with the machine, the versions and the date they belong to."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(frozen=True)
class Point:
    """One point of a curve of docs/performance.md (`tests.bench.curves`)."""

    curve: str
    line: str
    x: float
    y: float


@dataclass(frozen=True)
class Row:
    what: str
    who: str
    facts: str
    figure: str
    points: tuple[Point, ...] = ()


def spread(values: list[float]) -> str:
    """The median, and between what it lay."""
    return f"**{statistics.median(values):,.0f}** ({min(values):,.0f} to {max(values):,.0f})"


def table(rows: list[Row]) -> str:
    lines = [_circumstances(), "", "| what | who | result | besides |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.what} | {row.who} | {row.figure} | {row.facts} |" for row in rows]
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Into the page, between its two marks."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
    print(f"written to {PAGE.name}")


def _circumstances() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=PAGE.parent, capture_output=True, text=True, check=False
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "hiredis", "msgspec"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}: {os.cpu_count()} cores of {model}, "
        f"Python {platform.python_version()}, {versions}; load average at the end {os.getloadavg()[0]:.1f}."
    )
