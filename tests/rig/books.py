"""The three books, read without the application's code: the provider's invoice, the money Redis, PostgreSQL.

Only what is folded into a ledger line (its counters, flags, status) is read by the ledger's own pure code; its money stands in columns.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row
from redis.exceptions import RedisError

from billing.ledger.kept import OF_CALLER, unfold_entry
from gateway.simulator.invoice import InvoiceLine


@dataclass(frozen=True, slots=True)
class Row:
    """One ledger line."""

    rid: str
    leg: int
    workspace: int
    state: str
    basis: str
    price_status: str
    cost: int
    hold: int
    counters: tuple[tuple[str, str, int], ...]
    flags: tuple[str, ...]
    call: str
    http_status: int
    error: str
    seq: int


@dataclass(frozen=True, slots=True)
class Ledger:
    rows: list[Row]
    totals: dict[tuple[int, str], int]
    """(workspace, counter) -> settled, as a rebuild would seed it."""
    open: dict[str, int]
    """rid -> held nano, of attempts that have not ended."""
    rollups: dict[str, dict[int, int]]
    """hour | day | month | detail -> workspace -> cost, over the workspace's total rows."""
    gaps: dict[int, list[Any]]
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The money Redis at one moment."""

    settled: dict[tuple[int, str], int]
    held: dict[tuple[int, str], int]
    open: list[str]
    states: dict[int, str]


def _row(line: Any) -> Row:
    line.shape, line.plan = (body and SimpleNamespace(body=body) for body in (line.shape_body, line.plan_body))
    found = unfold_entry(line)
    return Row(
        str(line.rid), line.leg, line.workspace_id, line.state, line.basis, line.price_status, line.cost_nano, line.hold_nano,
        tuple((c, u, int(a)) for c, u, a in found["counters"]), tuple(found["flags"]), str(line.call_id or ""), found["http_status"],
        found["error"], found["seq"],
    )  # fmt: skip


def read_ledger(url: str) -> Ledger:
    """As the writer sees it: all workspaces, at one moment. `url` is the application's role: its row-level security applies."""
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SELECT set_config('sluice.every_workspace', 'on', true)")
        names = ", ".join(f"c.{name}" for name in OF_CALLER)
        rows = [
            _row(SimpleNamespace(**line))
            for line in connection.cursor(row_factory=dict_row).execute(
                "SELECT e.rid, e.leg, e.workspace_id, e.at, e.state::text, e.basis::text, e.price_status::text, e.cost_nano, e.hold_nano, e.call_id, "
                f"e.customer, e.end_user AS user, e.session, e.detail, c.tags, {names}, s.body AS shape_body, p.body AS plan_body "
                "FROM billing_entry e JOIN billing_caller c ON c.id = e.caller_id LEFT JOIN billing_pattern s ON s.id = e.shape_id "
                "LEFT JOIN billing_pattern p ON p.id = e.plan_id ORDER BY e.at, e.rid, e.leg"
            )
        ]
        totals = {
            (workspace, counter): settled
            for workspace, counter, settled in connection.execute(
                "SELECT workspace_id, counter, settled FROM billing_budget_total"
            )
        }
        held = {str(rid): nano for rid, nano in connection.execute("SELECT rid, hold_nano FROM billing_open_attempt")}
        rollups: dict[str, dict[int, int]] = {}
        for grain in ("hour", "day", "month", "detail"):
            only_totals = "" if grain == "detail" else "WHERE dimension = ''"
            query = f"SELECT workspace_id, sum(cost_nano)::bigint FROM billing_rollup_{grain} {only_totals} GROUP BY 1"
            rollups[grain] = dict(connection.execute(query).fetchall())
        gaps = {w: g for w, g in connection.execute("SELECT workspace_id, gaps FROM billing_sequence_mark") if g}
        letters = connection.execute("SELECT count(*) FROM billing_dead_letter").fetchone()
    return Ledger(rows, totals, held, rollups, gaps, letters[0] if letters else 0)


def read_counters(client: redis.Redis) -> Counters:
    settled: dict[tuple[int, str], int] = {}
    held: dict[tuple[int, str], int] = {}
    states: dict[int, str] = {}
    opened: list[str] = []
    for key in _scan(client, "sl:{p*}:w:*"):
        _, _, rest = key.partition(":w:")
        workspace, _, suffix = rest.partition(":")
        if suffix.startswith("b:"):
            pair: Any = client.hmget(key, ["s", "h"])
            settled[int(workspace), suffix], held[int(workspace), suffix] = int(pair[0] or 0), int(pair[1] or 0)
        elif suffix == "meta":
            states[int(workspace)] = _text(client.hget(key, "state"))
    for key in _scan(client, "sl:{p*}:open"):
        members: Any = client.zrange(key, 0, -1)
        opened += [_text(member) for member in members]
    return Counters(settled, held, opened, states)


def _scan(client: redis.Redis, pattern: str) -> list[str]:
    return sorted(_text(key) for key in client.scan_iter(match=pattern, count=1000))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def invoice_by_attempt(lines: Iterable[InvoiceLine]) -> dict[str, list[InvoiceLine]]:
    grouped: dict[str, list[InvoiceLine]] = defaultdict(list)
    for line in lines:
        grouped[line.attempt or ""].append(line)
    return dict(grouped)


@dataclass
class CapWatch:
    """Looks every 50 ms whether settled + held is above a cap, for I1 while the load runs. Each look is atomic (one script)."""

    client: redis.Redis
    workspace: int
    partition_prefix: str
    caps: Mapping[str, int]
    """Budget id -> cap, until `change` says otherwise."""
    looks: int = 0
    highest: dict[str, int] = field(default_factory=dict)
    """Counter -> highest settled + held seen."""
    breaches: list[str] = field(default_factory=list)

    _lowered: dict[str, int] = field(default_factory=dict)
    """Budget id -> cap that was lowered; what stood above it then may only fall."""
    _above: dict[str, int] = field(default_factory=dict)
    """Counter -> its lowest use since, while that is above the lowered cap."""
    _turn: threading.Lock = field(default_factory=threading.Lock)

    _LOOK = """
    local found = {}
    for _, suffix in ipairs(redis.call('HKEYS', KEYS[1] .. 'idx')) do
      local pair = redis.call('HMGET', KEYS[1] .. suffix, 's', 'h')
      found[#found + 1] = suffix
      found[#found + 1] = string.format('%.0f', (tonumber(pair[1]) or 0) + (tonumber(pair[2]) or 0))
    end
    return found
    """

    def __enter__(self) -> CapWatch:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            try:
                self.look()
            except RedisError:
                time.sleep(0.2)  # it is down: that is what the test wanted

    def change(self, budget: str, cap: int | None) -> None:
        """The change of a cap was acknowledged: from now on it is in force. None: as it was in the beginning."""
        with self._turn:
            if cap is None:
                self._lowered.pop(budget, None)
            else:
                self._lowered[budget] = cap
            self._above.clear()
        self.look()

    def look(self) -> None:
        with self._turn:
            self._look()

    def _look(self) -> None:
        prefix = f"{self.partition_prefix}w:{self.workspace}:"
        found: Any = self.client.eval(self._LOOK, 1, prefix)
        self.looks += 1
        for suffix, total in zip(found[::2], found[1::2], strict=True):
            counter, used = _text(suffix), int(total)
            self.highest[counter] = max(used, self.highest.get(counter, 0))
            budget = counter.split(":")[1]
            cap = self.caps.get(budget)
            if budget in self._lowered:
                cap = max(self._lowered[budget], self._above.get(counter, used))
                self._above[counter] = min(used, cap)
            if cap is not None and used > cap:
                self.breaches.append(f"{counter}: {used} > {cap} ({time.strftime('%H:%M:%S')})")
