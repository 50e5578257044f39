"""The official `openai` SDK over images and audio: files in, pictures and sound out, each unit on the bill as on the provider's invoice."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from gateway.simulator.media import png, wav
from guardrails.actions import create_budget
from tests.gateway.installed import EchoUpstream
from tests.gateway.world import GatewayProcess, Shop, World

MODELS = {"image": "gpt-image-1", "speech": "gpt-4o-mini-tts", "hearing": "gpt-4o-mini-transcribe"}


@pytest.fixture
def client(gateway: GatewayProcess, shop: Shop) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def bought(gateway: GatewayProcess, world: World) -> Iterator[tuple[OpenAI, Shop]]:
    """A shop whose provider is OpenAI, which the simulator plays."""
    shop = world.shop(provider="openai", base_url=world.simulator.base_url, secret="sk-test")
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
        yield client, shop


def billed_as_invoiced(shop: Shop, **usage: int) -> None:
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid)) or shop.world.simulator.invoice()[-1]
    assert (entry.basis, entry.price_status, entry.cost_nano) == ("measured", "exact", line.cost_nano)
    assert {**entry.unpacked()["usage"], **usage} == entry.unpacked()["usage"]


# --- Images -----------------------------------------------------------------------------------------------------------


def test_pictures_are_billed_by_their_tokens(client: OpenAI, shop: Shop) -> None:
    made = client.images.generate(model="sim-image", prompt="A cat", n=2, quality="low", size="1024x1024")
    assert [base64.b64decode(one.b64_json or "")[:4] for one in made.data or []] == [b"\x89PNG", b"\x89PNG"]
    billed_as_invoiced(shop, output_image=544)


def test_a_picture_comes_in_parts_and_is_billed_by_its_last_event(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    events = list(
        client.images.generate(model="gpt-image-1", prompt="A cat", quality="low", partial_images=2, stream=True)
    )
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    billed_as_invoiced(shop, output_image=472)


def test_pictures_are_edited_from_files(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    files: Any = [("a.png", png(1), "image/png"), ("b.png", png(2), "image/png")]
    made = client.images.edit(
        model="gpt-image-1", image=files, mask=io.BytesIO(png(3)), prompt="Add a hat", quality="low"
    )
    assert len(made.data or []) == 1
    billed_as_invoiced(shop, input_image=646, output_image=272)


def test_a_variation_is_asked_for_by_the_async_client(gateway: GatewayProcess, shop: Shop) -> None:
    async def ask() -> Any:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0, timeout=20) as client:
            with pytest.warns(DeprecationWarning, match="deprecated"):
                return await client.images.create_variation(model="sim-image", image=png(1), n=1)

    assert asyncio.run(ask()).data
    [entry] = shop.entries(1)
    assert entry.endpoint == "/v1/images/variations"


# --- Sound ------------------------------------------------------------------------------------------------------------


def test_speech_by_characters_passes_as_sound(client: OpenAI, shop: Shop) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="sim-tts", voice="coral", input="Hello there"
    ) as answer:
        sound = b"".join(answer.iter_bytes())
        assert answer.headers["content-type"] == "audio/wav"
    assert sound == wav(660)
    billed_as_invoiced(shop, characters=11)


def test_speech_by_tokens_is_measured_although_the_client_wants_plain_sound(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    answer = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="coral", input="Hello there", response_format="wav"
    )
    assert answer.content == wav(660)
    assert answer.response.headers["content-type"] == "audio/wav"
    billed_as_invoiced(shop, output_audio=11)


def test_speech_comes_as_events_where_the_client_asks_for_them(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="coral", input="Hello there", stream_format="sse"
    ) as answer:
        assert b"speech.audio.done" in b"".join(answer.iter_bytes())
    billed_as_invoiced(shop, output_audio=11)


@pytest.mark.parametrize("form", ["json", "verbose_json"])
def test_a_transcript_is_billed_by_the_length_of_its_file(client: OpenAI, shop: Shop, form: Any) -> None:
    heard = client.audio.transcriptions.create(model="sim-hear", file=("a.wav", wav(1_500)), response_format=form)
    assert heard.text
    billed_as_invoiced(shop, audio_milliseconds=1_500)


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_a_transcript_as_text_states_no_usage_and_is_billed_by_the_file_itself(
    client: OpenAI, shop: Shop, form: Any
) -> None:
    heard: Any = client.audio.transcriptions.create(model="sim-hear", file=("a.wav", wav(1_500)), response_format=form)
    assert "All the world" in heard
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert (entry.basis, entry.price_status, entry.cost_nano) == ("counted", "estimated", line.cost_nano)


def test_a_transcript_streams_as_events(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    events = list(
        client.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=("a.wav", wav(1_500)), stream=True)
    )
    assert events[-1].type == "transcript.text.done"
    billed_as_invoiced(shop, input_audio=15)


def test_a_model_that_cannot_stream_answers_whole_all_the_same(
    bought: tuple[OpenAI, Shop], gateway: GatewayProcess
) -> None:
    _, shop = bought
    heard = httpx.post(
        f"{gateway.url}/v1/audio/transcriptions",
        data={"model": "whisper-1", "stream": "true"},
        files={"file": ("a.wav", wav(1_500))},
        headers={"authorization": f"Bearer {shop.key}"},
    )
    assert heard.json()["text"]
    billed_as_invoiced(shop, audio_milliseconds=1_500)


def test_a_translation_is_billed_too(bought: tuple[OpenAI, Shop]) -> None:
    client, shop = bought
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assert client.audio.translations.create(model="whisper-1", file=("a.wav", wav(900))).text
    billed_as_invoiced(shop, audio_milliseconds=900)


# --- Under a hard budget ----------------------------------------------------------------------------------------------


def test_a_picture_that_may_not_fit_is_not_asked_for(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="0.2", period="day")
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(model="sim-image", prompt="A cat", quality="high")
    assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
    assert client.images.generate(model="sim-image", prompt="A cat", quality="low", partial_images=0).data
    assert shop.entries(1)[0].cost_nano < 50_000_000


def test_a_quality_whose_price_nobody_has_published_is_refused_under_a_hard_budget(
    bought: tuple[OpenAI, Shop],
) -> None:
    client, shop = bought
    shop.do(create_budget, cap="1000", period="day")
    for more in ({"quality": "max"}, {"quality": "high", "extra_body": {"magic": 1}}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(model="gpt-image-2.5-flare", prompt="A cat", size="1024x1024", **more)  # type: ignore[call-overload]
        assert refused.value.code == "model_not_priced"
    assert shop.booked() == []


def test_a_file_is_held_at_the_longest_it_can_be(client: OpenAI, shop: Shop) -> None:
    shop.do(create_budget, cap="0.001", period="day")
    with pytest.raises(openai.APIStatusError) as refused:  # 10,000 ms at $0.006 a minute
        client.audio.transcriptions.create(model="sim-hear", file=("a.wav", wav(100_000)))
    assert refused.value.status_code == 402
    assert client.audio.transcriptions.create(model="sim-hear", file=("a.wav", wav(10))).text


# --- Bytes ------------------------------------------------------------------------------------------------------------


def test_a_form_passes_byte_for_byte_but_for_the_name_of_its_model(
    gateway: GatewayProcess, world: World, echo_upstream: EchoUpstream
) -> None:
    shop = world.shop(provider="openai_compatible", base_url=echo_upstream.base_url, secret="a-key")
    echo_upstream.answered = b'{"text":"caf\\u00e9","usage":{"type":"duration","seconds":1}}'
    form = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--x\r\nContent-Disposition: form-data; name="file"; '
        b'filename="\xc3\xa9.wav"\r\n\r\n\x00\r\n--y\r\n\xff\r\n--x--\r\n'
    )
    head = {"authorization": f"Bearer {shop.key}", "content-type": "multipart/form-data; boundary=x"}
    for model in (b"any-model", b"openai_compatible/any-model"):
        answer = httpx.post(f"{gateway.url}/v1/audio/transcriptions", content=form % model, headers=head)
        assert answer.content == echo_upstream.answered
        received, body = echo_upstream.received
        assert (received["content-type"], body) == (head["content-type"], form % b"any-model")


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("application/json", 415, "unsupported_media_type"),
        ("multipart/form-data", 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=other", 400, "invalid_form"),
    ],
)
def test_what_is_no_form_is_refused(
    gateway: GatewayProcess, shop: Shop, content_type: str, status: int, code: str
) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/audio/transcriptions",
        content=b"--x\r\n",
        headers={"authorization": f"Bearer {shop.key}", "content-type": content_type},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert shop.booked() == []


FILE = {"file": ("a.wav", b"RIFF")}
BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("a model twice", {"model": ["sim-hear", "whisper-1"]}, FILE, "invalid_form"),
    ("no model", {}, FILE, "missing_model"),
    ("no file", {"model": "sim-hear"}, {"f": ("a", b"")}, "invalid_type"),
    ("an empty file", {"model": "sim-hear"}, {"file": ("a.wav", b"")}, "invalid_file"),
    ("two files", {"model": "sim-hear"}, [("file", ("a", b"a")), ("file", ("b", b"b"))], "invalid_file"),  # type: ignore[list-item]
    ("a file that is a model", {"model": "sim-hear"}, {**FILE, "model": ("a", b"b")}, "invalid_type"),
    ("a stream that is no boolean", {"model": "sim-hear", "stream": "yes"}, FILE, "invalid_type"),
    ("another address", {"model": "sim-hear", "base_url": "http://x"}, FILE, "field_not_allowed"),
    ("another address in brackets", {"model": "sim-hear", "extra_body[a]": "b"}, FILE, "field_not_allowed"),
    ("sound by the side", {"model": "sim-hear", "known_speaker_references[]": "data:"}, FILE, "field_not_allowed"),
    ("a model of control characters", {"model": "a\nb"}, FILE, "invalid_model"),
    ("a count that is none", {"model": "sim-hear", "n": "1e3"}, FILE, "invalid_value"),
    ("a count of many", {"model": "sim-hear", "n": "1000"}, FILE, "invalid_value"),
]


@pytest.mark.parametrize(("fields", "files", "code"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_form_that_could_be_read_in_two_ways_never_leaves(
    gateway: GatewayProcess, shop: Shop, fields: dict[str, Any], files: Any, code: str
) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/audio/transcriptions",
        data=fields,
        files=files,
        headers={"authorization": f"Bearer {shop.key}"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert shop.booked() == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("images/generations", {"model": "sim-image"}, "invalid_type"),
        ("images/generations", {"model": "sim-image", "prompt": "x", "n": 0}, "invalid_value"),
        ("images/generations", {"model": "sim-image", "prompt": "x", "n": 2.5}, "invalid_value"),
        ("images/generations", {"model": "sim-image", "prompt": "x", "stream": "true"}, "invalid_type"),
        ("audio/speech", {"model": "sim-tts", "input": ["x"]}, "invalid_type"),
        ("audio/speech", {"model": "sim-tts", "input": "x", "stream_format": 1}, "invalid_value"),
    ],
)
def test_bodies_that_cannot_be_meant_are_refused(
    gateway: GatewayProcess, shop: Shop, path: str, body: dict[str, Any], code: str
) -> None:
    answer = httpx.post(f"{gateway.url}/v1/{path}", json=body, headers={"authorization": f"Bearer {shop.key}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text


def test_a_form_may_be_larger_than_json_but_not_larger_than_its_limit(gateway: GatewayProcess, shop: Shop) -> None:
    head = {"authorization": f"Bearer {shop.key}"}
    for size, status in ((12 * 2**20, 200), (27 * 2**20, 413)):
        files = {"file": ("a.wav", bytes(size))}
        answer = httpx.post(
            f"{gateway.url}/v1/audio/transcriptions", data={"model": "sim-hear"}, files=files, headers=head, timeout=30
        )
        assert answer.status_code == status, answer.text
