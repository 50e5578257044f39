"""A thousand calls at once at the edge of one of seven caps, over two gateways: exactly what fits passes, the rest is told why, quickly."""

from __future__ import annotations

import pytest

from tests.chaos import edge
from tests.rig.effort import ALL
from tests.rig.processes import Installation

pytestmark = [pytest.mark.chaos, pytest.mark.tries, pytest.mark.timeout(240)]


async def test_exactly_as_many_calls_pass_as_fit_under_the_tightest_of_seven_caps(site: Installation) -> None:
    site.start_gateways(2)
    for seed in (1, 2) if ALL else (1,):  # `make chaos` runs both here, and twenty of its own
        burst = await edge.run(site, seed=seed, calls=1000)
        assert burst.admitted == burst.expected, burst
        assert burst.statuses["402 budget_exceeded"] == 1000 - burst.expected, burst
        assert burst.breaches == []
        assert burst.looks > 20
        assert burst.slowest_refusal_s < edge.patience_s(), burst
