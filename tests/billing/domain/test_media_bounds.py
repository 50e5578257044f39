"""What pictures and sound cost at most, and how long a file is."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.domain import sound
from billing.domain.pricing import Rates, price
from billing.domain.quote import quote
from billing.domain.usage import extract
from billing.prices import default_book
from gateway.simulator.media import wav

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def rates(model: str, provider: str = "openai") -> Rates:
    found = default_book().rates(provider, model, AT)
    assert found is not None
    return found


def bound(model: str, **body: Any) -> Any:
    asked = {"model": model, "prompt": "A cat", **body}
    return quote("openai", "/v1/images/generations", asked, 100, rates(model))


@pytest.mark.parametrize(("quality", "tokens"), [("low", 408), ("medium", 1584), ("high", 6240), (None, 6240)])
def test_a_picture_is_bounded_by_its_quality(quality: str | None, tokens: int) -> None:
    made = bound("gpt-image-1", quality=quality, n=3)
    assert made.amount_nano >= 3 * tokens * 40_000
    assert made.amount_nano <= 3 * (tokens + 2_000) * 40_000 + 2_000_000


def test_no_output_limit_can_make_a_picture_cheaper() -> None:
    made = bound("gpt-image-1", quality="high")
    assert made.fits(made.amount_nano) is not None
    assert made.fits(made.amount_nano - 1) is None


@pytest.mark.parametrize(
    ("size", "calculated"),
    [("1024x1024", 7024), ("1536x1024", 5488), ("1792x1024", 5063), ("3584x2048", 12329), ("auto", 12329)],
)
def test_the_bound_of_a_newer_picture_holds_for_every_size_that_openai_calculates(size: str, calculated: int) -> None:
    assert bound("gpt-image-2", quality="high", size=size).amount_nano >= calculated * 30_000


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("gpt-image-2.5-flare", {"quality": "max"}),
        ("gpt-image-2.5-flare", {}),
        ("gpt-image-2", {"quality": "xhigh"}),
        ("gpt-image-2", {"output_format": "svg", "svg": {"model": "gpt-6"}}),
        ("gpt-image-2", {"complexity": "high"}),
        ("dall-e-3", {"magic": True}),
        ("dall-e-3", {"size": "9999x9999"}),
    ],
)
def test_what_nobody_has_published_has_no_bound(model: str, body: dict[str, Any]) -> None:
    made = bound(model, **body)
    assert made.amount_nano is None
    assert made.refusal


def test_partial_pictures_and_frames_are_in_the_bound() -> None:
    plain = bound("gpt-image-2", quality="low", size="1024x1024").amount_nano
    assert bound("gpt-image-2", quality="low", size="1024x1024", partial_images=3).amount_nano == plain + 300 * 30_000
    assert bound("gpt-image-2", quality="low", size="1024x1024", output_format="gif").amount_nano > 8 * 1_100 * 30_000


def test_a_picture_by_the_piece_is_bounded_and_billed_at_the_same_price() -> None:
    request = {"model": "dall-e-3", "prompt": "x", "quality": "hd", "size": "1792x1024", "n": 1}
    assert bound(**request).amount_nano == 120_000_000
    usage = extract("openai", "/v1/images/generations", {"created": 1, "data": [{}]}, request=request)
    assert price(usage, rates("dall-e-3")).cost_nano == 120_000_000


def test_pictures_of_others_are_billed_by_the_piece_or_as_the_provider_states() -> None:
    usage = extract("xai", "/v1/images/generations", {"data": [{}, {}], "usage": {"cost_in_usd_ticks": 1_400_000_000}})
    assert usage.buckets == {"images": 2}
    assert price(usage, None).cost_nano == 140_000_000
    own = default_book().with_overrides([{"provider": "xai", "model": "grok-imagine", "units": {"images": "0.07"}}])
    asked = {"model": "grok-imagine", "prompt": "x", "n": 2}
    at = own.rates("xai", "grok-imagine", AT)
    made = quote("xai", "/v1/images/generations", asked, 100, at)
    assert made.amount_nano == 140_000_000
    assert (
        price(extract("xai", "/v1/images/generations", {"data": [{}, {}]}, request=asked), at).cost_nano == 140_000_000
    )


def test_an_svg_is_billed_at_its_writers_rates_beside_the_picture() -> None:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
        "output_tokens": 100,
        "total_tokens": 110,
    }
    svg = {
        "model": "gpt-4o-mini",
        "input_tokens": 1000,
        "output_tokens": 500,
        "reasoning_tokens": 100,
        "total_tokens": 1500,
    }
    found = extract("openai", "/v1/images/generations", {"created": 1, "data": [{}], "usage": usage, "svg_usage": svg})
    assert price(found, rates("gpt-image-2")).cost_nano == 10 * 5_000 + 100 * 30_000 + 1000 * 150 + 500 * 600


def test_a_line_of_a_batch_is_a_picture_by_its_shape() -> None:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
        "output_tokens": 100,
        "total_tokens": 110,
    }
    line = {
        "custom_id": "a",
        "response": {"status_code": 200, "body": {"created": 1, "data": [{"b64_json": ""}], "usage": usage}},
    }
    found = extract("openai", "/v1/batches", line, request={"model": "gpt-image-2"})
    assert found.buckets == {"input_uncached": 10, "output_image": 100}
    assert price(found, rates("gpt-image-2")).cost_nano == 10 * 2_500 + 100 * 15_000


# --- Sound ------------------------------------------------------------------------------------------------------------


def mp3(frames: int) -> bytes:
    return (b"\xff\xfb\x90\x00" + bytes(413)) * frames  # 128 kbit/s, 44.1 kHz: 417 bytes, 1,152 samples


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


MVHD = box(b"mvhd", bytes(12) + struct.pack(">II", 1000, 2345) + bytes(80))
FLAC = (
    b"fLaC\x00\x00\x00\x22" + bytes(10) + ((48_000 << 44) | (1 << 36) - 0 & 0 | 96_000).to_bytes(8, "big") + bytes(20)
)
OGG = (
    b"OggS\x00\x02" + bytes(22) + b"OpusHead" + bytes(50) + b"OggS\x00\x04" + (72_000).to_bytes(8, "little") + bytes(20)
)
WEBM = b"\x1a\x45\xdf\xa3" + bytes(8) + b"\x2a\xd7\xb1\x83\x0f\x42\x40\x44\x89\x88" + struct.pack(">d", 2500.0)


@pytest.mark.parametrize(
    ("file", "length_ms"),
    [
        (wav(1_500), 1_500),
        (mp3(100), 2_613),
        (b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + mp3(100) + b"TAG" + bytes(125), 2_613),
        (box(b"ftyp", b"M4A ") + box(b"mdat", bytes(50)) + box(b"moov", MVHD), 2_345),
        (FLAC, 2_000),
        (OGG, 1_500),
        (WEBM, 2_501),
        (b"", None),
        (b"not sound at all", None),
        (wav(1_500)[:30], None),
    ],
)
def test_a_file_tells_its_length(file: bytes, length_ms: int | None) -> None:
    assert sound.length_ms(file) == length_ms
    assert sound.length_ms(memoryview(file)) == length_ms
    if length_ms is not None and len(file) > 2_000:
        assert sound.most_ms(len(file)) >= length_ms


def test_a_field_of_unknown_price_has_no_bound_in_a_transcription() -> None:
    body = {"model": "whisper-1", "file_bytes": 1000}
    assert quote("openai", "/v1/audio/transcriptions", body, 0, rates("whisper-1")).amount_nano == 1_000_000
    assert (
        quote("openai", "/v1/audio/transcriptions", {**body, "agents": "1"}, 0, rates("whisper-1")).amount_nano is None
    )


def test_mistral_transcribes_by_the_minute() -> None:
    usage = {"prompt_audio_seconds": 90, "prompt_tokens": 4, "completion_tokens": 300, "total_tokens": 1429}
    found = extract("mistral", "/v1/audio/transcriptions", {"model": "voxtral-mini-2602", "text": "x", "usage": usage})
    assert price(found, rates("voxtral-mini-2602", "mistral")).cost_nano == 4_500_000


def test_a_batch_tier_that_nobody_prices_has_no_bound() -> None:
    body = {"model": "gpt-audio", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    made = quote("openai", "/v1/batches/v1/chat/completions", body, 100, rates("gpt-audio"))
    assert (made.amount_nano, made.refusal) == (None, "unpriced: service tier 'batch'")
