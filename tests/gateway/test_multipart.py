"""Forms as bytes: what is read is what was written, whatever cannot be read in one way only is refused, and an edit changes nothing else."""

from __future__ import annotations

import contextlib
import email.parser
import email.policy

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import multipart
from gateway.multipart import BadForm
from tests.rig.effort import examples

GOOD = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n'


@given(st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=40), min_size=1), st.binary(max_size=200))
@settings(max_examples=examples(60), deadline=None)
def test_what_httpx_writes_is_read_as_it_was_meant(fields: dict[str, str], content: bytes) -> None:
    request = httpx.Request("POST", "http://x", data=fields, files={"file": ("a.bin", content)})
    body = request.read()
    boundary = multipart.boundary_of(request.headers["content-type"].encode())
    assert boundary is not None
    form = multipart.parse(body, boundary)
    assert form.texts == fields
    [file] = form.files
    assert body[file.start : file.end] == content
    named = form.parts[0]
    edited = multipart.with_text(body, named, "another")
    assert multipart.parse(edited, boundary).texts == {**fields, named.name: "another"}


@given(st.binary(max_size=120))
@settings(max_examples=examples(150), deadline=None)
def test_no_bytes_break_the_reader(body: bytes) -> None:
    for candidate in (body, b"--x\r\n" + body, GOOD.replace(b"m\r\n", body + b"\r\n")):
        with contextlib.suppress(BadForm):
            multipart.parse(candidate, b"x")


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
@settings(max_examples=examples(150), deadline=None)
def test_a_form_that_is_accepted_means_the_same_to_another_reader(at: int, put: bytes) -> None:
    body = GOOD[:at] + put + GOOD[at + 1 :]
    try:
        read = multipart.parse(body, b"x").texts.get("model")
    except BadForm:
        return
    head = b"content-type: multipart/form-data; boundary=x\r\n\r\n"
    parts = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + body).get_payload()
    assert isinstance(parts, list)
    named = [part for part in parts if part.get_param("name", header="content-disposition") == "model"]  # type: ignore[union-attr]
    assert [read] == [(part.get_payload(decode=True) or b"").decode() for part in named] or (read is None and not named)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + GOOD,
        GOOD + b"more",
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.replace(b"--x--", b"--x"),
        GOOD.replace(b"\r\n--x--", b"--x--"),
        GOOD.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        GOOD.replace(b"\r\n\r\n", b'\r\ncontent-disposition: form-data; name="n"\r\n\r\n'),
        GOOD.replace(b'name="model"', b'name="model"; name="n"'),
        GOOD.replace(b'name="model"', b"name=model"),
        GOOD.replace(b"m\r\n", b"\xff\r\n"),
        GOOD.replace(b"--x--\r\n", GOOD),
        b"--x--\r\n",
        GOOD.replace(b"--x--\r\n", b"--x\r\n") * 300,
    ],
)
def test_a_form_that_readers_disagree_on_is_refused(body: bytes) -> None:
    with pytest.raises(BadForm):
        multipart.parse(body, b"x")


@pytest.mark.parametrize(
    "content_type",
    [b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=a b",
     b"multipart/mixed; boundary=x", b"multipart/form-data; boundary=x; boundary=y", b"multipart/form-data; boundary=" + b"x" * 71],
)  # fmt: skip
def test_a_type_without_one_boundary_is_no_form(content_type: bytes) -> None:
    assert multipart.boundary_of(content_type) is None
