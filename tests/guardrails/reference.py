"""The scripts in plain Python: what admit, finish, adopt and a rebuild must do, without Redis, without a clock. The model test compares."""

from __future__ import annotations

from dataclasses import dataclass, field

from guardrails.limiter.wire import AdmitRequest

Charge = tuple[str, str, int]


@dataclass
class Record:
    state: str
    amount: int
    charges: list[Charge]
    rates: list[tuple[str, str, int]]


@dataclass
class Event:
    kind: str
    seq: int
    rid: str
    cost: int
    charges: list[Charge]


@dataclass
class Reference:
    state: str = ""
    epoch: int = 0
    seq: int = 0
    ver: int = 0
    counters: dict[str, list[int]] = field(default_factory=dict)
    """suffix -> [settled, held]"""
    lost: set[str] = field(default_factory=set)
    """Counters that are indexed and not there"""
    records: dict[str, Record] = field(default_factory=dict)
    busy: dict[str, set[str]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    """GCRA in a window so long that nothing comes back during a test"""
    events: list[Event] = field(default_factory=list)

    def emit(self, kind: str, rid: str, cost: int, charges: list[Charge]) -> int:
        self.seq += 1
        self.events.append(Event(kind, self.seq, rid, cost, charges))
        return self.seq

    def admit(self, ask: AdmitRequest) -> tuple[object, ...]:  # noqa: C901 - the protocol's list of checks, in its order
        if not self.state:
            return ("NEED_REBUILD",)
        if self.state != "active":
            return ("STATE", self.state)
        if self.epoch > ask.epoch:
            return ("STALE_EPOCH", self.epoch)
        if self.epoch < ask.epoch or self.seq < ask.min_seq:
            return ("ROLLED_BACK",)
        if self.ver > ask.ver:
            return ("STALE_POLICY", self.ver)
        if ask.rid in self.records:
            return ("DUPLICATE",)
        for index, rate in enumerate(ask.rates):
            taken = len(self.busy.get(rate.suffix, ())) if rate.kind == "c" else self.used.get(rate.suffix, 0)
            if taken + (1 if rate.kind == "c" else rate.cost) > (rate.limit if rate.kind == "c" else rate.burst):
                return ("LIMITED", index)
        if any(budget.suffix in self.lost for budget in ask.budgets):
            return ("NEED_REBUILD",)
        for index, budget in enumerate(ask.budgets):
            settled, held = self.counters.get(budget.suffix, (0, 0))
            if budget.limit >= 0 and settled + held + budget.amount > budget.limit:
                return ("DENIED", index, settled, held)
        self.ver = max(self.ver, ask.ver)
        for rate in ask.rates:
            if rate.kind == "c":
                self.busy.setdefault(rate.suffix, set()).add(ask.rid)
            else:
                self.used[rate.suffix] = self.used.get(rate.suffix, 0) + rate.cost
        used = self.hold(ask, [(rate.suffix, rate.kind, rate.cost * rate.corrected) for rate in ask.rates])
        return ("OK", self.seq, used)

    def hold(self, ask: AdmitRequest, rates: list[tuple[str, str, int]]) -> list[int]:
        charges = [(budget.suffix, budget.unit, budget.amount) for budget in ask.budgets]
        for suffix, _, amount in charges:
            self.counters.setdefault(suffix, [0, 0])[1] += amount
        self.records[ask.rid] = Record("H", ask.amount, charges, rates)
        self.emit("hold", ask.rid, 0, charges)
        return [sum(self.counters[suffix]) for suffix, _, _ in charges]

    def adopt(self, ask: AdmitRequest) -> tuple[object, ...]:
        if self.state in ("", "rebuilding", "corrupt"):
            return ("REFUSED",)
        if ask.rid in self.records:
            return ("ALREADY", self.records[ask.rid].state)
        if any(budget.suffix in self.lost for budget in ask.budgets):
            return ("REFUSED",)
        slots = [rate.suffix for rate in ask.rates if rate.kind == "c"]
        for suffix in slots:
            self.busy.setdefault(suffix, set()).add(ask.rid)
        self.hold(ask, [(suffix, "c", 0) for suffix in slots])
        return ("OK", self.seq)

    def finish(self, rid: str, kind: str, cost: int, tokens: int) -> tuple[object, ...]:  # noqa: C901 - one lifecycle on one page
        if self.state in ("", "rebuilding", "corrupt"):
            return ("REFUSED",)
        record = self.records.get(rid)
        if record is None:
            if kind != "void":
                return ("UNKNOWN",)
            self.records[rid] = Record("V", 0, [], [])
            return ("OK", 0, "V")
        truth = {"nano": cost, "tokens": tokens, "calls": 1} if kind != "void" else {"nano": 0, "tokens": 0, "calls": 0}
        if record.state == "X" and kind != "expire":
            deltas = [(suffix, unit, truth[unit] - amount) for suffix, unit, amount in record.charges]
            if any(suffix in self.lost for suffix, _, _ in record.charges):
                return ("REFUSED",)
            for suffix, _, delta in deltas:
                self.counters[suffix][0] += delta
            record.state = "V" if kind == "void" else "S"
            return ("OK", self.emit("adjust", rid, truth["nano"] - record.amount, deltas), record.state)
        if record.state != "H":
            return ("ALREADY", record.state, self.seq)
        if kind == "late":
            return ("OPEN",)
        if any(suffix in self.lost for suffix, _, _ in record.charges):
            return ("REFUSED",)
        charged = [
            (suffix, unit, amount if kind == "expire" else truth[unit]) for suffix, unit, amount in record.charges
        ]
        for (suffix, _, amount), (_, _, charge) in zip(record.charges, charged, strict=True):
            self.counters[suffix][1] -= amount
            self.counters[suffix][0] += charge
        for suffix, rate, counted in record.rates if kind != "expire" else []:
            if rate == "c":
                self.busy[suffix].discard(rid)
            elif counted:
                self.used[suffix] = max(0, self.used[suffix] + (tokens if kind != "void" else 0) - counted)
        record.state = {"settle": "S", "void": "V", "expire": "X"}[kind]
        price = {"settle": cost, "void": 0, "expire": record.amount}[kind]
        return ("OK", self.emit(kind, rid, price, charged), record.state)


def replayed(events: list[Event]) -> tuple[dict[str, list[int]], dict[str, list[Charge]]]:
    """Counters and open holds, from nothing but the stream."""
    counters: dict[str, list[int]] = {}
    open_holds: dict[str, list[Charge]] = {}
    for event in events:
        if event.kind in ("settle", "void", "expire"):
            for suffix, _, amount in open_holds.pop(event.rid, []):
                counters[suffix][1] -= amount
        for suffix, _, amount in event.charges:
            counters.setdefault(suffix, [0, 0])[1 if event.kind == "hold" else 0] += amount
        if event.kind == "hold":
            open_holds[event.rid] = event.charges
    return counters, open_holds
