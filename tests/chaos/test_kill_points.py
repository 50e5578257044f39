"""`kill -9` at each of the seven points of a call, streamed and plain: invoice, Redis, ledger and rollups agree, as integers."""

from __future__ import annotations

import pytest

from tests.chaos import kill_points
from tests.rig.auditor import Evidence, audit, show
from tests.rig.books import read_counters, read_ledger
from tests.rig.processes import Installation

# Long: `make chaos` runs it. Its short form, against the invoice alone, is tests/gateway/test_crash_points.py.
pytestmark = [pytest.mark.chaos, pytest.mark.long, pytest.mark.timeout(600)]


async def test_the_books_agree_whatever_point_of_a_call_a_gateway_dies_at(site: Installation) -> None:
    budgets = [{"period": "day", "cap": "50"}, {"scope": "model", "value": None, "period": "total", "cap": "50"}]
    world = site.ask("make", given={"slug": "kill-points", "provider_url": site.provider_url, "budgets": budgets})
    site.start_gateways(1)

    deaths = await kill_points.die_everywhere(site, key=world["keys"][0]["text"])
    assert {str(d.case): d.exit_code for d in deaths} == {str(case): kill_points.DIED for case in kill_points.CASES}
    assert [str(death.case) for death in deaths if death.retried is None or death.retried.status != 200] == []
    assert kill_points.kill_writers(site) == [kill_points.DIED] * 2
    kill_points.settle_down(site)

    with site.money() as client:
        counters = read_counters(client)
    ledger = read_ledger(site.database_url)
    evidence = Evidence(
        invoice=site.simulator.invoice(),
        ledger=ledger,
        counters=counters,
        caps={budget["id"]: budget["cap"] for budget in world["budgets"]},
        answers=[death.retried for death in deaths if death.retried],
    )
    findings = audit(evidence)
    assert all(finding.passed for finding in findings), show(findings, seed=0)
    died = len([d for d in deaths if d.case.point not in ("before_admit", "after_finish")])
    expired = [row for row in ledger.rows if row.state == "expired"]
    assert {row.basis for row in expired} == {"assumed"}
    # after_finish dies with its settle handed over or not: either way it is charged once
    assert died <= len(expired) <= died + 2
    assert len([row for row in ledger.rows if row.leg == 0]) == 2 * len(deaths) - 2  # before_admit left no attempt
