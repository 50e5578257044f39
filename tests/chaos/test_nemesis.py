"""A short chaos run on a whole installation of its own: every invariant holds, and it heals by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import chaos

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]


def test_the_books_agree_after_hundreds_of_calls_under_the_nemesis(tmp_path: Path) -> None:
    outcome = chaos(tmp_path / "chaos", seed=11, calls=360, per_second=24, short=True)
    assert outcome.passed, str(outcome) + "\n" + "\n".join(outcome.schedule)
    assert len(outcome.faults) >= 5
    assert outcome.charged > 150
