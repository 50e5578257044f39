"""How many generated examples a test tries: some in `make test`, all of them in `make chaos` (SLUICE_TEST_ALL)."""

from __future__ import annotations

import os
from typing import Final

ALL: Final = bool(os.environ.get("SLUICE_TEST_ALL"))


def examples(count: int, *, one_in: int = 4) -> int:
    """`count` where everything is tried, otherwise one in so many. For tests that are marked `tries`, and for Hypothesis'."""
    return count if ALL else count // one_in
