"""The auditor: invoice, money Redis, ledger, rollups and every answer, against the invariants I1 to I10 of FAULTS.md.

It uses none of the application's code and rounds nothing: integers are equal or the audit fails.
"""

from __future__ import annotations

import subprocess
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.env import ROOT
from gateway.simulator.invoice import InvoiceLine
from tests.rig.books import Counters, Ledger, Row, invoice_by_attempt
from tests.rig.load import Answer

LYING = {"usage-zero", "usage-negative", "usage-float", "usage-string", "usage-over-max", "usage-huge"}
"""Scripts whose stated usage is not what the invoice charges: a measured row may then differ, but never be below it."""
MOST_SHOWN = 8


@dataclass
class Evidence:
    """What a run leaves behind. Books are read when everything is at rest."""

    invoice: Sequence[InvoiceLine]
    ledger: Ledger
    counters: Counters
    caps: dict[str, int]
    """Budget id -> cap, of hard budgets that were never lowered."""
    units: dict[str, str] = field(default_factory=dict)
    """Budget id -> usd, calls or tokens; usd where not named."""
    answers: Sequence[Answer] = ()
    breaches: Sequence[str] = ()
    """What the watch over the caps saw while the load ran."""
    canaries: dict[str, str] = field(default_factory=dict)
    """Tenant label -> text that only its own answers may contain. A call's label begins with its tenant's, up to a slash."""
    secrets: dict[str, str] = field(default_factory=dict)
    """What -> a text that no file of the run may contain."""
    files: Path | None = None
    revoked: dict[str, float] = field(default_factory=dict)
    """Key text -> when its revocation was acknowledged (wall clock)."""
    differences: Sequence[str] = ()
    """What the product's own `reconcile` found, and counters that a replay of the books did not give again."""
    liveness: Sequence[str] = ()
    """What did not heal in time."""
    unbounded: Sequence[str] = ()
    """Resources that went above their line."""


@dataclass(frozen=True, slots=True)
class Finding:
    invariant: str
    problems: list[str]
    checked: int
    """How many things were looked at: a check that looked at nothing proves nothing."""

    @property
    def passed(self) -> bool:
        return not self.problems


def audit(evidence: Evidence) -> list[Finding]:
    charges = {row.rid: row for row in evidence.ledger.rows if row.leg == 0}
    corrections = {row.rid: row for row in evidence.ledger.rows if row.leg == 1}
    return [
        _cap(evidence, charges),
        _no_loss(evidence, charges),
        _no_duplicate(evidence),
        _conserve(evidence),
        _upper(evidence, charges, corrections),
        _isolation(evidence),
        _secrecy(evidence),
        _revoked(evidence),
        Finding("I8 LIVENESS", list(evidence.liveness), len(evidence.answers)),
        _honest(evidence),
        Finding("I10 BOUNDED", list(evidence.unbounded), 1),
    ]


def show(findings: Sequence[Finding], *, seed: int) -> str:
    """The report: one line an invariant, what failed below it."""
    lines = [f"seed {seed}, commit {commit()}"]
    for finding in findings:
        lines.append(f"{'PASS' if finding.passed else 'FAIL'}  {finding.invariant:<12} {finding.checked} checked")
        lines += [f"        {problem}" for problem in finding.problems[:MOST_SHOWN]]
        if len(finding.problems) > MOST_SHOWN:
            lines.append(f"        and {len(finding.problems) - MOST_SHOWN} more")
    return "\n".join(lines)


def commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _cap(evidence: Evidence, charges: dict[str, Row]) -> Finding:
    """I1: never above a cap while it ran, nor by the invoice of the calls that each period admitted."""
    problems = list(evidence.breaches)
    billed: Counter[str] = Counter()
    for line in evidence.invoice:
        row = charges.get(line.attempt or "")
        for counter, unit, _ in row.counters if row is not None and line.billed else ():
            if unit == "nano":
                billed[counter] += line.cost_nano
            elif unit == "calls":
                billed[counter] += 1
            else:
                billed[counter] += line.input_tokens + line.output_tokens
    for counter, spent in billed.items():
        cap = evidence.caps.get(counter.split(":")[1])
        if cap is not None and spent > cap:
            problems.append(f"{counter}: the provider bills {spent}, the cap is {cap}")
    for (workspace, counter), settled in evidence.counters.settled.items():
        cap = evidence.caps.get(counter.split(":")[1])
        if cap is not None and settled + evidence.counters.held[workspace, counter] > cap:
            problems.append(f"{counter}: settled and held {settled} are above {cap}")
    return Finding("I1 CAP", problems, len(billed))


def _no_loss(evidence: Evidence, charges: dict[str, Row]) -> Finding:
    """I2: what the provider bills is charged, one to one."""
    problems = []
    for attempt, lines in invoice_by_attempt(evidence.invoice).items():
        billed = [line for line in lines if line.billed]
        if not attempt:
            problems.append(f"{len(lines)} requests reached the provider without an attempt id")
            continue
        if len(lines) > 1:
            problems.append(f"{attempt}: sent {len(lines)} times")
        if not billed:
            continue
        row = charges.get(attempt)
        if row is None:
            problems.append(f"{attempt}: billed {billed[0].cost_nano} ({billed[0].script}), not in the ledger")
        elif row.state == "void":
            problems.append(
                f"{attempt}: billed {billed[0].cost_nano} ({billed[0].script}), void in the ledger ({row.error})"
            )
    if evidence.ledger.dead_letters:
        problems.append(f"{evidence.ledger.dead_letters} stream entries in quarantine")
    problems += [f"workspace {workspace}: events missing: {gaps}" for workspace, gaps in evidence.ledger.gaps.items()]
    return Finding("I2 NO-LOSS", problems, len(evidence.invoice))


def _no_duplicate(evidence: Evidence) -> Finding:
    """I3: at most one charge and one correction an attempt."""
    seen = Counter((row.rid, row.leg) for row in evidence.ledger.rows)
    problems = [f"{rid}: {times} rows of leg {leg}" for (rid, leg), times in seen.items() if times > 1]
    return Finding("I3 NO-DUP", problems, len(seen))


def _conserve(evidence: Evidence) -> Finding:
    """I4: at rest nothing is held, and every total says the same integer."""
    problems = [f"{counter}: {held} still held" for (_, counter), held in evidence.counters.held.items() if held]
    problems += evidence.differences
    problems += [f"{rid} is still open in Redis" for rid in evidence.counters.open]
    problems += [f"{rid} is still open in the ledger" for rid in evidence.ledger.open]
    problems += [
        f"workspace {w} is {state}"
        for w, state in evidence.counters.states.items()
        if state not in ("active", "suspended")
    ]
    booked: Counter[tuple[int, str]] = Counter()
    cost: Counter[int] = Counter()
    for row in evidence.ledger.rows:
        cost[row.workspace] += row.cost
        for counter, _, amount in row.counters:
            booked[row.workspace, counter] += amount
    for key in sorted(evidence.counters.settled.keys() | booked.keys() | evidence.ledger.totals.keys()):
        there = (evidence.counters.settled.get(key, 0), booked.get(key, 0), evidence.ledger.totals.get(key, 0))
        if len(set(there)) > 1:
            problems.append(f"{key[1]}: Redis {there[0]}, ledger {there[1]}, totals {there[2]}")
    for grain, sums in evidence.ledger.rollups.items():
        for workspace in cost.keys() | sums.keys():
            if cost[workspace] != sums.get(workspace, 0):
                problems.append(
                    f"workspace {workspace}: ledger {cost[workspace]}, rollups by {grain} {sums.get(workspace, 0)}"
                )
    return Finding("I4 CONSERVE", problems, len(booked) + len(cost))


def _upper(evidence: Evidence, charges: dict[str, Row], corrections: dict[str, Row]) -> Finding:
    """I5: never charged below the invoice; equal where it was measured."""
    problems = []
    checked = 0
    for attempt, lines in invoice_by_attempt(evidence.invoice).items():
        charge = charges.get(attempt)
        if charge is None or len(lines) != 1:
            continue  # I2 says so
        checked += 1
        line, last = lines[0], corrections.get(attempt, charge)
        booked = charge.cost + (corrections[attempt].cost if attempt in corrections else 0)
        if booked < line.cost_nano:
            problems.append(f"{attempt} ({line.script}, {last.basis}): charged {booked}, billed {line.cost_nano}")
        elif (
            booked != line.cost_nano and last.basis == "measured" and last.state != "void" and line.script not in LYING
        ):
            problems.append(f"{attempt} ({line.script}): measured {booked}, billed {line.cost_nano}")
    return Finding("I5 UPPER", problems, checked)


def _isolation(evidence: Evidence) -> Finding:
    """I6: nobody receives what only another tenant wrote."""
    problems = []
    for answer in evidence.answers:
        tenant = answer.call.label.partition("/")[0]
        received = answer.body + repr(answer.headers).encode()
        problems += [
            f"{tenant} received {other}'s text in call {answer.call_id}"
            for other, canary in evidence.canaries.items()
            if other != tenant and canary.encode() in received
        ]
    return Finding("I6 ISOLATION", problems, len(evidence.answers) if evidence.canaries else 0)


def _secrecy(evidence: Evidence) -> Finding:
    """I7: no key and no prompt in any file that the run wrote."""
    if evidence.files is None:
        return Finding("I7 SECRECY", [], 0)
    needles = {what: text.encode() for what, text in evidence.secrets.items()}
    longest = max((len(text) for text in needles.values()), default=1)
    found: defaultdict[str, set[str]] = defaultdict(set)
    files = [path for path in sorted(evidence.files.rglob("*")) if path.is_file() and not path.is_symlink()]
    for path in files:
        overlap = b""
        try:
            with path.open("rb") as file:
                while part := file.read(1 << 22):
                    window = overlap + part
                    for what, text in needles.items():
                        if text in window:
                            found[what].add(str(path.relative_to(evidence.files)))
                    overlap = window[-longest:]
        except FileNotFoundError:
            continue  # a store cleaned up behind itself
    return Finding("I7 SECRECY", [f"{what} in {', '.join(sorted(where))}" for what, where in found.items()], len(files))


def _revoked(evidence: Evidence) -> Finding:
    """F34: no call that began after a key's revocation was acknowledged gets past the door."""
    problems = []
    checked = 0
    for answer in evidence.answers:
        since = evidence.revoked.get(dict(answer.call.headers).get("Authorization", "").removeprefix("Bearer "))
        if since is None or not answer.started_at or answer.started_at <= since:
            continue
        checked += 1
        code = (answer.error_object or {}).get("code")
        stopped = answer.status in (0, 401) or (answer.status == 503 and code != "server_error")
        if not stopped:
            problems.append(
                f"{answer.status} on {answer.call.label} {answer.call_id}, {answer.started_at - since:.2f} s after the revocation"
            )
    return Finding("F34 REVOKED", problems, checked)


def _honest(evidence: Evidence) -> Finding:
    """I9: every error is one that an SDK can read, names its call and says whether to repeat it."""
    problems = []
    checked = 0
    for answer in evidence.answers:
        if answer.status < 400 and not (answer.is_stream and answer.error_object):
            continue
        checked += 1
        error = answer.error_object
        where = f"{answer.status} on {answer.call.label or 'a call'} {answer.call_id}"
        if error is None:
            problems.append(f"{where}: no error object: {answer.body[:120]!r}")
            continue
        if not {"message", "type", "code"} <= error.keys() or not isinstance(error["message"], str):
            problems.append(f"{where}: not OpenAI's shape: {error}")
        if answer.status >= 400:
            if not answer.headers.get("x-request-id"):
                problems.append(f"{where}: no x-request-id")
            if answer.headers.get("content-type", "").partition(";")[0] != "application/json":
                problems.append(f"{where}: {answer.headers.get('content-type')}")
            if answer.status in (429, 500, 502, 503, 504) and not (
                {"x-should-retry", "retry-after"} & answer.headers.keys()
            ):
                problems.append(f"{where}: does not say whether to retry ({error.get('code')})")
    return Finding("I9 HONEST", problems, checked)
