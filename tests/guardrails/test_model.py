"""The scripts against the reference: the same steps on a real server and on plain Python must give the same answers and the same books."""

from __future__ import annotations

import json
import time
from typing import Any

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from billing.domain import keys
from guardrails.domain.periods import FOREVER_MS
from guardrails.limiter import control, scripts, store
from guardrails.limiter.wire import NO_LIMIT, AdmitRequest, CounterAsk, FinishRequest, RateAsk, RenewRequest, encode
from tests.guardrails.reference import Event, Reference, replayed
from tests.rig.effort import examples
from workspaces.ids import uuid7

W = 42
PREFIX = keys.partition_prefix(keys.partition_of(W))
STREAM = keys.stream_key(keys.partition_of(W))
BUDGETS = [keys.counter_suffix(f"0000000{n}-0000-7000-8000-000000000000", 0) for n in range(4)]
EACH = [keys.counter_suffix("0000000a-0000-7000-8000-000000000000", 0, keys.value_digest(value)) for value in "xyz"]
UNITS = dict(zip(BUDGETS, ("nano", "tokens", "calls", "nano"), strict=True)) | dict.fromkeys(EACH, "nano")
LIMITS = dict(zip(BUDGETS, (1000, 900, 12, NO_LIMIT), strict=True)) | dict.fromkeys(EACH, 400)
HOUR_US = 3_600_000_000 * 1000
RATES = [
    RateAsk(keys.rate_suffix("000000ff-0000-7000-8000-000000000000", "rph"), "g", 30, HOUR_US, 30, 1, 0),
    RateAsk(keys.rate_suffix("000000ff-0000-7000-8000-000000000000", "tpm"), "g", 2000, HOUR_US, 2000, 100, 1),
    RateAsk(keys.rate_suffix("000000ff-0000-7000-8000-000000000000", "concurrency"), "c", 5),
]

_server: dict[str, str] = {}


class Scripts(RuleBasedStateMachine):
    rids = Bundle("rids")

    def __init__(self) -> None:
        super().__init__()
        self.store: Any = redis.Redis.from_url(_server["url"], protocol=2)
        self.store.flushdb()
        self.model = Reference()
        self.asked: dict[str, AdmitRequest] = {}

    def run(self, script: scripts.Script, *arguments: bytes | int) -> list[Any]:
        return store.call_sync(self.store, script, STREAM, arguments)

    @initialize()
    def seeded(self) -> None:
        self.rebuild()

    @rule(
        target=rids,
        budgets=st.lists(st.sampled_from([*BUDGETS, *EACH]), unique=True, max_size=5),
        amount=st.integers(0, 300),
        rates=st.lists(st.sampled_from(RATES), unique_by=lambda rate: rate.suffix, max_size=3),
        older=st.sampled_from([0, 0, 0, 0, 1, -1]),
        batch=st.integers(1, 3),
    )
    def admit(self, budgets: list[str], amount: int, rates: list[RateAsk], older: int, batch: int) -> Any:
        asks = []
        for _ in range(batch):
            counters = [
                CounterAsk(
                    suffix, UNITS[suffix], 1 if UNITS[suffix] == "calls" else amount, LIMITS[suffix], 0, FOREVER_MS
                )
                for suffix in budgets
            ]
            asks.append(
                AdmitRequest(
                    PREFIX, str(W), str(uuid7()), self.model.epoch, max(0, self.model.ver - older), self.model.seq, amount, 600_000,
                    '{"call":"c","key":"k","provider":"p","model":"m","endpoint":"e"}', counters, list(rates),
                )
            )  # fmt: skip
        replies = self.run(scripts.ADMIT, time.time_ns() // 1_000_000, 85, *[encode(ask) for ask in asks])
        for ask, reply in zip(asks, replies, strict=True):
            self.asked[ask.rid] = ask
            self.same_admit(reply, self.model.admit(ask))
        return multiple(*[ask.rid for ask in asks])

    def same_admit(self, reply: list[Any], expected: tuple[Any, ...]) -> None:
        code = reply[0].decode()
        assert code == expected[0], (reply, expected)
        if code == "OK":
            assert [reply[1], reply[3]] == [expected[1], expected[2]]
        elif code == "DENIED":
            index = reply[1] - 1
            assert (index, reply[3][index], reply[4][index]) == expected[1:]
        elif code == "LIMITED":
            assert reply[1] - 1 == expected[1]
        elif code in ("STALE_POLICY", "STALE_EPOCH"):
            assert reply[1] == expected[1]
        elif code == "STATE":
            assert reply[1].decode() == expected[1]

    @rule(
        rid=rids,
        kind=st.sampled_from(["settle", "settle", "void", "expire", "late"]),
        cost=st.integers(0, 400),
        tokens=st.integers(0, 400),
        times=st.integers(1, 2),
    )
    def finish(self, rid: str, kind: str, cost: int, tokens: int, times: int) -> None:
        request = encode(
            FinishRequest(PREFIX, str(W), rid, kind, cost, tokens, 1, '{"basis":"measured","price_status":"exact"}')
        )
        for reply in self.run(scripts.FINISH, *[request] * times):
            self.same_finish(reply, self.model.finish(rid, kind, cost, tokens))

    def same_finish(self, reply: list[Any], expected: tuple[Any, ...]) -> None:
        code = reply[0].decode()
        if expected[0] == "REFUSED":
            assert code in ("NEED_REBUILD", "STATE"), reply
        else:
            said = [part.decode() if isinstance(part, bytes) else part for part in reply]
            assert said == list(expected)

    @rule(rid=consumes(rids))
    def void_comes_before_its_admit(self, rid: str) -> None:
        late = str(uuid7())
        self.finish(late, "void", 0, 0, 1)
        ask = self.asked[rid]
        again = AdmitRequest(
            PREFIX,
            str(W),
            late,
            self.model.epoch,
            self.model.ver,
            0,
            ask.amount,
            600_000,
            ask.ctx,
            ask.budgets,
            ask.rates,
        )
        (reply,) = self.run(scripts.ADMIT, time.time_ns() // 1_000_000, 85, encode(again))
        self.same_admit(reply, self.model.admit(again))

    @rule(rid=rids)
    def adopt(self, rid: str) -> None:
        (reply,) = self.run(scripts.ADOPT, encode(self.asked[rid]))
        expected = self.model.adopt(self.asked[rid])
        if expected[0] == "REFUSED":
            assert reply[0] in (b"NEED_REBUILD", b"STATE")
        else:
            assert reply[0].decode() == expected[0]

    @rule(rid=rids)
    def renew(self, rid: str) -> None:
        (reply,) = self.run(scripts.RENEW, encode(RenewRequest(PREFIX, str(W), rid, 600_000)))
        record = self.model.records.get(rid)
        assert reply[0] == (b"UNKNOWN" if record is None else b"OK" if record.state == "H" else b"ALREADY")

    @rule(rid=rids)
    def admit_under_an_old_or_future_fence(self, rid: str) -> None:
        for epoch, min_seq in (
            (self.model.epoch - 1, 0),
            (self.model.epoch + 1, 0),
            (self.model.epoch, self.model.seq + 1),
        ):
            ask = AdmitRequest(PREFIX, str(W), str(uuid7()), epoch, self.model.ver, min_seq, 1, 600_000, "{}", [], [])
            (reply,) = self.run(scripts.ADMIT, time.time_ns() // 1_000_000, 85, encode(ask))
            self.same_admit(reply, self.model.admit(ask))

    @rule(skew_ms=st.sampled_from([-5_600, 5_600, 3_600_000, -40 * 86_400_000]))
    def a_clock_that_jumped_admits_nothing(self, skew_ms: int) -> None:
        if self.model.state == "active":
            ask = AdmitRequest(
                PREFIX, str(W), str(uuid7()), self.model.epoch, self.model.ver, 0, 1, 600_000, "{}", [], []
            )
            (reply,) = self.run(scripts.ADMIT, time.time_ns() // 1_000_000 + skew_ms, 85, encode(ask))
            assert reply[0] == b"CLOCK_SKEW"

    @rule(ver=st.integers(0, 5), state=st.sampled_from(["active", "active", "suspended"]))
    def push(self, ver: int, state: str) -> None:
        ver += self.model.ver - 2
        control.push_policy(self.store, W, ver, state)
        if ver >= self.model.ver:
            self.model.ver, self.model.state = ver, state

    @precondition(lambda self: self.model.counters)
    @rule(data=st.data())
    def lose_a_counter(self, data: st.DataObject) -> None:
        suffix = data.draw(st.sampled_from(sorted(self.model.counters)))
        self.store.delete(keys.workspace_prefix(W) + suffix)
        self.model.lost.add(suffix)

    @rule()
    def rebuild(self) -> None:
        """From the stream alone, as the ledger would, and the slots from those who run. Other rates are not money: their attempts forget them."""
        counters, open_holds = replayed(self.stream())
        epoch = self.model.epoch + 1
        control.begin_rebuild(self.store, W, epoch)
        control.wipe(self.store, W, epoch)
        seeds = [control.SeedCounter(suffix, settled, held, FOREVER_MS) for suffix, (settled, held) in counters.items()]
        holds = [
            control.SeedHold(
                rid,
                self.model.records[rid].amount,
                charges,
                "{}",
                0,
                600_000,
                [suffix for suffix, kind, _ in self.model.records[rid].rates if kind == "c"],
            )
            for rid, charges in open_holds.items()
        ]
        for _ in range(2):  # a repeated chunk changes nothing
            control.seed(self.store, W, epoch, seeds, holds)
        ver = self.model.ver
        control.commit_rebuild(
            self.store, W, epoch=epoch, seq=self.model.seq, ver=ver, state="active", counters=len(seeds)
        )
        self.model.epoch, self.model.state, self.model.lost = epoch, "active", set()
        for record in self.model.records.values():
            if record.state == "H":
                record.rates = [rate for rate in record.rates if rate[1] == "c"]

    @rule()
    def an_older_rebuilder_is_refused(self) -> None:
        for step in (
            lambda: control.begin_rebuild(self.store, W, self.model.epoch),
            lambda: control.seed(
                self.store, W, self.model.epoch, [control.SeedCounter(BUDGETS[0], 0, 0, FOREVER_MS)], []
            ),
            lambda: control.commit_rebuild(
                self.store, W, epoch=self.model.epoch, seq=0, ver=0, state="active", counters=0
            ),
        ):
            try:
                step()
            except control.Refused:
                continue
            raise AssertionError("a rebuild of an old epoch was accepted")

    @invariant()
    def the_books_are_equal(self) -> None:
        meta = control.read_meta(self.store, W)
        if meta is None:
            return
        assert (meta.state, meta.epoch, meta.seq, meta.ver) == (
            self.model.state,
            self.model.epoch,
            self.model.seq,
            self.model.ver,
        )
        found = {
            counter.suffix: [counter.settled, counter.held] for counter in control.read_counters(self.store, W).values()
        }
        assert {s: v for s, v in found.items() if s not in self.model.lost} == {
            s: v for s, v in self.model.counters.items() if s not in self.model.lost and s in found
        }
        assert not any(any(v) for s, v in self.model.counters.items() if s not in found and s not in self.model.lost)
        assert meta.counters == len(found)
        assert set(control.open_holds(self.store, W)) == {
            rid for rid, record in self.model.records.items() if record.state == "H"
        }

    @invariant()
    def replaying_the_stream_gives_the_counters(self) -> None:
        events = self.stream()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [(event.kind, event.rid, event.cost, event.charges) for event in events] == [
            (event.kind, event.rid, event.cost, event.charges) for event in self.model.events
        ]
        counters, open_holds = replayed(events)
        assert counters == self.model.counters
        assert set(open_holds) == {rid for rid, record in self.model.records.items() if record.state == "H"}

    def stream(self) -> list[Event]:
        return [
            Event(
                f[b"k"].decode(), int(f[b"q"]), f[b"r"].decode(), int(f[b"c"]), [tuple(c) for c in json.loads(f[b"b"])]
            )
            for _, f in self.store.xrange(STREAM)
        ]

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.tries
def test_the_scripts_do_what_the_reference_does(money_redis_url: str) -> None:
    _server["url"] = money_redis_url
    machine = Scripts.TestCase
    machine.settings = settings(
        max_examples=examples(50, one_in=4),
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()
