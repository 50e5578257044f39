"""The worst case of a call before it is sent: the bound that a hold is made of (PROTOCOL.md, "The bound"; BILLING.md, "Bounds").

`amount = input bound x dearest input rate + answers x output limit x dearest output rate + fee caps`, on the body that will be *sent*.
Two steps: by bytes first, which costs nothing; by counting (`exact=True`) only when the first did not fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from billing.domain import pictures, sound, tokens
from billing.domain.counting import counted_usage
from billing.domain.extraction.common import Call
from billing.domain.limits import CHATS, BadLimit, choices, client_limit, limit_field, shape_of
from billing.domain.modalities import Contents, survey
from billing.domain.money import ceil_ratio
from billing.domain.plain import SMALLEST_ROOM, PlainTerms
from billing.domain.rates import STANDARD, Compiled, ModelMeta, Rates
from billing.domain.server_tools import ToolBound, bound_tools
from billing.domain.tokens import count_tokens

__all__ = ["BadLimit", "Quote", "count_tokens", "counted_usage", "limit_field", "quote"]


class Quote(msgspec.Struct, frozen=True, gc=False):
    """A proven maximum, or the reason why there is none (`refusal`; then `amount_nano` is None and a hard budget must refuse)."""

    amount_nano: int | None
    input_tokens_bound: int = 0
    output_tokens_cap: int = 0
    """Per answer. The gateway must send this limit whenever `output_limit_source` is not "client" or the client's is higher."""
    output_limit_source: str = "none"
    """client | default | model | none (the call has no output tokens)."""
    outputs: int = 1
    """Answers asked for: n, best_of, several prompts."""
    tokens_bound: int = 0
    refusal: str | None = None
    """model_not_priced | input_unbounded | output_unbounded | unpriced: what has no price or no bound, in words after the colon."""
    client_limit: int | None = None
    _fixed: int = 0
    _per_output: int = 0
    _denominator: int = 1
    _long: bool = False
    """The prompt may be over a threshold above which other rates hold."""

    def fits(self, remaining_nano: int) -> int | None:
        """The largest output limit per answer whose worst case is at most `remaining_nano`; None when not even 1 fits."""
        if self.amount_nano is None:
            return None
        if self.amount_nano <= remaining_nano:
            return self.output_tokens_cap
        if self._per_output == 0:
            return None
        limit = (remaining_nano * self._denominator - self._fixed) // self._per_output
        return min(limit, self.output_tokens_cap) if limit >= 1 else None

    def least(self, limit: int) -> int:
        """No way of counting the input makes the worst case at an output limit cheaper, in nano-USD. What costs something by bytes costs something
        when counted; how much the output costs is sure only where a shorter prompt has no other rates."""
        if not self.amount_nano:
            return 0
        return 1 if self._long else max(1, ceil_ratio(limit * self._per_output, self._denominator))

    def at_limit(self, limit: int) -> int:
        """The worst case in nano-USD when the output limit sent is `limit`."""
        if self.amount_nano is None:
            raise ValueError("a call without a bound has no price at a limit")
        return ceil_ratio(self._fixed + limit * self._per_output, self._denominator)


HIDDEN_PROMPT_TOKENS = {"xai": 1_000, "groq": 256, "perplexity": 256}
"""System prompts that providers put before ours and bill; 64 for the others."""
TOOL_PROMPT_TOKENS = 1_000
"""What Anthropic's tool-use and output-format instructions cost at most beside the schemas."""


@dataclass(slots=True)
class _Parts:
    """The pieces of a bound while it is put together."""

    text: int = 0
    image: int = 0
    audio: int = 0
    video: int = 0
    characters: int = 0
    audio_ms: int = 0
    refusals: list[str] = field(default_factory=list)


def quote(
    provider: str,
    endpoint: str,
    body: Mapping[str, Any],
    body_bytes: int,
    rates: Rates | None,
    *,
    model_meta: ModelMeta | None = None,
    exact: bool = False,
    default_limit: int | None = None,
    base_url: str = "",
) -> Quote:
    """The worst case of sending `body` (`body_bytes` long as JSON) at pinned rates. Raises BadLimit for an output limit that cannot be meant.

    `default_limit` is the key's own default output limit, used when the client gave none; `base_url` decides regional uplifts.
    """
    if rates is not None and not exact and model_meta is None:
        found = _plain(provider, endpoint, body, body_bytes, rates, default_limit, base_url)
        if found is not None:
            return found
    return careful_quote(
        provider,
        endpoint,
        body,
        body_bytes,
        rates,
        model_meta=model_meta,
        exact=exact,
        default_limit=default_limit,
        base_url=base_url,
    )


def _plain(
    provider: str,
    endpoint: str,
    body: Mapping[str, Any],
    body_bytes: int,
    rates: Rates,
    default_limit: int | None,
    base_url: str,
) -> Quote | None:
    """The quote of a plain chat; None for any other call."""
    where = provider, endpoint, base_url
    try:
        terms = rates.plain[where]
    except KeyError:
        if len(rates.plain) >= MOST_PLAIN:
            rates.plain.clear()
        terms = rates.plain[where] = _plain_terms(provider, endpoint, rates, base_url)
    if terms is None:
        return None
    found = terms.bound(body, body_bytes, default_limit)
    if found is None:
        return None
    text, limit, source, outputs, asked = found
    fixed = terms.fixed + text * terms.input_rate
    per_answers = terms.output_rate * outputs
    return Quote(
        ceil_ratio(fixed + limit * per_answers, terms.denominator),
        text,
        limit,
        source,
        outputs,
        text + limit * outputs,
        None,
        asked,
        fixed,
        per_answers,
        terms.denominator,
    )


MOST_PLAIN = 256
"""Addresses that a model's plain terms are kept for."""


def _plain_terms(provider: str, endpoint: str, rates: Rates, base_url: str) -> PlainTerms | None:
    """The terms of plain chats, from the careful reading of two of them; None where the model, the API or its provider is not so simple."""
    meta, path, model = rates.meta, endpoint.lower(), rates.model
    if (
        shape_of(provider, endpoint) not in CHATS
        or "/chat/completions" not in path
        or "batch" in path
        or "realtime" in path
        or sound.hears(path)
        or pictures.draws(path)
        or provider == "ollama"
        or not tokens.is_even(meta.tokenizer)
        or bound_tools(provider, model, {}, Contents()) != ToolBound()
    ):
        return None
    compiled = _rates(provider, {}, rates, _Parts(), Contents(), meta, base_url, endpoint)
    if compiled is None:
        return None
    one, per_output, hole = _amounts(compiled, rates, _Parts(text=1), Contents(messages=1), ToolBound(), {}, endpoint)
    two, _, _ = _amounts(compiled, rates, _Parts(text=2), Contents(messages=1), ToolBound(), {}, endpoint)
    if hole:
        return None
    empty = _input(provider, endpoint, {}, 0, replace(meta, context_window=0), Contents(), ToolBound(), exact=False)
    return PlainTerms(
        tokens_per_byte=tokens.bound_json(1, 0, meta.tokenizer) - tokens.bound_json(0, 0, meta.tokenizer),
        tokens_per_message=tokens.per_message(meta.tokenizer),
        tokens_besides=empty.text,
        window=meta.context_window * 11 // 10,
        most_prompt=rates.lowest_threshold,
        context_window=meta.context_window,
        most_output=meta.max_output_tokens or meta.context_window,
        input_rate=two - one,
        fixed=one - (two - one),
        output_rate=per_output,
        denominator=compiled.denominator,
    )


def careful_quote(
    provider: str,
    endpoint: str,
    body: Mapping[str, Any],
    body_bytes: int,
    rates: Rates | None,
    *,
    model_meta: ModelMeta | None = None,
    exact: bool = False,
    default_limit: int | None = None,
    base_url: str = "",
) -> Quote:
    """`quote` for every call, plain or not."""
    asked = client_limit(provider, endpoint, body)
    outputs = choices(provider, endpoint, body)
    if rates is None:
        model = body.get("model")
        return Quote(None, outputs=outputs, client_limit=asked, refusal=f"model_not_priced: {str(model)[:80]}")
    meta = model_meta or rates.meta
    if sound.hears(endpoint) or pictures.draws(
        endpoint
    ):  # bodies of another kind: nothing in them is a message or a tool
        contents, tools = Contents(), ToolBound()
    else:
        contents = survey(body, provider, rates.model, meta.image_tokens_cap, texts=exact)
        tools = bound_tools(provider, rates.model, body, contents)
    parts = _input(provider, endpoint, body, body_bytes, meta, contents, tools, exact)
    limit, source = _output(endpoint, body, meta, asked, default_limit, provider, rates)
    if source == "model":
        limit = _beside_the_prompt(limit, meta, parts)
    if source == "unbounded":
        parts.refusals.append(_unbounded(endpoint, body, rates))
    compiled = _rates(provider, body, rates, parts, contents, meta, base_url, endpoint)
    if compiled is None:
        tier = "batch" if "batch" in endpoint.lower() else str(body.get("speed") or body.get("service_tier"))[:40]
        parts.refusals.append(f"unpriced: service tier {tier!r}")
    parts.refusals += [f"input_unbounded: {reason}" for reason in contents.reasons]
    parts.refusals += [f"unpriced: {reason}" for reason in tools.reasons]
    fixed, per_output, hole = 0, 0, ""
    if compiled is not None and not parts.refusals:
        fixed, per_output, hole = _amounts(compiled, rates, parts, contents, tools, body, endpoint)
        if hole:
            parts.refusals.append(f"unpriced: {hole}")
    input_bound = parts.text + parts.image + parts.audio + parts.video
    if compiled is None or parts.refusals:
        return Quote(
            None,
            input_tokens_bound=input_bound,
            output_tokens_cap=limit,
            output_limit_source="none" if source == "unbounded" else source,
            outputs=outputs,
            client_limit=asked,
            refusal=parts.refusals[0],
        )
    extra = _prediction_tokens(body, meta)
    per_answers = per_output * outputs
    fixed += extra * per_output
    if source == "none":  # nobody can lower what the API takes no limit for
        fixed, per_answers = fixed + limit * per_answers, 0
    return Quote(
        ceil_ratio(fixed + limit * per_answers, compiled.denominator),
        input_tokens_bound=input_bound,
        output_tokens_cap=limit,
        output_limit_source=source,
        outputs=outputs,
        tokens_bound=input_bound + limit * outputs + extra,
        client_limit=asked,
        _fixed=fixed,
        _per_output=per_answers,
        _denominator=compiled.denominator,
        _long=compiled.long_context,
    )


def _input(
    provider: str,
    endpoint: str,
    body: Mapping[str, Any],
    body_bytes: int,
    meta: ModelMeta,
    contents: Contents,
    tools: ToolBound,
    exact: bool,
) -> _Parts:
    parts = _Parts()
    family = meta.tokenizer
    path = endpoint.lower()
    if sound.hears(path):
        _audio(path, body, parts)
        return parts
    if pictures.draws(path):
        parts.text = tokens.bound(str(body.get("prompt") or ""), family) + HIDDEN_PROMPT_TOKENS.get(provider, 64)
        files = body.get("image_files")
        parts.image = pictures.INPUT_TOKENS * files if type(files) is int else 0
        return parts
    if "/realtime" in path:
        parts.refusals.append("input_unbounded: a realtime session has no end")
    if "batch" in path and not any(key in body for key in ("messages", "contents", "input", "prompt")):
        parts.refusals.append("input_unbounded: a batch's calls are not in its body")
    strange = 0 if tokens.is_even(family) else tokens.other_bytes(body)
    text = tokens.bound_json(max(body_bytes - contents.media_bytes, 0), strange, family)
    if exact:
        rest = {
            key: value
            for key, value in body.items()
            if key
            in (
                "tools",
                "functions",
                "response_format",
                "text",
                "output_config",
                "tool_choice",
                "toolConfig",
                "outputConfig",
            )
        }
        counted = sum(tokens.count_tokens(piece, family)[0] for piece in contents.texts)
        counted += tokens.bound(_compact(rest), family) if rest else 0
        text = min(text, counted)
    text += tokens.per_message(family) * (contents.messages + 1) + HIDDEN_PROMPT_TOKENS.get(provider, 64)
    text += tools.overhead_tokens + contents.document_tokens
    if family == "claude" and (contents.tools or "output_config" in body):
        text += TOOL_PROMPT_TOKENS
    window = meta.context_window * 11 // 10
    media = [contents.image_tokens, contents.audio_tokens, contents.video_tokens]
    if contents.stateful or tools.rounds:
        if not window:
            parts.refusals.append("input_unbounded: the context window is not known")
        text = window * (tools.rounds + 1)
        media = [tokens_of * (tools.rounds + 1) for tokens_of in media]
    elif window:  # a longer prompt is refused by the provider, unbilled
        text = min(text, window)
        media = [min(tokens_of, window) for tokens_of in media]
    parts.text, (parts.image, parts.audio, parts.video) = text, media
    return parts


def _compact(value: Any) -> str:
    """As JSON without spaces. The slow way is for values that no JSON body has."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def _audio(path: str, body: Mapping[str, Any], parts: _Parts) -> None:
    """Speech is bounded by its text, transcription by the length of its file (`file_bytes`, which the gateway adds to a form's fields)."""
    spoken = body.get("input")
    odd = sound.odd_field(body)
    if odd:
        parts.refusals.append(f"unpriced: the field {odd!r}")
    if "/speech" in path:
        if not isinstance(spoken, str):
            parts.refusals.append("input_unbounded: input must be text")
            return
        parts.characters = len(spoken)
        parts.text = tokens.bound(spoken + str(body.get("instructions") or ""), "bytes")
        return
    size = body.get("file_bytes")
    if type(size) is not int or size < 0:
        parts.refusals.append("input_unbounded: the length of the audio is not known")
        return
    parts.audio_ms = sound.most_ms(size)
    parts.audio = sound.MOST_AUDIO_TOKENS_PER_S * parts.audio_ms // 1000
    parts.text = tokens.bound(str(body.get("prompt") or "") + str(body.get("keywords[]") or ""), "bytes") + 64


def _output(
    endpoint: str,
    body: Mapping[str, Any],
    meta: ModelMeta,
    asked: int | None,
    default: int | None,
    provider: str,
    rates: Rates,
) -> tuple[int, str]:
    shape = shape_of(provider, endpoint)
    if not shape.has_output:
        return 0, "none"
    path = endpoint.lower()
    if "/audio/speech" in path:
        spoken = body.get("input")
        return 25 * len(spoken) + 1_000 if isinstance(spoken, str) else 0, "none"
    if pictures.draws(path):
        most, why = pictures.output_tokens(body, rates)
        return most, "unbounded" if why else "none"
    if sound.hears(path):
        return meta.max_output_tokens or 16_384, "none"
    most = meta.max_output_tokens or meta.context_window
    if asked is not None:
        return (min(asked, most) if most else asked), "client"
    if default is not None:
        return (min(default, most) if most else default), "default"
    return (most, "model") if most else (0, "unbounded")


def _beside_the_prompt(limit: int, meta: ModelMeta, parts: _Parts) -> int:
    """Where a model's maximum is its whole context window, a provider refuses a limit that leaves no room for the prompt."""
    if limit * 4 <= meta.context_window * 3:
        return limit
    return max(meta.context_window - parts.text - parts.image - parts.audio - parts.video, min(limit, SMALLEST_ROOM))


def _unbounded(endpoint: str, body: Mapping[str, Any], rates: Rates) -> str:
    if pictures.draws(endpoint):
        return f"output_unbounded: {pictures.output_tokens(body, rates)[1]}"
    return "output_unbounded: the model's maximum is not known, send an output limit"


def _rates(
    provider: str,
    body: Mapping[str, Any],
    rates: Rates,
    parts: _Parts,
    contents: Contents,
    meta: ModelMeta,
    base_url: str,
    endpoint: str,
) -> Compiled | None:
    asked = body.get("service_tier")
    tiers = {STANDARD}
    if "batch" in endpoint.lower():
        tiers = {"batch"}  # without a price of its own it has none
    elif asked == "auto":
        tiers = set(rates.tiers - {"batch", "fast"}) or tiers
        if provider == "anthropic":
            tiers = {STANDARD}
    elif isinstance(asked, str) and asked not in ("default", "standard", "standard_only", "on_demand"):
        wanted = "priority" if asked == "fast" else asked
        if provider == "anthropic" and wanted == "priority":
            return None
        tiers = {STANDARD, wanted}  # it may be served, and billed, as the standard tier
    if body.get("speed") == "fast":
        tiers = {STANDARD, "fast"}
    regional = bool(Call(provider, endpoint, body, base_url=base_url).region)
    if provider == "anthropic" and body.get("inference_geo") != "global":  # the workspace's default can set it unasked
        regional = True
    if rates.free:
        tiers = {STANDARD}
    prompt = parts.text + parts.image + parts.audio + parts.video
    return rates.dearest(sorted(tiers), prompt, regional)


def _amounts(
    compiled: Compiled,
    rates: Rates,
    parts: _Parts,
    contents: Contents,
    tools: ToolBound,
    body: Mapping[str, Any],
    endpoint: str,
) -> tuple[int, int, str]:
    """(cost that does not depend on the output limit, cost of one output token, what has no price)."""
    if rates.free:
        return 0, 0, ""
    fixed, hole = _input_cost(compiled.numerators, rates, parts, contents, body)
    if hole:
        return 0, 0, hole
    for fee, quantity in tools.fees.items():
        if fee not in compiled.numerators:
            return 0, 0, f"the fee {fee} has no rate"
        fixed += quantity * compiled.numerators[fee]
    fixed += max((rate for unit, rate in compiled.numerators.items() if unit.startswith("request")), default=0)
    if pictures.draws(endpoint) and pictures.by_the_piece(compiled.numerators):
        unit = pictures.piece_unit(body, compiled.numerators)
        if not unit:
            return 0, 0, "a picture of this quality and size has no rate"
        fixed += compiled.numerators[unit] * choices(rates.provider, endpoint, body)
    per_output, hole = _output_rate(compiled.numerators, rates, body, endpoint)
    return fixed, per_output, hole


BY_UNIT = frozenset({"characters", "audio_milliseconds"})


def _by_unit(numerators: Mapping[str, int]) -> bool:
    """A unit prices the whole call, so that the model need not have a token rate."""
    return bool(BY_UNIT & numerators.keys()) or pictures.by_the_piece(numerators)


def _input_cost(
    numerators: Mapping[str, int], rates: Rates, parts: _Parts, contents: Contents, body: Mapping[str, Any]
) -> tuple[int, str]:
    text = _text_units(numerators, rates, contents, body)
    cost = 0
    for quantity, units in (
        (parts.text, text),
        (parts.image, ("input_image", "input_image_cached", *text)),
        (parts.audio, () if "audio_milliseconds" in numerators else ("input_audio", "input_audio_cached")),
        (parts.video, ("input_video", "input_audio", *text)),
        (parts.characters, ("characters",)),
        (parts.audio_ms, ("audio_milliseconds",)),
    ):
        if not quantity:
            continue
        usable = [numerators[unit] for unit in units if unit in numerators]
        if usable:
            cost += quantity * max(usable)
        elif units and not set(units) <= BY_UNIT and not _by_unit(numerators):
            return 0, f"{units[0]} has no rate"
    return cost, ""


def _text_units(
    numerators: Mapping[str, int], rates: Rates, contents: Contents, body: Mapping[str, Any]
) -> tuple[str, ...]:
    """The units that a prompt token of this request can be billed as: the dearest of them bounds it."""
    units = ["input_uncached", "cache_read", "tool_input"]
    writes_only_when_asked = rates.provider in ("anthropic", "bedrock") or "claude" in rates.model
    if contents.cache_write or not writes_only_when_asked:
        units += ["cache_write_5m", "cache_write_30m"]
    if contents.cache_write == "1h":
        units.append("cache_write_1h")
    if body.get("prompt_cache_retention") not in (None, "in_memory") or isinstance(
        body.get("prompt_cache_options"), Mapping
    ):
        units.append("cache_write_12h")
    return tuple(units)


def _output_rate(
    numerators: Mapping[str, int], rates: Rates, body: Mapping[str, Any], endpoint: str
) -> tuple[int, str]:
    units = ["output_text", "output_image", "output_video"]
    if "output_audio" in numerators:
        units.append("output_audio")
    elif _wants(body, "audio"):
        return 0, "output_audio has no rate"
    usable = [numerators[unit] for unit in units if unit in numerators]
    if not usable and shape_of(rates.provider, endpoint).has_output and not _by_unit(numerators):
        return 0, "output_text has no rate"
    return max(usable, default=0), ""


def _wants(body: Mapping[str, Any], medium: str) -> bool:
    config = body.get("generationConfig")
    for asked in (body.get("modalities"), config.get("responseModalities") if isinstance(config, Mapping) else None):
        if isinstance(asked, list) and any(isinstance(item, str) and item.lower() == medium for item in asked):
            return True
    return False


def _prediction_tokens(body: Mapping[str, Any], meta: ModelMeta) -> int:
    """Rejected prediction tokens are billed as output beside what the limit counts."""
    prediction = body.get("prediction")
    if not isinstance(prediction, Mapping):
        return 0
    return tokens.bound(json.dumps(prediction, ensure_ascii=False, default=str), meta.tokenizer)
