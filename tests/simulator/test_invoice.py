"""The invoice: written as tokens are generated, exact to the nano-dollar, whoever hangs up."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.catalogue import MODELS
from gateway.simulator.invoice import Book, InvoiceLine, read_invoice, read_lines
from gateway.simulator.tokens import count, pieces
from tests.rig import simulator as rig
from tests.simulator.conftest import chat, raw_call

USD_PER_M = {"sim-small": ("0.15", "0.60"), "sim-large": ("2.50", "10"), "sim-reasoner": ("1.25", "10")}
Billed = Callable[[], InvoiceLine]


@given(
    model=st.sampled_from(sorted(USD_PER_M)),
    uncached=st.integers(0, 200_000),
    cached=st.integers(0, 200_000),
    output=st.integers(0, 200_000),
)
def test_a_cost_is_the_exact_price_rounded_up_once(model: str, uncached: int, cached: int, output: int) -> None:
    usd_in, usd_out = (Fraction(usd) for usd in USD_PER_M[model])
    exact = (uncached * usd_in + cached * usd_in / 2 + output * usd_out) / 10**6 * 10**9
    cost = MODELS[model].cost_nano(input_tokens=uncached + cached, cached_tokens=cached, output_tokens=output)
    assert exact <= cost < exact + 1


@given(st.text())
def test_tokens_never_outnumber_bytes_and_pieces_lose_nothing(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    cut = pieces(text)
    assert "".join(cut) == text
    assert len(cut) <= size
    assert count(size) <= size
    assert all(len(piece.encode("utf-8", "surrogatepass")) <= 4 for piece in cut)


def test_a_plain_call_is_one_final_line_that_agrees_with_its_usage(http: httpx.Client, billed: Billed) -> None:
    usage = http.post("/v1/chat/completions", json=chat(model="sim-large")).json()["usage"]
    line = billed()
    assert (line.input_tokens, line.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert line.cost_nano == 2500 * line.input_tokens + 10_000 * line.output_tokens
    assert (line.model, line.billed, line.script) == ("sim-large", True, "ok")


def test_the_invoice_id_can_be_read_off_the_answer(http: httpx.Client, billed: Billed) -> None:
    answer = http.post("/v1/chat/completions", json=chat())
    assert answer.json()["id"] == "chatcmpl-" + billed().invoice
    assert answer.headers["x-request-id"] == "req_" + billed().invoice


@pytest.mark.parametrize("stream", [False, True])
def test_the_instant_model_is_on_the_invoice_like_any_other(http: httpx.Client, billed: Billed, stream: bool) -> None:
    answer = http.post("/v1/chat/completions", json=chat(model="sim-instant", stream=stream))
    assert "Hell" in answer.text
    assert (billed().input_tokens, billed().output_tokens, billed().cost_nano) == (4, 2, 4 * 150 + 2 * 600)


@pytest.mark.parametrize(
    ("rule", "fewest", "most"),
    [
        ("bills_on_abort=stops_now", 2, 12),
        ("bills_on_abort=stops_after_k k=20", 22, 32),
        ("bills_on_abort=full", 90, 90),
    ],
)
def test_a_client_that_hangs_up_is_billed_by_the_rule(
    simulator: rig.Simulator, attempt: str, billed: Billed, rule: str, fewest: int, most: int
) -> None:
    body = chat(f"[[sim:drip gap_ms=50 tokens=90 {rule}]] go on", stream=True)
    with raw_call(simulator, body, attempt) as connection:
        received = b""
        while received.count(b'"content"') < 3:  # the opening and two tokens
            received += connection.recv(65536)
    line = billed()
    assert fewest <= line.output_tokens <= most
    assert line.billed


def test_a_drip_is_on_the_invoice_while_it_drips(simulator: rig.Simulator, attempt: str) -> None:
    with raw_call(simulator, chat("[[sim:drip gap_ms=30 tokens=400]] go on", stream=True), attempt):
        seen: set[int] = set()
        deadline = time.monotonic() + 5
        while len(seen) < 4 and time.monotonic() < deadline:
            line = simulator.line_of(attempt)
            if line is not None:
                assert not line.final
                seen.add(line.output_tokens)
            time.sleep(0.05)
    assert len(seen) >= 4


def test_a_kill_of_the_simulator_keeps_what_was_generated(tmp_path: Path) -> None:
    with rig.running(tmp_path) as mortal:
        with raw_call(mortal, chat("[[sim:drip gap_ms=20 tokens=400]] go on", stream=True), "killed") as connection:
            received = b""
            while received.count(b'"content"') < 6:
                received += connection.recv(65536)
            mortal.kill()
        line = mortal.line_of("killed")
        assert line is not None
        assert line.output_tokens >= 5
        assert not line.final
        mortal.start()
        assert mortal.totals().cost_nano == line.cost_nano


@pytest.mark.parametrize(("script", "billed_input"), [("500", 0), ("500 bills_errors=yes", 4), ("429", 0)])
def test_an_error_costs_nothing_unless_the_provider_bills_errors(
    http: httpx.Client, billed: Billed, script: str, billed_input: int
) -> None:
    assert http.post("/v1/chat/completions", json=chat(f"[[sim:{script}]] hi"), headers={}).status_code >= 400
    assert billed().billed is bool(billed_input)
    assert bool(billed().cost_nano) is bool(billed_input)
    assert billed().output_tokens == 0


def test_the_provider_that_ignores_the_limit_bills_what_it_said(http: httpx.Client, billed: Billed) -> None:
    answer = http.post("/v1/chat/completions", json=chat(model="sim-small:over-max,k=7", max_tokens=20)).json()
    assert answer["usage"]["completion_tokens"] == billed().output_tokens == 27


def test_embeddings_are_billed_by_their_input(http: httpx.Client, billed: Billed) -> None:
    http.post("/v1/embeddings", json={"model": "sim-embed", "input": "x" * 400})
    assert (billed().input_tokens, billed().cost_nano) == (100, 2000)


def test_a_server_that_bills_aborts_in_full_by_default_says_so_per_process(tmp_path: Path) -> None:
    with rig.running(tmp_path, "--bills-on-abort", "full", "--require-key") as strict:
        with httpx.Client(base_url=strict.address) as client:
            assert client.post("/v1/chat/completions", json=chat()).status_code == 401
            keyed = client.post(
                "/v1/chat/completions", json=chat(model="sim-instant"), headers={"Authorization": "Bearer k"}
            )
            assert keyed.status_code == 200


def test_the_totals_equal_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "invoice.jsonl"
    book = Book(path)
    for output in (10, 20):
        bill = book.open(attempt="a", model=MODELS["sim-small"], script="ok", input_tokens=5, cached_tokens=0)
        bill.record(1)
        bill.record(output, final=True)
        bill.record(99, final=True)  # too late: the response has ended
    book.open(attempt=None, model=MODELS["sim-small"], script="500", input_tokens=5, cached_tokens=0).record(
        0, final=True, billed=False
    )
    book.close()
    state = read_invoice(path)
    assert [line.output_tokens for line in state] == [10, 20, 0]
    assert len(list(read_lines(path))) == 5
    assert book.totals.cost_nano == sum(line.cost_nano for line in state) == 2 * 5 * 150 + 30 * 600
    assert (book.totals.requests, book.totals.billed, book.totals.open) == (3, 2, 0)


def test_half_a_line_left_by_a_power_cut_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "invoice.jsonl"
    first = Book(path)
    first.open(attempt="a", model=MODELS["sim-small"], script="ok", input_tokens=5, cached_tokens=0).record(
        3, final=True
    )
    first.close()
    path.write_bytes(path.read_bytes() + b'{"invoice":"inv_torn')
    assert [line.attempt for line in read_invoice(path)] == ["a"]
    second = Book(path, fsync_ms=1)
    second.open(attempt="b", model=MODELS["sim-small"], script="ok", input_tokens=5, cached_tokens=0).record(
        3, final=True
    )
    second.close()
    assert [line.attempt for line in read_invoice(path)] == ["a", "b"]
