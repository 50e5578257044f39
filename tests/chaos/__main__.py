"""`python -m tests.chaos --seed N`: the long proof. Prints every invariant, exits non-zero when one fails.

Two parts: bursts at the edge of a cap (`--edges 20`), and calls under the nemesis (`--calls 10000`), whose schedule `--verbose` prints. Naming one
part runs that one alone. The kill-point matrix is `pytest -m long tests/chaos`, which `make chaos` runs first.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import edge
from tests.chaos.run import chaos
from tests.rig import processes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", type=int, help="calls under the nemesis")
    parser.add_argument("--per-second", type=float, default=60.0)
    parser.add_argument("--edges", type=int, help="bursts of a thousand calls at the edge of a cap, a seed each")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs, stores and invoice")
    parser.add_argument("--verbose", action="store_true", help="print the nemesis's schedule")
    given = parser.parse_args()
    if given.calls is None:
        given.calls = 10_000 if not given.edges else 0
        given.edges = given.edges if given.edges is not None else 20
    home = Path(tempfile.mkdtemp(prefix=f"sluice-chaos-{given.seed}-"))
    try:
        good = _edges(home / "edges", given.seed, given.edges) if given.edges else True
        if given.calls:
            outcome = chaos(home / "chaos", seed=given.seed, calls=given.calls, per_second=given.per_second)
            print(outcome)
            if given.verbose:
                print("\n".join(outcome.schedule))
            good = good and outcome.passed
    finally:
        if given.keep:
            print(f"kept {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return 0 if good else 1


def _edges(home: Path, seed: int, bursts: int) -> bool:
    good = True
    with processes.installation(home) as stack:
        stack.start_gateways(2)
        for number in range(bursts):
            burst = asyncio.run(edge.run(stack, seed=seed * 1000 + number, calls=1000))
            held = (
                burst.admitted == burst.expected
                and burst.statuses["402 budget_exceeded"] == len(burst.answers) - burst.expected
                and not burst.breaches
                and burst.slowest_refusal_s < edge.patience_s()
            )
            print(f"{'PASS' if held else 'FAIL'}  {burst!r}", flush=True)
            good = good and held
    return good


if __name__ == "__main__":
    sys.exit(main())
