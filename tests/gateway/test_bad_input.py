"""Requests that cannot be calls: each gets OpenAI's error shape, quickly, and nothing of it reaches a provider or the books."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.world import GatewayProcess, Shop
from workspaces import actions

GOOD: dict[str, Any] = {"model": "sim-small", "messages": [{"role": "user", "content": "hi"}]}


def post(gateway: GatewayProcess, key: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
    named = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {}), **headers}
    return httpx.post(f"{gateway.url}/v1/chat/completions", content=content, headers=named, timeout=30)


def check(answer: httpx.Response, status: int, code: str = "") -> dict[str, Any]:
    """The error of an answer, after seeing that it has the shape that DESIGN section 6 promises."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param", "sluice"}
    assert error["message"]
    assert error["sluice"]["hint"]
    assert answer.headers["x-request-id"] == error["sluice"]["call_id"]
    assert answer.headers["content-type"] == "application/json"
    if code:
        assert error["code"] == code
    return error


@pytest.fixture
def untouched(shop: Shop) -> Iterator[Shop]:
    """A shop whose test must leave no trace at the provider or in the books."""
    before = shop.world.simulator.totals()
    yield shop
    assert shop.world.simulator.totals() == before
    assert shop.booked() == []
    assert shop.open_holds() == []


# --- Keys -------------------------------------------------------------------------------------------------------------
def test_no_malformed_unknown_or_revoked_key_is_a_401_that_does_not_tell_which(
    gateway: GatewayProcess, untouched: Shop
) -> None:
    shop = untouched
    wrong_secret = shop.key[:-8] + ("A" if shop.key[-8] != "A" else "B") + shop.key[-7:]
    revoked = shop.do(actions.create_virtual_key, name="old")
    shop.do(actions.revoke_virtual_key, key_id=revoked.row.id)
    for key in (
        "",
        "slk_",
        "sk-proj-abc",
        shop.key[:-1],
        shop.key + "x",
        wrong_secret,
        shop.key.upper(),
        revoked.text,
        "slk_" + "A" * 12 + "_" + "B" * 49,
    ):
        error = check(post(gateway, key, GOOD), 401, "invalid_api_key")
        assert key == "" or key not in error["message"]
    assert check(post(gateway, "", GOOD, authorization=f"Basic {shop.key}"), 401)


def test_a_revoked_key_is_refused_on_the_very_next_call(gateway: GatewayProcess, shop: Shop) -> None:
    minted = shop.do(actions.create_virtual_key, name="leaked")
    assert post(gateway, minted.text, GOOD).status_code == 200
    shop.do(actions.revoke_virtual_key, key_id=minted.row.id)
    check(post(gateway, minted.text, GOOD), 401)
    assert httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {minted.text}"}).status_code == 401
    assert post(gateway, shop.key, GOOD).status_code == 200


def test_a_paused_key_is_refused_on_the_very_next_call_and_passes_again_when_it_is_resumed(
    gateway: GatewayProcess, shop: Shop
) -> None:
    minted = shop.do(actions.create_virtual_key, name="looping")
    assert post(gateway, minted.text, GOOD).status_code == 200
    shop.do(actions.pause_virtual_key, key_id=minted.row.id)
    check(post(gateway, minted.text, GOOD), 401)
    shop.do(actions.resume_virtual_key, key_id=minted.row.id)
    deadline = time.monotonic() + 5  # the gateway reads a refused key again at most every quarter of a second
    while post(gateway, minted.text, GOOD).status_code != 200:
        assert time.monotonic() < deadline


def test_whatever_stands_in_the_authorization_header_is_a_401_and_never_an_error_of_ours(
    gateway: GatewayProcess,
) -> None:
    rng = random.Random(5)
    alphabet = [bytes([n]) for n in range(0x20, 0x100) if n != 0x7F]
    fixed = [
        b"",
        b"Bearer",
        b"Bearer ",
        b"bearer \xff",
        b"Bearer slk_'; DROP TABLE--",
        b"Bearer " + b"x" * 10_000,
        b"Digest a=b",
        b"Bearer \xf0\x9f\x98\x80",
        b'Bearer "',
    ] + [b"Bearer slk_" + b"0" * n for n in (11, 12, 13, 61, 62, 63)]
    noise = [b"".join(rng.choices(alphabet, k=rng.randrange(1, 90))) for _ in range(400)]
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection,
        connection.makefile("rb") as answers,
    ):
        for value in fixed + noise + [b"Bearer " + item for item in noise]:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: " + value.strip() + b"\r\n\r\n")
            status = int(answers.readline().split()[1])
            length = 0
            while (line := answers.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            answers.read(length)
            assert status == 401, value


def test_a_key_in_the_address_is_refused_and_written_nowhere(gateway: GatewayProcess, untouched: Shop) -> None:
    for query in (f"api_key={untouched.key}", f"key={untouched.key}", f"x={untouched.key}", "token=abc"):
        answer = httpx.post(
            f"{gateway.url}/v1/chat/completions?{query}",
            json=GOOD,
            headers={"authorization": f"Bearer {untouched.key}"},
        )
        assert untouched.key not in json.dumps(check(answer, 400, "key_in_url"))
    assert untouched.key not in Path(gateway.log).read_text()


# --- Bodies -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"hi"',
        b"{'model': 'x'}",
        b'{"model":"a","model":"b"}',
        b'{"n":NaN}',
        b'{"n":1e999}',
        b'{"x":"\\ud800"}',
        b"\xff\xfe{}",
        b"[" * 10_000,
        b'{"a":' * 10_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_json_is_a_400(gateway: GatewayProcess, untouched: Shop, body: bytes) -> None:
    check(post(gateway, untouched.key, body), 400, "invalid_json")


@pytest.mark.parametrize(
    "change,code,param",
    [
        ({"model": None}, "missing_model", "model"),
        ({"model": 5}, "missing_model", "model"),
        ({"model": ""}, "missing_model", "model"),
        ({"model": "sim\nsmall"}, "invalid_model", "model"),
        ({"model": "x" * 300}, "invalid_model", "model"),
        ({"model": "sim small"}, "invalid_model", "model"),
        ({"messages": []}, "invalid_messages", "messages"),
        ({"messages": "hi"}, "invalid_messages", "messages"),
        ({"messages": None}, "invalid_messages", "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 2001}, "too_many_messages", "messages"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stream_options": {"include_usage": "no"}}, "invalid_type", "stream_options"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": -1}, "invalid_value", "n"),
        ({"n": 10**18}, "invalid_value", "n"),
        ({"n": 1.5}, "invalid_value", "n"),
        ({"n": True}, "invalid_value", "n"),
        ({"n": "2"}, "invalid_value", "n"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": -5}, "invalid_value", "max_tokens"),
        ({"max_tokens": 10**18}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": 1.5}, "invalid_value", "max_completion_tokens"),
        ({"max_completion_tokens": "9"}, "invalid_value", "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "invalid_value", None),
        *[
            ({name: "http://169.254.169.254"}, "field_not_allowed", name)
            for name in ("api_base", "base_url", "api_key", "organization", "extra_headers", "proxy")
        ],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_field_that_cannot_be_meant_is_a_400_that_names_it(
    gateway: GatewayProcess, untouched: Shop, change: dict[str, Any], code: str, param: str | None
) -> None:
    error = check(post(gateway, untouched.key, {**GOOD, **change}), 400, code)
    assert param is None or error["param"] == param


def test_another_media_type_or_a_compressed_body_is_a_415(gateway: GatewayProcess, untouched: Shop) -> None:
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
    ):
        check(post(gateway, untouched.key, GOOD, **headers), 415, "unsupported_media_type")
    for coding in ("gzip", "br", "zstd", "deflate", "gzip, gzip"):
        check(post(gateway, untouched.key, GOOD, **{"content-encoding": coding}), 415, "unsupported_content_encoding")


def endless() -> Iterator[bytes]:
    for _ in range(4096):
        yield b'{"a":"' + b"x" * 65_536


def test_a_body_over_the_limit_is_a_413_at_once_whether_it_says_its_length_or_not(
    gateway: GatewayProcess, untouched: Shop
) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {untouched.key}\r\ncontent-length: 1000000000\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - started < 2  # 100 ms on an idle machine
    check(post(gateway, untouched.key, b'{"model":"' + b"x" * 10_485_760), 413, "request_too_large")
    check(post(gateway, untouched.key, endless()), 413, "request_too_large")


def test_fifty_huge_bodies_at_once_do_not_grow_the_process(gateway: GatewayProcess, untouched: Shop) -> None:
    def resident() -> int:
        assert gateway.process is not None
        return int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * 4096

    before = resident()
    with ThreadPoolExecutor(25) as crowd:
        answers = list(crowd.map(lambda _: post(gateway, untouched.key, endless()).status_code, range(50)))
    assert set(answers) == {413}
    assert resident() - before < 50 * 2 * 10_485_760


# --- Models -----------------------------------------------------------------------------------------------------------
def test_an_unknown_model_is_a_404_that_names_near_ones(gateway: GatewayProcess, untouched: Shop) -> None:
    error = check(post(gateway, untouched.key, {**GOOD, "model": "sim-smal"}), 404, "model_not_found")
    assert "sim-small" in error["message"]
    assert error["sluice"]["near"][0] == "sim-small"
    check(post(gateway, untouched.key, {**GOOD, "model": "gpt-4o"}), 404, "model_not_found")
    check(post(gateway, untouched.key, {**GOOD, "model": "openai/gpt-4o"}), 404, "provider_not_configured")


def test_a_key_calls_and_lists_only_the_models_it_may(gateway: GatewayProcess, shop: Shop) -> None:
    key = shop.new_key(allowed_models=["sim-small"])
    check(post(gateway, key, {**GOOD, "model": "sim-large"}), 403, "model_not_allowed")
    check(post(gateway, key, {**GOOD, "model": "simulator/sim-large"}), 403, "model_not_allowed")
    assert post(gateway, key, GOOD).status_code == 200
    listed = httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {key}"}).json()["data"]
    assert [model["id"] for model in listed] == ["sim-small"]


def test_a_workspace_without_credentials_is_told_so(gateway: GatewayProcess, shop: Shop) -> None:
    empty = shop.world.shop(credential=False)
    check(post(gateway, empty.key, GOOD), 404, "provider_not_configured")
    assert httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {empty.key}"}).json() == {
        "object": "list",
        "data": [],
    }
