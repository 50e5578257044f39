"""Every script does on the wire what its line in the table says, and the invoice knows what it cost."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.simulator.invoice import InvoiceLine
from gateway.simulator.scripts import SCRIPTS, BadScript, choose, parse
from tests.rig.simulator import Simulator
from tests.simulator.conftest import chat, raw_call, read_all

Billed = Callable[[], InvoiceLine]


def post(http: httpx.Client, script: str, **more: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json=chat(f"[[sim:{script}]] Say hello", **more))


def events(text: str) -> list[dict[str, Any]]:
    """A tolerant reader of server-sent events, by the standard."""
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("data:"):
            lines.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and lines:
            whole, lines = "\n".join(lines), []
            if whole != "[DONE]":
                found.append(json.loads(whole))
    return found


def test_a_script_is_found_in_header_message_metadata_and_model_in_this_order() -> None:
    def chosen(**given: Any) -> str:
        empty: dict[str, Any] = {"header": "", "user_text": "hi", "metadata": None, "model_script": "", "defaults": {}}
        return choose(**{**empty, **given})[0].name

    assert chosen(model_script="drip") == "drip"
    assert chosen(model_script="drip", metadata={"sim": "slow"}) == "slow"
    assert chosen(model_script="drip", metadata={"sim": "slow"}, user_text="a [[sim:cut]] b") == "cut"
    assert chosen(model_script="drip", user_text="a [[sim:cut]] b", header="html") == "html"
    assert chosen() == "ok"


def test_options_are_typed_and_unknown_ones_refused() -> None:
    script = parse("drip gap_ms=5;bills_on_abort=full,obeys_max_tokens=no", {})
    assert (script.gap_ms, script.bills_on_abort, script.obeys_max_tokens) == (5, "full", False)
    assert parse("tokens=9", {"seed": 4}).seed == 4
    for bad in ("dripp", "drip gap_ms=x", "drip colour=red", "drip bills_on_abort=never", "drip gap_ms=-1"):
        with pytest.raises(BadScript, match="there are"):
            parse(bad, {})


@pytest.mark.parametrize("model", ["sim-small:html", "fake-html"])
def test_the_models_name_can_carry_the_script(http: httpx.Client, model: str) -> None:
    assert http.post("/v1/chat/completions", json=chat(model=model)).headers["content-type"] == "text/html"


def test_metadata_and_header_can_carry_the_script(http: httpx.Client) -> None:
    by_body = http.post("/v1/chat/completions", json=chat(metadata={"sim": "503"}))
    by_header = http.post("/v1/chat/completions", json=chat(), headers={"X-Sim-Script": "503"})
    assert (by_body.status_code, by_header.status_code) == (503, 503)


def test_an_unknown_script_is_a_clear_error(http: httpx.Client) -> None:
    answer = post(http, "wobble")
    assert answer.status_code == 400
    assert "there are: ok" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("null-usage", None),
        ("usage-zero", 0),
        ("usage-huge", 10**18),
        ("usage-string", "str"),
        ("usage-float", "float"),
        ("usage-negative", "negative"),
        ("usage-over-max", "over"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_spoiled_and_the_invoice_is_not(
    http: httpx.Client, billed: Billed, script: str, expected: Any, stream: bool
) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = post(http, script, max_tokens=8, **options)
    body = events(answer.text)[-1] if stream else answer.json()
    output = body["usage"]["completion_tokens"] if body["usage"] is not None else None
    truth = billed().output_tokens
    assert truth == 8
    check = {"str": output == str(truth), "float": output == truth + 0.5}
    check |= {"negative": isinstance(output, int) and output < 0, "over": isinstance(output, int) and output > 10_000}
    assert check.get(expected, output == expected) if isinstance(expected, str) else output == expected


@pytest.mark.parametrize("stream", [False, True])
def test_usage_can_be_left_out(http: httpx.Client, billed: Billed, stream: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = post(http, "no-usage", **options)
    bodies = events(answer.text) if stream else [answer.json()]
    assert not any(body.get("usage") for body in bodies)
    assert billed().output_tokens > 0


def test_usage_can_come_in_every_chunk_and_twice(http: httpx.Client) -> None:
    every = [event["usage"]["completion_tokens"] for event in events(post(http, "usage-every-chunk", stream=True).text)]
    twice = events(post(http, "usage-twice", stream=True, stream_options={"include_usage": True}).text)
    assert every == sorted(every)
    assert len(every) > 10
    assert [event["usage"] is not None for event in twice].count(True) == 2


@pytest.mark.parametrize(
    ("script", "status", "retry_after"),
    [
        ("429", 429, None),
        ("429-after", 429, "2"),
        ("429-absurd", 429, "1000000000"),
        ("502", 502, None),
        ("529", 529, None),
    ],
)
def test_refusals_carry_their_status_and_retry_after(
    http: httpx.Client, script: str, status: int, retry_after: str | None
) -> None:
    answer = post(http, script)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.json()["error"]["message"]


def test_a_redirect_points_at_a_private_address(http: httpx.Client) -> None:
    answer = post(http, "redirect")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://169.254.169.254/latest/meta-data/")
    assert post(http, "redirect location=http://10.0.0.1/").headers["location"] == "http://10.0.0.1/"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "content_type"),
    [
        ("html", 200, "text/html"),
        ("json-error-200", 200, "application/json"),
        ("empty-200", 200, "application/json"),
        ("204", 204, None),
    ],
)
def test_strange_bodies_are_billed_in_full(
    http: httpx.Client, billed: Billed, script: str, status: int, content_type: str | None, stream: bool
) -> None:
    answer = post(http, script, stream=stream)
    assert (answer.status_code, answer.headers.get("content-type")) == (status, content_type)
    assert billed().billed
    assert billed().output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_truncated_json_ends_cleanly_in_the_middle(http: httpx.Client, stream: bool) -> None:
    text = post(http, "truncated", stream=stream).text.removesuffix("\n\n")
    last = text.rsplit("data: ", 1)[-1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)


def test_the_wrong_content_type_hides_a_right_answer(http: httpx.Client) -> None:
    answer = post(http, "wrong-type")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.json()["choices"]


@pytest.mark.parametrize("stream", [False, True])
def test_gzip_comes_unasked(simulator: Simulator, stream: bool) -> None:
    with httpx.Client(base_url=simulator.address, headers={"Accept-Encoding": "identity"}) as client:
        with client.stream("POST", "/v1/chat/completions", json=chat("[[sim:gzip]] hi", stream=stream)) as answer:
            plain = gzip.decompress(b"".join(answer.iter_raw())).decode()
    assert "choices" in plain


def test_the_gzip_bomb_is_small_on_the_wire_and_large_unpacked(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/chat/completions", json=chat("[[sim:gzip-bomb mb=50]] hi")) as answer:
        raw = b"".join(answer.iter_raw())
    unpacker = zlib.decompressobj(31)
    assert len(raw) < 200_000
    assert sum(len(unpacker.decompress(raw[at : at + 4096])) for at in range(0, len(raw), 4096)) == 50 << 20


def test_the_brotli_bomb_repeats_a_block_of_26_bytes(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/chat/completions", json=chat("[[sim:br-bomb mb=10240]] hi")) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "br"
    assert len(raw) == 27 + 639 * 26 + 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_headers_is_billed(simulator: Simulator, attempt: str, billed: Billed, stream: bool) -> None:
    with raw_call(simulator, chat("[[sim:rst-before]] hi", stream=stream), attempt) as connection:
        with pytest.raises(ConnectionResetError):
            connection.recv(65536)
    assert billed().output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_after_some_of_it(simulator: Simulator, attempt: str, billed: Billed, stream: bool) -> None:
    received = bytearray()

    def read_on(connection: socket.socket) -> None:
        while part := connection.recv(65536):
            received.extend(part)

    with raw_call(simulator, chat("[[sim:rst-after k=4]] hi", stream=stream), attempt) as connection:
        with pytest.raises(ConnectionResetError):
            read_on(connection)
    assert received.startswith(b"HTTP/1.1 200")
    assert billed().output_tokens == received.count(b'"content"') if stream else billed().output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_ends_the_connection_in_the_middle_of_json(
    simulator: Simulator, attempt: str, billed: Billed, stream: bool
) -> None:
    with raw_call(simulator, chat("[[sim:cut k=4]] hi", stream=stream), attempt) as connection:
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.rstrip(b"\r\n").endswith(b"}")
    assert not received.endswith(b"0\r\n\r\n")
    assert billed().billed


def test_silence_is_billed_in_full_at_once(simulator: Simulator, attempt: str, billed: Billed) -> None:
    with raw_call(simulator, chat("[[sim:silent]] hi"), attempt) as connection:
        assert billed().output_tokens > 0
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_heartbeats_come_without_a_token(simulator: Simulator, attempt: str, billed: Billed) -> None:
    received = b""
    with raw_call(simulator, chat("[[sim:heartbeat gap_ms=10]] hi", stream=True), attempt) as connection:
        while received.count(b": heartbeat") < 3:
            received += connection.recv(65536)
    assert b"data:" not in received
    assert (billed().output_tokens, billed().billed) == (0, True)


def test_slow_waits_before_its_first_byte(http: httpx.Client) -> None:
    began = time.monotonic()
    assert post(http, "slow first_ms=300").status_code == 200
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name.startswith("sse-") and name != "sse-error"])
def test_every_sse_variant_says_the_same_to_a_tolerant_reader(http: httpx.Client, script: str) -> None:
    text = post(http, f"{script} mb=1", stream=True).text
    spoken = events(text)
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in spoken if event["choices"])
    plain = post(http, f"{script} mb=1").json()["choices"][0]["message"]["content"]
    assert said == plain
    marks = {"sse-no-done": 0, "sse-two-dones": 2}
    assert text.replace("data:[DONE]", "data: [DONE]").count("data: [DONE]") == marks.get(script, 1)


def test_sse_variants_differ_on_the_wire(http: httpx.Client) -> None:
    assert "\r\n\r\n" in post(http, "sse-crlf", stream=True).text
    assert "\n" not in post(http, "sse-cr", stream=True).text
    assert "data: " not in post(http, "sse-nospace", stream=True).text
    assert "\0" in post(http, "sse-nul", stream=True).text
    assert post(http, "sse-comments", stream=True).text.startswith(": keep-alive\n")
    assert len(max(post(http, "sse-huge-line mb=2", stream=True).text.split("\n"), key=len)) > 2 << 20
    assert post(http, "sse-after-done", stream=True).text.endswith(": bye\n\n")


def test_characters_are_cut_apart_between_chunks(simulator: Simulator) -> None:
    with raw_call(simulator, chat("[[sim:sse-split-utf8]] hi", stream=True)) as connection:
        _, _, body = read_all(connection).partition(b"\r\n\r\n")
    chunks = []
    while (size := int(body.partition(b"\r\n")[0] or b"0", 16)) > 0:
        body = body.partition(b"\r\n")[2]
        chunks.append(body[:size])
        body = body[size + 2 :]
    with pytest.raises(UnicodeDecodeError):
        [chunk.decode() for chunk in chunks]
    assert (
        "日本語" in b"".join(chunks).decode()
        or "caf\u00e9" in b"".join(chunks).decode()
        or "🚀" in b"".join(chunks).decode()
    )


def test_an_error_event_can_end_a_stream(http: httpx.Client, billed: Billed) -> None:
    spoken = events(post(http, "sse-error k=4", stream=True).text)
    assert spoken[-1]["error"]["type"] == "server_error"
    assert billed().output_tokens == 4


def test_the_page_names_every_model_and_script(http: httpx.Client) -> None:
    page = http.get("/").text
    assert all(f"<code>{name}</code>" in page for name in ("sim-small", "sim-reasoner", *SCRIPTS))


def test_broken_requests_get_errors_and_not_silence(http: httpx.Client, simulator: Simulator) -> None:
    assert http.post("/v1/chat/completions", content=b"{nope").status_code == 400
    assert http.post("/v1/chat/completions", content=b"[]").status_code == 400
    assert http.post("/v1/chat/completions", content=b"[" * 100_000).status_code == 400
    assert http.post("/v1/nothing", json={}).status_code == 404
    assert http.put("/v1/models").status_code == 405
    assert httpx.get(f"http://127.0.0.1:{simulator.port}/elsewhere").status_code == 404
