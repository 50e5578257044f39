"""The worst case of one response of a realtime session: what its hold is made of. Pure.

A session has no bound, its next response has one: everything that the conversation can hold by then (never more than the model's context
window, to which the provider cuts it) at the dearest input rate, the output limit at the dearest output rate, and the transcription of
the sound that nobody has billed yet. Sources: developers.openai.com/api/docs/guides/realtime-costs (a response is billed for the whole
conversation; user audio is a token for each 100 ms; transcription has a bill of its own) and the SDK's RealtimeSessionCreateRequest (an
output limit is 1 to 4096, or "inf").
"""

from __future__ import annotations

import msgspec

from billing.domain.extraction.common import Call
from billing.domain.money import ceil_ratio
from billing.domain.quote import Quote
from billing.domain.rates import STANDARD, Compiled, Rates

ENDPOINT = "/v1/realtime"
MOST_LIMIT = 4_096
"""The highest number that the API takes as an output limit; a model's own maximum may be higher ("inf")."""
AUDIO_TOKENS_PER_S = 12
"""10 are billed; the rest is for what a bound must not miss (padding before speech, rounding up by piece)."""
TRANSCRIPT_TOKENS_PER_S = 25
"""Text that one second of speech can become, with room."""
HIDDEN_TOKENS = 1_000
"""Of a provider's own default instructions and framing."""
MOST_TOKENS = 10_000_000
"""No conversation is longer; a bound above it says that there is none."""
_INPUT = (
    "input_uncached", "cache_read", "cache_write_5m", "cache_write_30m", "input_audio", "input_audio_cached", "input_image",
    "input_image_cached",
)  # fmt: skip
_OUTPUT = ("output_text", "output_audio", "output_image")


class Ahead(msgspec.Struct, frozen=True):
    """What the next response may consume at most."""

    input_tokens: int
    """Of the conversation; cut to the model's context window."""
    output_limit: int | None
    """As the provider knows it; None: the model's maximum."""
    limit_is_clients: bool = False
    heard_ms: int = 0
    """Sound that may still be transcribed; 0 where nothing is."""
    transcriber: str = ""
    answered: bool = True
    """False: no response comes of it, only what was heard is transcribed."""

    def covers(self, other: Ahead) -> bool:
        """Whether a hold for this is enough for the other."""
        limit = self.output_limit is None or (
            other.output_limit is not None and other.output_limit <= self.output_limit
        )
        heard = not other.transcriber or (self.transcriber == other.transcriber and self.heard_ms >= other.heard_ms)
        if not other.answered:
            return heard
        return self.answered and limit and heard and self.input_tokens >= other.input_tokens


def window_of(rates: Rates | None) -> int:
    """The most input tokens of one response; 0 when nobody knows."""
    return 0 if rates is None else rates.meta.context_window * 11 // 10


def answers(rates: Rates) -> bool:
    """Whether the model is billed by its responses. The others (translation, live) are billed by the length of a session."""
    compiled = rates.compiled()
    if rates.free or compiled is None:
        return True
    return "audio_milliseconds" not in compiled.numerators and "output_text" in compiled.numerators


def hears(rates: Rates) -> bool:
    """Whether the model writes down what it hears, and is billed for that: by the length of the sound, or by its tokens."""
    compiled = rates.compiled()
    return rates.free or (
        compiled is not None
        and rates.meta.mode == "audio_transcription"
        and not {"audio_milliseconds", "input_audio"}.isdisjoint(compiled.numerators)
    )


def quote(rates: Rates | None, provider: str, model: str, ahead: Ahead, base_url: str = "") -> Quote:
    """The worst case of the next response at pinned rates, or why there is none."""
    if rates is None:
        return Quote(None, input_tokens_bound=ahead.input_tokens, refusal=f"model_not_priced: {model[:80]}")
    if not ahead.answered:
        return _of_transcripts(rates, ahead)
    window = window_of(rates)
    tokens = min(ahead.input_tokens, window) if window else ahead.input_tokens
    most = rates.meta.max_output_tokens or rates.meta.context_window
    limit = most if ahead.output_limit is None else min(ahead.output_limit, most or ahead.output_limit)
    source = "client" if ahead.limit_is_clients else "model"
    regional = bool(Call(provider, ENDPOINT, {}, base_url=base_url).region)
    compiled = rates.dearest([STANDARD], tokens, regional)
    transcript_nano, hole = _transcript(rates, ahead)
    if compiled is None:
        hole = "unpriced: no standard rates"
    elif not limit:
        hole = "output_unbounded: the model's maximum is not known"
    elif not window and tokens > MOST_TOKENS:
        hole = "input_unbounded: the context window is not known"
    if compiled is None or hole:
        return Quote(None, input_tokens_bound=tokens, output_tokens_cap=limit, output_limit_source=source, refusal=hole)
    input_rate, output_rate = _dearest(compiled, _INPUT), _dearest(compiled, _OUTPUT)
    if not rates.free and (not input_rate or not output_rate):
        return Quote(
            None,
            input_tokens_bound=tokens,
            output_tokens_cap=limit,
            output_limit_source=source,
            refusal="unpriced: no rate for tokens",
        )
    fixed = tokens * input_rate + transcript_nano * compiled.denominator
    return Quote(
        ceil_ratio(fixed + limit * output_rate, compiled.denominator),
        input_tokens_bound=tokens,
        output_tokens_cap=limit,
        output_limit_source=source,
        tokens_bound=tokens + limit,
        client_limit=limit if ahead.limit_is_clients else None,
        _fixed=fixed,
        _per_output=output_rate,
        _denominator=compiled.denominator,
    )


def _of_transcripts(rates: Rates, ahead: Ahead) -> Quote:
    """Of sound alone; its tokens are counted as of the conversation."""
    nano, hole = _transcript(rates, ahead)
    tokens = ceil_ratio(ahead.heard_ms * (AUDIO_TOKENS_PER_S + TRANSCRIPT_TOKENS_PER_S), 1000)
    return Quote(
        None if hole else nano,
        input_tokens_bound=tokens,
        tokens_bound=tokens,
        refusal=hole or None,
        _fixed=nano,
    )


def _dearest(compiled: Compiled, units: tuple[str, ...]) -> int:
    return max((compiled.numerators[unit] for unit in units if unit in compiled.numerators), default=0)


def _transcript(rates: Rates, ahead: Ahead) -> tuple[int, str]:
    """(nano-USD of transcribing all that was heard, what has no price)."""
    if not ahead.transcriber or rates.free:
        return 0, ""
    own = rates.served(ahead.transcriber)
    compiled = None if own is None else own.compiled()
    if own is None or compiled is None:
        return 0, f"model_not_priced: {ahead.transcriber[:80]}"
    if "audio_milliseconds" in compiled.numerators:
        return ceil_ratio(ahead.heard_ms * compiled.numerators["audio_milliseconds"], compiled.denominator), ""
    heard, written = _dearest(compiled, _INPUT), _dearest(compiled, _OUTPUT)
    if not heard and not own.free:
        return 0, f"unpriced: {ahead.transcriber[:80]}"
    tokens = heard * AUDIO_TOKENS_PER_S + written * TRANSCRIPT_TOKENS_PER_S
    return ceil_ratio(ahead.heard_ms * tokens, compiled.denominator * 1000), ""
