"""The auditor finds what it is there to find: one broken book at a time, the right invariant fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.simulator.invoice import InvoiceLine
from tests.rig.auditor import Evidence, audit, show
from tests.rig.books import Counters, Ledger, Row
from tests.rig.load import Answer, Call

COUNTER = "b:0190aaaa-0000-7000-8000-000000000001:0"
BUDGET = COUNTER.split(":")[1]


def line(attempt: str | None = "a1", cost: int = 100, **more: object) -> InvoiceLine:
    made = InvoiceLine(
        invoice=f"inv-{attempt}", attempt=attempt, model="sim-small", script="ok", input_tokens=1, cached_tokens=0, output_tokens=1,
        cost_nano=cost, billed=True, final=True, at=0,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def row(rid: str = "a1", cost: int = 100, leg: int = 0, state: str = "settled", basis: str = "measured") -> Row:
    return Row(rid, leg, 1, state, basis, "exact", cost, 500, ((COUNTER, "nano", cost),), (), "", 200, "", 1)


def ledger(*rows: Row) -> Ledger:
    total = sum(one.cost for one in rows)
    sums = {grain: {1: total} for grain in ("hour", "day", "month", "detail")}
    return Ledger(list(rows), {(1, COUNTER): total}, {}, sums, {}, 0)


def evidence() -> Evidence:
    """Books in order: one call of 100 nano under a cap of 1000."""
    return Evidence(
        invoice=[line()],
        ledger=ledger(row()),
        counters=Counters({(1, COUNTER): 100}, {(1, COUNTER): 0}, [], {1: "active"}),
        caps={BUDGET: 1000},
    )


def failed(broken: Evidence) -> set[str]:
    return {finding.invariant.partition(" ")[0] for finding in audit(broken) if not finding.passed}


def answer(status: int, body: bytes, **headers: str) -> Answer:
    call = Call(1, b"", label="acme/ok")
    return Answer(call, status, {"content-type": "application/json", **headers}, body, complete=True)


def test_books_in_order_pass_and_the_report_names_seed_and_commit() -> None:
    findings = audit(evidence())
    assert all(finding.passed for finding in findings)
    assert show(findings, seed=7).startswith("seed 7, commit ")


BROKEN: dict[str, tuple[Callable[[Evidence], Evidence], set[str]]] = {
    "the invoice is above the cap": (lambda e: replace(e, caps={BUDGET: 99}), {"I1"}),
    "the watch saw a breach": (lambda e: replace(e, breaches=["b"]), {"I1"}),
    "a bill is not in the ledger": (lambda e: replace(e, invoice=[line(), line("a2")]), {"I2"}),
    "a bill is void in the ledger": (
        lambda e: replace(e, invoice=[line(), line("a2", 0)], ledger=ledger(row(), row("a2", 0, state="void"))),
        {"I2"},
    ),
    "a request had no attempt id": (lambda e: replace(e, invoice=[line(), line(None)]), {"I2"}),
    "an attempt was sent twice": (lambda e: replace(e, invoice=[line(), line(invoice="inv-again")]), {"I2"}),
    "a charge is there twice": (lambda e: replace(e, ledger=replace(ledger(row(), row(cost=0)))), {"I3", "I5"}),
    "something is still held": (
        lambda e: replace(e, counters=Counters({(1, COUNTER): 100}, {(1, COUNTER): 5}, [], {1: "active"})),
        {"I4"},
    ),
    "a hold is still open": (lambda e: replace(e, counters=replace(e.counters, open=["a9"])), {"I4"}),
    "Redis says one nano more": (
        lambda e: replace(e, counters=replace(e.counters, settled={(1, COUNTER): 101})),
        {"I4"},
    ),
    "a rollup says one nano less": (
        lambda e: replace(e, ledger=replace(e.ledger, rollups={**e.ledger.rollups, "day": {1: 99}})),
        {"I4"},
    ),
    "a charge is below the bill": (lambda e: replace(e, invoice=[line(cost=101)]), {"I5"}),
    "a measured charge is above the bill": (lambda e: replace(e, invoice=[line(cost=99)]), {"I5"}),
    "an error is no JSON": (lambda e: replace(e, answers=[answer(502, b"<html>")]), {"I9"}),
    "an error has no request id": (
        lambda e: replace(e, answers=[answer(404, b'{"error":{"message":"m","type":"t","code":"c"}}')]),
        {"I9"},
    ),
    "another tenant's text": (
        lambda e: replace(e, canaries={"globex": "gx-canary"}, answers=[answer(200, b"... gx-canary")]),
        {"I6"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_book_fails_its_own_invariant(what: str) -> None:
    breaks, expected = BROKEN[what]
    assert failed(breaks(evidence())) == expected


def test_an_upper_bound_is_no_failure_where_it_is_not_measured() -> None:
    books = replace(evidence(), invoice=[line(cost=40)])
    for basis in ("counted", "assumed"):
        assert failed(replace(books, ledger=ledger(row(basis=basis)))) == set()


def test_a_correction_counts_with_its_charge() -> None:
    corrected = ledger(row(cost=500, basis="assumed", state="expired"), row(cost=-400, leg=1, state="adjusted"))
    assert failed(replace(evidence(), ledger=corrected)) == set()


def test_a_secret_across_two_reads_of_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * ((1 << 22) - 4) + b"sk-secret" + b"x")
    assert failed(replace(evidence(), files=tmp_path, secrets={"a key": "sk-secret"})) == {"I7"}
