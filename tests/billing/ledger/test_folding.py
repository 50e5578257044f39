"""What a ledger line keeps in few bytes is what it was given: for every entry that the domain can make."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.domain import pricing
from billing.domain.keys import counter_suffix, value_digest
from billing.ledger import folding
from tests.rig.effort import examples

BIG = 2**62
words = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.sampled_from(["input_uncached", "cache_read", "cache_write_5m", "output_text", "seconds", "pages"]) | words
counts = st.integers(0, 20_000) | st.integers(-5, BIG)
rates = st.sampled_from(["0.15", "2.5", "10", "0.000075", "1e3", "", "12345678901234"])


@st.composite
def price_lines(draw: st.DrawFn, usage: dict[str, int]) -> dict[str, str | int]:
    """As the price book writes them, and as it does not."""
    unit = draw(st.sampled_from(sorted(usage)) if usage else names) if draw(st.booleans()) else draw(names)
    line: dict[str, str | int] = {"unit": unit, "quantity": usage.get(unit, 7) if draw(st.booleans()) else draw(counts)}
    line[draw(st.sampled_from(["rate_per_m_usd", "rate_usd"]))] = draw(rates)
    if draw(st.booleans()):
        line["per"] = draw(counts)
    line["cost_usd"] = draw(st.just(folding._product(line) or "0") | st.sampled_from(["0", "0.00015", "1e-9"]) | words)
    return line


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
ids = (
    st.sampled_from(["", "-", "_", "a-", "chatcmpl-", "req_0", "msg_01XAbc-_"])
    | words
    | st.from_regex(r"\A(chatcmpl-|req_|gen-1-)?[0-9a-f]{0,40}\Z")
    | st.from_regex(r"\A(msg_|resp_)?[0-9A-Za-z_-]{0,140}\Z")
)


@st.composite
def lines(draw: st.DrawFn) -> dict[str, Any]:
    usage = draw(st.dictionaries(names, counts, max_size=4))
    told = {
        "usage": usage,
        "fees": draw(st.dictionaries(names, counts, max_size=2)),
        "breakdown": draw(st.lists(price_lines(usage), max_size=3)),
        "context": draw(st.dictionaries(words, words, max_size=2)),
        "raw_usage": draw(words | json_values.map(lambda value: msgspec.json.encode(value).decode())),
        "provider_request_id": draw(ids),
    }
    return {
        "fields": (
            draw(st.integers(1, 32_767)), draw(words), draw(words), draw(words), draw(words), draw(st.booleans()),
            draw(st.integers(0, 2**31 - 1)), draw(words), draw(words), tuple(draw(st.lists(words, max_size=2))),
        ),
        "told": {name: value for name, value in told.items() if value},
        "times": (draw(st.integers(-(10**9), 10**12)), draw(st.integers(0, BIG)), *draw(st.tuples(*[st.none() | st.integers(0, 2**31 - 1)] * 3))),
        "fingerprint": draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
    }  # fmt: skip


def through_json(pattern: folding.Pattern) -> Any:
    return folding.pattern_of(folding.body_of(pattern)[0])


@given(lines())
@settings(max_examples=examples(300, one_in=8), deadline=None)
def test_what_a_line_was_told_comes_back_unchanged(line: dict[str, Any]) -> None:
    shape, tail = folding.fold(line["fields"], line["told"], times=line["times"], fingerprint=line["fingerprint"])
    found = folding.unfold(through_json(shape), tail)
    later, seq, *times = line["times"]
    assert tuple(found[name] for name in folding.FIELDS[:-1]) == line["fields"][:-1]
    assert tuple(found["flags"]) == line["fields"][-1]
    assert found["told"] == line["told"]
    assert [list(one) for one in found["told"].get("breakdown", [])] == [
        list(one) for one in line["told"].get("breakdown", [])
    ]
    assert (found["later_ms"], found["seq"]) == (later, seq)
    assert [found["first_byte_ms"], found["duration_ms"], found["overhead_us"]] == times
    assert found["fingerprint"] == line["fingerprint"]


dims = st.lists(st.sampled_from(["", "acme", "globex", "chat", "__other__"]) | words, min_size=11, max_size=11)
BUDGET = "0198c0de-0000-7000-8000-0000000000ff"


@given(st.data(), dims, st.dictionaries(words, words, max_size=2), st.integers(-BIG, BIG))
@settings(max_examples=examples(300, one_in=8), deadline=None)
def test_what_a_line_charged_comes_back_unchanged(
    data: st.DataObject, dims: list[str], tags: dict[str, str], cost: int
) -> None:
    usage = {"input_uncached": 7, "output_text": 3}
    digests = st.sampled_from([value_digest(one) for one in ("__other__", "elsewhere", *dims, *tags.values())])
    counters = st.builds(counter_suffix, st.just(BUDGET), st.integers(0, 10**13), st.just("") | digests) | words
    charges = data.draw(
        st.lists(
            st.tuples(counters, st.sampled_from(["nano", "tokens", "calls"]), st.just(cost) | st.just(10) | st.integers(-BIG, BIG)),
            max_size=4,
        )
    )  # fmt: skip
    plan, own = folding.fold_charges(charges, cost_nano=cost, usage=usage, dims=dims, tags=tags)
    reader = folding.Reader(own + b"after")
    found = folding.unfold_charges(through_json(plan), reader, cost_nano=cost, dims=dims, tags=tags)
    found = folding.with_usage(found, usage)
    assert [tuple(one) for one in found] == charges
    assert reader.rest() == b"after"


@given(lines())
@settings(max_examples=examples(50), deadline=None)
def test_a_line_can_carry_its_own_patterns(line: dict[str, Any]) -> None:
    shape, tail = folding.fold(line["fields"], line["told"], times=line["times"], fingerprint=line["fingerprint"])
    plan = (("b:x:1", "nano", None, "cost"),)
    kept = folding.opened(folding.detail_with_patterns(shape, plan, b"", tail), None, None)
    apart = folding.opened(folding.detail(b"", tail), *(folding.body_of(one)[0] for one in (shape, plan)))
    for found_shape, found_plan, reader in (kept, apart):
        assert found_plan == [["b:x:1", "nano", None, "cost"]]
        assert folding.unfold(found_shape, reader.rest())["told"] == line["told"]


def test_bytes_that_are_no_detail_are_told_apart() -> None:
    for raw in (b"\x02", b"\x09abc", b""):
        with pytest.raises((ValueError, IndexError)):
            folding.opened(raw, None, None)


def test_an_ordinary_line_is_few_bytes() -> None:
    usage = {"input_uncached": 1200, "cache_read": 640, "output_text": 310}
    told = {
        "usage": usage,
        "breakdown": [{"unit": "output_text", "quantity": 310, "rate_per_m_usd": "0.6", "cost_usd": "0.000186"}],
        "raw_usage": '{"prompt_tokens": 1840, "completion_tokens": 310, "total_tokens": 2150, "details": {"cached_tokens": 640, "audio_tokens": 0}}',
        "provider_request_id": "chatcmpl-BZ7ysYHk9cyXEsDJ3nNo3ux8lN4Z0",
    }
    fields = (1, "", "", "gpt-4o", "/v1/chat/completions", False, 200, "", "2026-11-20", ())
    shape, tail = folding.fold(fields, told, times=(900, 1_000_000, 250, 1000, 600), fingerprint=5)
    assert len(tail) < 64
    assert folding.unfold(through_json(shape), tail)["told"] == told


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 9))
@settings(max_examples=examples(100), deadline=None)
def test_a_price_lines_cost_is_calculated_again_as_the_price_book_wrote_it(
    quantity: int, rate: int, places: int
) -> None:
    printed = format(Decimal(rate).scaleb(-places), "f")
    written = pricing._nano_text(quantity * rate * 1000, 10**places)
    assert folding._product({"quantity": quantity, "rate_per_m_usd": printed}) == written
