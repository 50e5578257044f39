"""Rows of FAULTS.md that the gateway answers for: clients that leave, providers that fail, deploys. The books against the provider's invoice."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from config.stack.process import wait_until
from tests.gateway.world import GatewayProcess, Shop, World


def ask(script: str, *, stream: bool, **more: Any) -> dict[str, Any]:
    return {
        "model": "sim-small",
        "messages": [{"role": "user", "content": f"hi [[sim:{script}]]"}],
        "stream": stream,
        "max_completion_tokens": 200,
        **more,
    }


def post(gateway: GatewayProcess, shop: Shop, body: dict[str, Any], timeout_s: float = 30) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {shop.key}"},
        timeout=timeout_s,
    )


def running(gateway: GatewayProcess) -> subprocess.Popen[bytes]:
    assert gateway.process is not None
    return gateway.process


def being_answered(gateway: GatewayProcess, shop: Shop) -> None:
    """Wait until the provider has begun to generate what is held for."""
    simulator = shop.world.simulator
    wait_until(
        lambda: any(simulator.line_of(rid) for rid in shop.open_holds()),
        timeout_s=20, process=running(gateway), what="a running call",
    )  # fmt: skip


def error_event(answer: httpx.Response) -> dict[str, Any]:
    """The error that ends a stream which was cut."""
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    error: dict[str, Any] = json.loads(events[-1])["error"]
    return error


def books_cover_the_invoice(shop: Shop, *bases: str) -> Any:
    """One attempt was made: it is on the books once, at no less than the invoice (I2, I3, I5), and nothing is held any more (I4)."""
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    invoiced = line.cost_nano if line is not None and line.billed else 0
    assert entry.cost_nano >= invoiced
    assert entry.basis in bases, entry.basis
    if entry.basis == "measured":
        assert entry.cost_nano == invoiced
    assert shop.open_holds() == []
    assert shop.held_nano() == 0
    return entry


# --- F1: clients that leave -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", ["stops_now", "stops_after_k", "full"])
@pytest.mark.parametrize("chunks", [0, 3])
def test_hanging_up_never_dodges_the_bill(gateway: GatewayProcess, shop: Shop, rule: str, chunks: int) -> None:
    body = json.dumps(ask(f"drip gap_ms=30 tokens=60 bills_on_abort={rule}", stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {shop.key}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        seen = b""
        while seen.count(b"data: ") < chunks:
            seen += connection.recv(4096)
        if not chunks:
            being_answered(gateway, shop)
    entry = books_cover_the_invoice(shop, "measured")
    assert entry.error == "client_closed"
    assert entry.cost_nano > 0


def test_a_client_that_closes_right_after_the_end_is_a_success(gateway: GatewayProcess, shop: Shop) -> None:
    with (
        httpx.Client() as client,
        client.stream(
            "POST",
            f"{gateway.url}/v1/chat/completions",
            json=ask("ok", stream=True),
            headers={"authorization": f"Bearer {shop.key}"},
        ) as answer,
    ):
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                break
    assert books_cover_the_invoice(shop, "measured").error == ""


def test_many_hang_ups_at_once_are_all_billed(gateway: GatewayProcess, shop: Shop) -> None:
    def one(_: int) -> None:
        with (
            httpx.Client(timeout=20) as client,
            client.stream(
                "POST",
                f"{gateway.url}/v1/chat/completions",
                json=ask("drip gap_ms=20 tokens=20 bills_on_abort=full", stream=True),
                headers={"authorization": f"Bearer {shop.key}"},
            ) as answer,
        ):
            next(answer.iter_raw())

    with ThreadPoolExecutor(20) as crowd:
        list(crowd.map(one, range(20)))
    entries = shop.entries(20)
    for entry in entries:
        line = shop.world.simulator.line_of(str(entry.rid))
        assert line is not None
        assert entry.cost_nano == line.cost_nano > 0


# --- F4, F6, F7, F8: providers that fail after they were asked --------------------------------------------------------
@pytest.mark.parametrize("script", ["rst-after k=3 gap_ms=20", "cut k=3 gap_ms=20"])
def test_a_stream_that_breaks_off_ends_in_an_error_event_and_is_charged_as_unconfirmed(
    gateway: GatewayProcess, shop: Shop, script: str
) -> None:
    answer = post(gateway, shop, ask(script, stream=True))
    assert answer.status_code == 200
    error = error_event(answer)
    assert (error["code"], error["sluice"]["retry"]) == ("provider_bad_response", False)
    assert books_cover_the_invoice(shop, "assumed").error == "provider_bad_response"


@pytest.mark.parametrize("script", ["rst-after", "cut", "rst-before"])
def test_a_whole_answer_that_breaks_off_is_a_502_and_charged_as_unconfirmed(
    gateway: GatewayProcess, shop: Shop, script: str
) -> None:
    answer = post(gateway, shop, ask(script, stream=False))
    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "false"
    books_cover_the_invoice(shop, "assumed")


@pytest.mark.parametrize("stream", [False, True])
def test_silence_after_the_request_was_sent_is_a_504_that_may_have_been_billed(
    gateway: GatewayProcess, shop: Shop, stream: bool
) -> None:
    started = time.monotonic()
    answer = post(gateway, shop, ask("silent", stream=stream))
    assert time.monotonic() - started < 10  # the limit is 2 s here
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (504, "provider_timeout")
    assert "billed" in error["sluice"]["hint"]
    books_cover_the_invoice(shop, "assumed")


def test_a_stream_that_only_beats_its_heart_meets_the_idle_or_total_limit(world: World, shop: Shop) -> None:
    impatient = world.gateway(SLUICE_TOTAL_SECONDS="3")
    try:
        answer = post(impatient, shop, ask("heartbeat gap_ms=300", stream=True))
        assert error_event(answer)["code"] == "provider_timeout"
        books_cover_the_invoice(shop, "assumed")
    finally:
        impatient.close()


@pytest.mark.parametrize(
    "script,stream",
    [
        ("truncated", False),
        *itertools.product(["html", "json-error-200", "wrong-type", "empty-200", "204", "gzip"], [False, True]),
    ],
)
def test_an_answer_that_is_none_is_a_502_which_leaks_nothing_of_it(
    gateway: GatewayProcess, shop: Shop, script: str, stream: bool
) -> None:
    answer = post(gateway, shop, ask(script, stream=stream))
    assert answer.status_code == 502, answer.text
    error = answer.json()["error"]
    assert error["code"].startswith("provider_")
    assert "<html" not in answer.text.lower()
    books_cover_the_invoice(shop, "assumed")


def test_a_stream_that_closes_before_its_answer_has_ended_says_so(gateway: GatewayProcess, shop: Shop) -> None:
    answer = post(gateway, shop, ask("truncated", stream=True))
    assert error_event(answer)["code"] == "provider_bad_response"
    books_cover_the_invoice(shop, "assumed")


@pytest.mark.parametrize("script", ["gzip-bomb", "br-bomb"])
def test_a_compression_bomb_is_not_unpacked(gateway: GatewayProcess, shop: Shop, script: str) -> None:
    started = time.monotonic()
    assert post(gateway, shop, ask(script, stream=False)).status_code == 502
    assert time.monotonic() - started < 10
    books_cover_the_invoice(shop, "assumed")


def test_a_redirect_is_never_followed(gateway: GatewayProcess, shop: Shop) -> None:
    answer = post(gateway, shop, ask("redirect", stream=False))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "redirect_refused")
    books_cover_the_invoice(shop, "measured", "")


def test_a_provider_that_cannot_be_reached_was_not_asked_and_costs_nothing(
    gateway: GatewayProcess, world: World
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        shop = world.shop(
            provider="openai_compatible", base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1", secret="sk-x"
        )
        answer = post(gateway, shop, ask("ok", stream=True))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["sluice"]["retry"]) == (502, "provider_unreachable", True)
    for entry in shop.entries(3):  # repeated twice
        assert (entry.state, entry.cost_nano) == ("void", 0)
    assert shop.open_holds() == []


def test_a_providers_error_never_echoes_the_key(gateway: GatewayProcess, world: World, echo_upstream: Any) -> None:
    secret = "sk-proj-Very_Secret-0123456789abcdef"
    echo_upstream.status = 401
    message = f"Incorrect API key provided: {secret}. Or was it sk-pr***cdef? gsk_abcdefgh12345678"
    echo_upstream.answered = json.dumps(
        {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key", "param": None}}
    ).encode()
    shop = world.shop(provider="openai_compatible", base_url=echo_upstream.base_url, secret=secret)
    answer = post(gateway, shop, ask("ok", stream=False))
    assert answer.status_code == 401
    assert "Incorrect API key provided" in answer.json()["error"]["message"]
    for leaked in (secret, "sk-pr***cdef", "gsk_abcdefgh12345678"):
        assert leaked not in answer.text


# --- F9, F10: streams and usage of every kind -------------------------------------------------------------------------
@pytest.mark.parametrize(
    "script",
    [
        "sse-crlf",
        "sse-cr",
        "sse-nospace",
        "sse-multiline",
        "sse-comments",
        "sse-no-done",
        "sse-two-dones",
        "sse-after-done",
        "sse-nul",
        "sse-split-utf8",
        "sse-bytes",
        "usage-every-chunk",
        "usage-twice",
    ],
)
def test_every_legal_spelling_of_a_stream_passes_and_is_measured(
    gateway: GatewayProcess, shop: Shop, script: str
) -> None:
    answer = post(gateway, shop, ask(script, stream=True))
    assert answer.status_code == 200
    assert "error" not in answer.text[-400:]
    books_cover_the_invoice(shop, "measured")


def test_a_line_of_ten_megabytes_passes_and_is_not_kept(gateway: GatewayProcess, shop: Shop) -> None:
    answer = post(gateway, shop, ask("sse-huge-line", stream=True))
    assert len(answer.content) > 10_000_000
    books_cover_the_invoice(shop, "measured", "counted")


@pytest.mark.parametrize(
    "script", ["no-usage", "null-usage", "usage-negative", "usage-float", "usage-string", "usage-huge", "usage-zero"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_missing_or_cannot_be_true_is_counted_instead_and_never_below_the_invoice(
    gateway: GatewayProcess, shop: Shop, script: str, stream: bool
) -> None:
    assert post(gateway, shop, ask(script, stream=stream)).status_code == 200
    books_cover_the_invoice(shop, "counted")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_only_thought_and_says_zero_tokens_is_counted(
    gateway: GatewayProcess, shop: Shop, stream: bool
) -> None:
    thoughtful = {**ask("usage-zero", stream=stream), "model": "sim-reasoner", "max_completion_tokens": 16}
    assert post(gateway, shop, thoughtful).status_code == 200
    books_cover_the_invoice(shop, "counted")


def test_a_provider_that_says_more_than_was_allowed_is_recorded_in_full(gateway: GatewayProcess, shop: Shop) -> None:
    assert post(gateway, shop, ask("usage-over-max", stream=False)).status_code == 200
    [entry] = shop.entries(1)
    assert entry.cost_nano > 0


def test_an_error_event_in_a_stream_passes_and_is_on_the_books(gateway: GatewayProcess, shop: Shop) -> None:
    answer = post(gateway, shop, ask("sse-error k=3", stream=True))
    assert '"error"' in answer.text
    assert books_cover_the_invoice(shop, "measured", "counted", "assumed").error


# --- F27: a deploy during streams -------------------------------------------------------------------------------------
def test_a_deploy_lets_streams_finish(world: World, shop: Shop) -> None:
    leaving = world.gateway()
    answers: list[httpx.Response] = []

    def stream() -> None:
        answers.append(post(leaving, shop, ask("drip gap_ms=200 tokens=20", stream=True)))

    threads = [threading.Thread(target=stream) for _ in range(10)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(shop.open_holds()) == 10, timeout_s=20, process=running(leaving), what="ten running calls")
    assert leaving.stop() in (0, -15)
    for thread in threads:
        thread.join(20)
    assert len(answers) == 10
    assert all(answer.text.rstrip().endswith("[DONE]") for answer in answers)
    for entry in shop.entries(10):
        line = world.simulator.line_of(str(entry.rid))
        assert line is not None
        assert entry.cost_nano == line.cost_nano
    leaving.close()


def test_a_stream_that_outlasts_the_grace_is_told_so_and_charged(world: World, shop: Shop) -> None:
    leaving = world.gateway(drain_s=1)
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(post(leaving, shop, ask("drip gap_ms=300 tokens=60", stream=True)))
    )
    thread.start()
    being_answered(leaving, shop)
    leaving.stop()
    thread.join(10)
    assert error_event(answers[0])["code"] == "gateway_restarting"
    assert books_cover_the_invoice(shop, "assumed").error == "gateway_restarting"
    leaving.close()


# --- Load -------------------------------------------------------------------------------------------------------------
def test_more_calls_than_a_gateway_carries_are_told_to_come_back(world: World, shop: Shop) -> None:
    small = world.gateway(SLUICE_MAX_CONCURRENT_CALLS="5")
    try:
        with ThreadPoolExecutor(30) as crowd:
            answers = list(crowd.map(lambda _: post(small, shop, ask("slow first_ms=1500", stream=False)), range(30)))
        busy = [answer for answer in answers if answer.status_code == 503]
        assert len(busy) >= 15
        assert all(
            answer.json()["error"]["code"] == "overloaded" and answer.headers["retry-after"] == "1" for answer in busy
        )
        assert len([answer for answer in answers if answer.status_code == 200]) >= 5
        assert httpx.get(f"{small.url}/healthz").status_code == 200
    finally:
        small.close()


def test_a_gateway_without_its_budget_store_refuses_and_is_not_ready(fragile_world: World) -> None:
    world, shop = fragile_world, fragile_world.shop()
    lonely = world.gateway()
    assert post(lonely, shop, ask("ok", stream=False)).status_code == 200
    world.redis.kill()
    try:
        refused = post(lonely, shop, ask("ok", stream=False))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budget_store_unavailable")
        assert refused.headers["retry-after"]
        assert httpx.get(f"{lonely.url}/readyz").status_code == 503
        assert httpx.get(f"{lonely.url}/healthz").status_code == 200
        assert httpx.get(f"{lonely.url}/v1/models", headers={"authorization": f"Bearer {shop.key}"}).status_code == 200
    finally:
        world.redis.start()
    until = time.monotonic() + 30
    while post(lonely, shop, ask("ok", stream=False)).status_code != 200:
        assert time.monotonic() < until, "it does not heal by itself"
        time.sleep(0.3)
