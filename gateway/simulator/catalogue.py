"""The simulator's models and prices: its own price list, read by nobody else."""

from __future__ import annotations

from dataclasses import dataclass, replace

NANO_PER_USD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Model:
    """Rates are integer nano-dollars per million tokens."""

    name: str
    input_rate: int
    cached_rate: int
    output_rate: int
    hides_reasoning: bool = False
    embeds: bool = False
    medium: str = ""
    """image, speech, hearing or talk for what is not asked in words. Its "input tokens" are then prompt tokens, characters or milliseconds."""
    context: int = 128_000
    max_output: int = 16_384

    def cost_nano(self, *, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
        """The price of one response; `cached_tokens` are a subset of `input_tokens`. Exact, then rounded up once."""
        if not 0 <= cached_tokens <= input_tokens or output_tokens < 0:
            raise ValueError(f"impossible usage: {input_tokens=} {cached_tokens=} {output_tokens=}")
        per_million = (
            (input_tokens - cached_tokens) * self.input_rate
            + cached_tokens * self.cached_rate
            + output_tokens * self.output_rate
        )
        return -(-per_million // 1_000_000)


def _usd(dollars_per_million: str) -> int:
    whole, _, decimals = dollars_per_million.partition(".")
    return int(whole) * NANO_PER_USD + int(decimals.ljust(9, "0"))


def _model(
    name: str,
    usd_in: str,
    usd_out: str,
    *,
    cached: str = "",
    hides_reasoning: bool = False,
    embeds: bool = False,
    medium: str = "",
) -> Model:
    rate = _usd(usd_in)
    cached_rate = _usd(cached) if cached else rate // 2
    return Model(name, rate, cached_rate, _usd(usd_out), hides_reasoning=hides_reasoning, embeds=embeds, medium=medium)


def _guest(model: Model, max_output: int) -> Model:
    return replace(model, max_output=max_output)


MODELS = {
    model.name: model
    for model in (
        _model("sim-small", "0.15", "0.60"),
        _model("sim-large", "2.50", "10.00"),
        _model("sim-reasoner", "1.25", "10.00", hides_reasoning=True),
        _model("sim-instant", "0.15", "0.60"),
        _model("sim-embed", "0.02", "0.00", embeds=True),
        _model("sim-image", "5.00", "40.00", medium="image"),
        _model("sim-tts", "15.00", "0.00", medium="speech"),
        _model("sim-hear", "0.10", "0.00", medium="hearing"),
        replace(
            _model("sim-realtime", "4.00", "16.00", cached="0.40", medium="talk"), context=32_000, max_output=4_096
        ),
    )
}


GUESTS = {
    model.name: model
    for model in (
        _guest(_model("claude-sonnet-4-5", "3.00", "15.00", cached="0.30"), 64_000),
        _guest(_model("gemini-2.5-flash", "0.30", "2.50", cached="0.03"), 65_536),
        _model("gpt-4o-mini", "0.15", "0.60", cached="0.075"),
        _model("gpt-3.5-turbo-instruct", "1.50", "2.00"),
        _model("text-embedding-3-small", "0.02", "0.00", embeds=True),
        _model("gemini-embedding-001", "0.15", "0.00", embeds=True),
        _model("gpt-image-1", "5.00", "40.00", medium="image"),
        _model("tts-1", "15.00", "0.00", medium="speech"),
        _model("gpt-4o-mini-tts", "0.60", "12.00", medium="speech"),
        replace(
            _model("gpt-realtime", "4.00", "16.00", cached="0.40", medium="talk"), context=32_000, max_output=4_096
        ),
        _model("whisper-1", "0.10", "0.00", medium="hearing"),
        _model("gpt-4o-mini-transcribe", "1.25", "5.00", medium="hearing"),
    )
}
"""Names of others that it answers to, at their makers' list prices: a provider's own surface can be tried before its key is at hand."""


def find(name: str) -> tuple[Model, str] | None:
    """A model name as the client wrote it -> the model and the text of its script: `sim-small:drip,ms=50`, `fake-no-usage`.

    `fake-<script>` is sim-small playing that script. None for a name that is not on the list.
    """
    base, _, script = name.removeprefix("models/").partition(":")
    if base.startswith("fake-"):
        return MODELS["sim-small"], base.removeprefix("fake-") + ("," + script if script else "")
    model = MODELS.get(base) or GUESTS.get(base)
    return (model, script) if model else None
