"""OpenAI's images, audio, moderation and realtime APIs: token splits by modality, characters, seconds (BILLING.md 1.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from billing.domain.extraction.common import Call, decimal, failed, unbilled, unreadable
from billing.domain.extraction.record import MAX_COUNT, Tally, Usage, UsageContext, text_of
from billing.domain.pictures import fee_of

KEYS = frozenset({"input_tokens", "output_tokens", "total_tokens", "type", "seconds"})
DETAILS = ("input_tokens_details", "input_token_details", "output_tokens_details", "output_token_details")
INPUT = frozenset({"text_tokens", "image_tokens", "audio_tokens", "cached_tokens", "cached_tokens_details"})
OUTPUT = frozenset({"text_tokens", "image_tokens", "audio_tokens", "reasoning_tokens"})
GROQ_MINIMUM_MS = 10_000


def tokens_of(tally: Tally, usage: Mapping[str, Any], *, plain_output: str = "output_text") -> int:
    """Adds an object split by modality on both sides; `plain_output` is the bucket of output that nobody split. Returns the prompt size."""
    tally.expect(usage, KEYS | frozenset(DETAILS))
    prompt = tally.count(usage, "input_tokens", required=True)
    output = tally.count(usage, "output_tokens")
    total = tally.count(usage, "total_tokens")
    if total and total != prompt + output:
        tally.flag("provider_total_differs")
    inside = tally.section(usage, DETAILS[0] if DETAILS[0] in usage else DETAILS[1])
    outside = tally.section(usage, DETAILS[2] if DETAILS[2] in usage else DETAILS[3])
    tally.expect(inside, INPUT, "input.")
    tally.expect(outside, OUTPUT, "output.")
    cached = tally.part_of(prompt, tally.count(inside, "cached_tokens"), "cached_tokens")
    split = tally.section(inside, "cached_tokens_details")
    fresh, old = prompt - cached, cached
    for medium in ("audio", "image"):
        whole = tally.count(inside, f"{medium}_tokens")
        was = tally.part_of(min(whole, old), tally.count(split, f"{medium}_tokens"), f"cached.{medium}_tokens")
        new = tally.part_of(fresh, whole - was, f"input.{medium}_tokens")
        tally.add(f"input_{medium}", new)
        tally.add(f"input_{medium}_cached", was)
        fresh, old = fresh - new, old - was
    tally.add("input_uncached", fresh)
    tally.add("cache_read", old)
    for medium in ("audio", "image"):
        part = tally.part_of(output, tally.count(outside, f"{medium}_tokens"), f"output.{medium}_tokens")
        tally.add(f"output_{medium}", part)
        output -= part
    tally.add("output_text" if outside else plain_output, output)
    return prompt


def images(body: Mapping[str, Any], call: Call) -> Usage:
    """Generations and edits: GPT-Image by tokens, other models by picture."""
    usage = body.get("usage", body if "input_tokens" in body else None)
    if failed(body) and usage is None:
        return unbilled("provider_error")
    tally = Tally()
    prompt, stated = 0, None
    if isinstance(usage, Mapping) and "input_tokens" in usage:
        prompt = tokens_of(tally, usage, plain_output="output_image")
        _svg(tally, body)
    elif usage is not None and not isinstance(usage, Mapping):
        return unreadable("bad_section:usage", usage)
    elif isinstance(body.get("data"), list) and "gpt-image" not in text_of(call.request, "model"):
        by_size = text_of(call.request, "model").rpartition("/")[2].startswith("dall-e")
        if by_size:
            tally.fee(fee_of({**call.request, **_made(body)}), len(body["data"]))
        else:
            tally.add("images", len(body["data"]))
        stated = _stated(usage)
    else:
        return unreadable("usage_missing")
    return tally.usage(_context(body, call, prompt, stated), usage)


def _made(body: Mapping[str, Any]) -> dict[str, str]:
    """What the answer says of the pictures that were made, which may be other than what was asked for."""
    return {name: body[name] for name in ("size", "quality") if isinstance(body.get(name), str)}


def _stated(usage: Any) -> Decimal | None:
    ticks = usage.get("cost_in_usd_ticks") if isinstance(usage, Mapping) else None
    return Decimal(ticks).scaleb(-10) if type(ticks) is int and 0 <= ticks <= 10**19 else None


def _svg(tally: Tally, body: Mapping[str, Any]) -> None:
    """An SVG is written by a model of its own, which is billed beside the picture it copies."""
    usage = body.get("svg_usage")
    if not isinstance(usage, Mapping):
        return
    part = Tally()
    part.expect(
        usage, frozenset({"input_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "model"}), "svg."
    )
    prompt = part.count(usage, "input_tokens", required=True)
    part.add("input_uncached", prompt)
    part.add("output_text", part.count(usage, "output_tokens"))
    context = UsageContext(prompt_total=prompt, model_served=text_of(usage, "model") or "svg model (not stated)")
    tally.parts.append(part.usage(context, usage))
    tally.measured &= part.measured
    for flag in part.flags:
        tally.flag(flag)


def images_stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    done = [
        event
        for event in events
        if str(event.get("type", "")).endswith(".completed") and event.get("usage") is not None
    ]
    if not done:
        return _no_end(events)
    return images(done[-1], call)


def speech_binary(call: Call) -> Usage:
    """A binary answer without usage: models priced by characters are billed by the request's text, the others cannot be."""
    spoken, model = call.request.get("input"), text_of(call.request, "model")
    if not isinstance(spoken, str) or "gpt" in model:
        return unreadable("usage_missing")
    tally = Tally()
    tally.add("characters", min(len(spoken), MAX_COUNT))
    return tally.usage(UsageContext(tier=call.tier(None), batch=call.batch, regional=call.region), None)


def speech(body: Mapping[str, Any], call: Call) -> Usage:
    usage = body.get("usage", body if "input_tokens" in body else None)
    if usage is None:
        return speech_binary(call)
    return _audio(usage, body, call, plain_output="output_audio")


def speech_stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    done = [event for event in events if event.get("type") == "speech.audio.done"]
    return speech(done[-1], call) if done else _no_end(events)


def transcription(body: Mapping[str, Any], call: Call) -> Usage:
    """`usage.type` says tokens or duration; answers without usage may state their duration at the top level."""
    usage = body.get("usage", body if "input_tokens" in body or body.get("type") == "duration" else None)
    if usage is None and body.get("duration") is not None:
        usage = {"type": "duration", "seconds": body["duration"]}
    if usage is None:
        return unbilled("provider_error") if failed(body) else unreadable("usage_missing")
    return _audio(usage, body, call, plain_output="output_text")


def transcription_stream(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    done = [event for event in events if event.get("type") == "transcript.text.done"]
    return transcription(done[-1], call) if done else _no_end(events)


def _audio(usage: Any, body: Mapping[str, Any], call: Call, *, plain_output: str) -> Usage:
    if not isinstance(usage, Mapping):
        return unreadable("bad_section:usage", usage)
    tally = Tally()
    prompt = 0
    if usage.get("type") == "duration" or ("seconds" in usage and "input_tokens" not in usage):
        tally.expect(usage, KEYS)
        _seconds(tally, usage.get("seconds"), call)
    elif "prompt_audio_seconds" in usage:  # Mistral
        _seconds(tally, usage.get("prompt_audio_seconds"), call)
        for key in ("prompt_tokens", "completion_tokens"):
            tally.count(usage, key)  # a transcription is billed by its length alone
    else:
        prompt = tokens_of(tally, usage, plain_output=plain_output)
    return tally.usage(_context(body, call, prompt), usage)


def _seconds(tally: Tally, value: Any, call: Call) -> None:
    seconds = decimal(value)
    if seconds is None or seconds > MAX_COUNT // 1000:
        tally.unusable("bad_count:seconds")
        return
    milliseconds = int((seconds * 1000).to_integral_value(rounding="ROUND_CEILING"))
    if call.provider == "groq" and milliseconds:
        milliseconds = max(milliseconds, GROQ_MINIMUM_MS)
    tally.add("audio_milliseconds", milliseconds)


def moderation(body: Mapping[str, Any], call: Call) -> Usage:
    """Free of charge at OpenAI; Mistral's classifiers are billed by the token."""
    usage = body.get("usage")
    if call.provider == "mistral" and isinstance(usage, Mapping):
        tally = Tally()
        prompt = tally.count(usage, "prompt_tokens", required=True)
        tally.add("input_uncached", prompt)
        return tally.usage(_context(body, call, prompt), usage)
    return Usage(context=UsageContext(model_served=text_of(body, "model"), response_id=text_of(body, "id")))


def realtime(body: Mapping[str, Any], call: Call) -> Usage:
    """An event, or a response's usage as the ledger keeps it: the usage object, or the events that billed it where there were several."""
    kept = body.get("usage")
    if "type" in body or kept is None:
        return realtime_events([body], call)
    events = kept if isinstance(kept, list) else [{"type": "response.done", "response": {"usage": kept}}]
    session = {"session": {"model": text_of(body, "model")}}
    return realtime_events([session, *(event for event in events if isinstance(event, Mapping))], call)


def realtime_events(events: Sequence[Mapping[str, Any]], call: Call) -> Usage:
    """One bill for every `response.done`; the transcription of what the user said is a bill of its own, at its own model."""
    tally = Tally()
    raw: list[Any] = []
    asked = call.request.get("session", call.request)
    model, transcriber = "", _transcriber(asked) if isinstance(asked, Mapping) else ""
    for event in events:
        session = event.get("session")
        if isinstance(session, Mapping):
            model = text_of(session, "model") or model
            transcriber = _transcriber(session) or transcriber
        usage, kind = event.get("usage"), event.get("type")
        response = event.get("response")
        if kind == "response.done" and isinstance(response, Mapping) and response.get("usage") is not None:
            usage = response["usage"]
            if not isinstance(usage, Mapping):
                return unreadable("bad_section:usage", usage)
            tokens_of(tally, usage)
            raw.append(usage)
        elif kind == "conversation.item.input_audio_transcription.completed" and isinstance(usage, Mapping):
            part = _audio(usage, {}, call, plain_output="output_text")
            named = text_of(event, "model") or transcriber
            context = UsageContext(
                tier=part.context.tier, model_served=named or "input transcription (model not stated)"
            )
            tally.parts.append(Usage(buckets=part.buckets, context=context, raw=usage, measured=part.measured))
            tally.measured &= part.measured
            raw.append(usage)
        elif kind is None and "input_tokens" in event:
            tokens_of(tally, event)
            raw.append(event)
    if not raw:
        return _no_end(events)
    return tally.usage(UsageContext(regional=call.region, model_served=model), raw[0] if len(raw) == 1 else raw)


def _transcriber(session: Mapping[str, Any]) -> str:
    old = session.get("input_audio_transcription")
    audio = session.get("audio")
    inner = audio.get("input") if isinstance(audio, Mapping) else None
    new = inner.get("transcription") if isinstance(inner, Mapping) else None
    return next((text_of(where, "model") for where in (new, old) if isinstance(where, Mapping)), "")


def _no_end(events: Sequence[Mapping[str, Any]]) -> Usage:
    errors = [event for event in events if event.get("type") in ("error", "response.failed") or event.get("error")]
    return unbilled("provider_error") if errors and len(errors) == len(events) else unreadable("stream_without_usage")


def _context(body: Mapping[str, Any], call: Call, prompt: int, stated: Decimal | None = None) -> UsageContext:
    return UsageContext(
        tier=call.tier(body.get("service_tier")),
        batch=call.batch,
        regional=call.region,
        prompt_total=prompt,
        stated_cost_usd=stated,
        model_served=text_of(body, "model"),
        response_id=text_of(body, "id"),
    )
