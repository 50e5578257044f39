"""Every figure of docs/performance.md in one run of under a quarter of an hour, on a machine that does nothing else: the table and the curves.

    make bench-rivals; python -m tests.bench.everything --write

Three programs one after the other, each with servers of its own: the gateway beside others (`tests.bench`), the ledger (`tests.bench.ledger`),
many workspaces (`tests.bench.workspaces`). Their points are kept in docs/pictures/performance.json, which the pictures are drawn from.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import curves, report
from tests.bench.report import Point, Row

KEPT = curves.PICTURES / "performance.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.everything",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="put table and pictures into docs/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--entries", type=int, default=200_000, help="of the ledger whose size is measured")
    parser.add_argument("--workspaces", type=int, default=1000)
    parser.add_argument("--skip", default="", help="some of gateway, ledger, workspaces")
    options = parser.parse_args()
    began = time.monotonic()
    # 33,333 entries a day whatever their number: rollups depend on how many calls share a day.
    days = max(1, round(options.entries * 30 / 1_000_000))
    programs = {
        "gateway": ["tests.bench", "--rounds", str(options.rounds), "--seconds", str(options.seconds)],
        "ledger": ["tests.bench.ledger", "--live", "60000", "--entries", str(options.entries), "--days", str(days)],
        "workspaces": ["tests.bench.workspaces", "--count", str(options.workspaces)],
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="sluice-everything-") as folder:
        for name, words in programs.items():
            if name not in options.skip.split(","):
                rows += _run(words, Path(folder) / f"{name}.json")
    text = report.table(rows)
    print(f"\n{text}\n{time.monotonic() - began:.0f} s")
    if options.write:
        report.write(text)
        points = _with_kept([point for row in rows for point in row.points])
        KEPT.write_text(json.dumps([vars(point) for point in points], indent=1) + "\n", encoding="utf-8")
        for path in curves.draw(points):
            print(path)


def _run(words: list[str], file: Path) -> list[Row]:
    print(f"=== {words[0]}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json", str(file)], check=False
    )  # what others measured is kept
    if done.returncode or not file.exists():
        print(f"{words[0]} ended with {done.returncode}: its rows are missing", flush=True)
        return []
    return [_row(one) for one in json.loads(file.read_text())]


def _row(one: dict[str, Any]) -> Row:
    return Row(one["what"], one["who"], one["facts"], one["figure"], tuple(Point(**point) for point in one["points"]))


def _with_kept(points: list[Point]) -> list[Point]:
    """The points of a curve that this run did not measure stay as they are."""
    measured = {point.curve for point in points}
    kept = [Point(**one) for one in json.loads(KEPT.read_text())] if KEPT.exists() else []
    return [*(point for point in kept if point.curve not in measured), *points]


if __name__ == "__main__":
    main()
