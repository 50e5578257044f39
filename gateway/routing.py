"""Which provider a model is asked of, with which credential: from the name the client wrote and what the workspace has.

0. An alias of the workspace stands for its targets, in their order. 1. `provider/model` names its provider. 2. Otherwise the first provider (in
the registry's order) whose price list knows the model. 3. Otherwise the workspace's only credential for a server of its own kind
(openai_compatible, ollama), whose models nobody lists. 4. Otherwise 404.

At a provider the credentials of the lowest priority come first, in the shares of their weights.
"""

from __future__ import annotations

import difflib
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from django.conf import settings

from billing.domain.pricing import PriceBook, Rates
from gateway.endpoints import (
    CHAT,
    COMPLETIONS,
    EMBED_GEMINI,
    EMBEDDINGS,
    GENERATE,
    IMAGES,
    MODERATIONS,
    REALTIME,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
)
from gateway.errors import NotAllowed, ProviderUnreachable, UnknownModel
from gateway.providers.registry import PROVIDERS, Provider
from gateway.upstream import BadBaseUrl, Origin, parse_base_url
from guardrails.policy import Grant
from guardrails.routes import Credential, Tiers
from workspaces.domain.routes import Alias, Target

UNLISTED = ("openai_compatible", "ollama")
MAX_SUGGESTIONS = 3
MOST_KNOWN = 4096
"""Routes that one policy remembers: models and environments come from clients."""
ALIAS_OWNER = "workspace"
"""Who owns an alias, in a list of models."""


class Route(msgspec.Struct, frozen=True):
    """Where one attempt goes."""

    provider: Provider
    credential: Credential
    model: str
    """As the provider knows it."""
    rates: Rates | None
    """Pinned: a price that changes while the call runs does not change this call."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model in the list that a client sees."""

    id: str
    owned_by: str


def plan(
    grant: Grant, model: str, environment: str, book: PriceBook, now_s: int, endpoint: str, *, free: bool = False
) -> Route:
    """The first route of a call to one of `gateway.endpoints`. Raises UnknownModel, NotAllowed.

    What was found is kept with the policy for the rest of the second: the same key, prices and question have the same answer then.
    `free`: the call costs nothing, so whoever serves the endpoint may be asked for a model that no price list has.
    """
    name = (model, environment, endpoint, grant.key.id)
    known = grant.policy.memo.get(name)
    if known is not None and known[0] == now_s and known[1] is grant.key and known[2] is book:
        before: Route = known[3]
        return before
    if grant.policy.routes.aliases:
        alias = grant.policy.routes.aliases.get(model)
        if alias is not None:
            return _through(alias, grant, environment, book, now_s, endpoint)[0]
    route = _plain(grant, model, environment, book, now_s, endpoint)
    if route is None and free:
        serving = (provider for provider in PROVIDERS.values() if provider.serves(endpoint, model))
        routes = (_to(grant, provider, model, environment, book, now_s) for provider in serving)
        route = next((found for found in routes if found is not None), None)
    if route is None:
        for provider in PROVIDERS.values():  # known, but not by this API?
            if provider.name in grant.policy.credentials and _knows(provider, model, book, now_s):
                raise _elsewhere(model, provider.name, endpoint)
        raise _unknown(grant, model, environment, book)
    if not _allowed(grant, route.provider.name, route.model, model):
        raise _not_allowed(model)
    if not free and len(_tiers(grant, route.provider.name, environment)[0]) == 1:  # nothing in it was left to chance
        if len(grant.policy.memo) >= MOST_KNOWN:
            grant.policy.memo.clear()
        grant.policy.memo[name] = now_s, grant.key, book, route
    return route


def every(
    grant: Grant, model: str, environment: str, book: PriceBook, now_s: int, endpoint: str, *, kept_by: str = ""
) -> list[Route]:
    """All routes of a call in the order in which they are tried: the targets of an alias, at each the credentials that may be used.

    `kept_by`: the credential that keeps what the call goes on from; then there is no other one.
    """
    alias = grant.policy.routes.aliases.get(model)
    if alias is not None:
        routes = _through(alias, grant, environment, book, now_s, endpoint)
    else:
        first = plan(grant, model, environment, book, now_s, endpoint)
        tiers = _tiers(grant, first.provider.name, environment)
        routes = [Route(first.provider, credential, first.model, first.rates) for credential in _shuffled(tiers)]
    return keeping(routes, grant, kept_by) if kept_by else routes


def keeping(routes: list[Route], grant: Grant, credential_id: str) -> list[Route]:
    """The first of the routes by the credential that keeps what the call goes on from, where it is one of that provider's; else all."""
    first = routes[0]
    found = (one for one in grant.policy.credentials.get(first.provider.name, ()) if one.id == credential_id)
    credential = next(found, None)
    return routes if credential is None else [msgspec.structs.replace(first, credential=credential)]


def credentials_of(grant: Grant, provider: str, environment: str) -> list[Credential]:
    """The credentials that a key may use at a provider, for what names no model: in the order in which they are to be tried."""
    return _shuffled(_tiers(grant, provider, environment))


def offers(grant: Grant, book: PriceBook, endpoint: str) -> list[Offer]:
    """The models a key can use through an endpoint, each once, under the provider that would serve it."""
    environment = grant.key.pins.get("environment", "")
    found: dict[str, Offer] = _aliases(grant, environment, book, endpoint)
    for name, provider in PROVIDERS.items():
        if not provider.serves_any(endpoint) or not _tiers(grant, name, environment):
            continue
        for model in book.models(name):
            meta = book.meta(name, model)
            if (
                model not in found
                and meta is not None
                and model.startswith(provider.models)
                and (through := _door(endpoint, meta.mode)) is not None
                and provider.serves(through, model)
                and _allowed(grant, name, model, model)
            ):
                found[model] = Offer(model, name)
    return sorted(found.values(), key=lambda offer: offer.id)


def _aliases(grant: Grant, environment: str, book: PriceBook, endpoint: str) -> dict[str, Offer]:
    """Those that would find a route for this key."""
    found = {}
    for name, alias in grant.policy.routes.aliases.items():
        try:
            _through(alias, grant, environment, book, int(time.time()), endpoint)
        except (NotAllowed, UnknownModel):
            continue
        found[name] = Offer(name, ALIAS_OWNER)
    return found


_BY_MODE = {
    "": CHAT, "chat": CHAT, "responses": RESPONSES, "completion": COMPLETIONS, "embedding": EMBEDDINGS, "moderation": MODERATIONS,
    "image_generation": IMAGES, "audio_speech": SPEECH, "audio_transcription": TRANSCRIPTIONS,
    "realtime": REALTIME,
}  # fmt: skip
"""What a model is for -> the endpoint of OpenAI's that it is asked through."""


def _door(endpoint: str, mode: str) -> str | None:
    """The endpoint of the same surface that a model of this mode is asked through; None where there is none."""
    if endpoint == CHAT:
        return _BY_MODE.get(mode)
    if endpoint == GENERATE and mode == "embedding":
        return EMBED_GEMINI
    return (
        endpoint
        if mode in ("", "chat") or (endpoint == GENERATE and mode in ("image_generation", "audio_speech"))
        else None
    )


def target(route: Route) -> tuple[Origin, str]:
    """The origin and path prefix of a route. Raises ProviderUnreachable when the credential's base URL may not be used."""
    base_url = base_url_of(route)
    try:
        return parse_base_url(base_url, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    except BadBaseUrl as error:
        raise ProviderUnreachable(
            f"The base URL of the credential for {route.provider.name} cannot be used. {error}",
            code="base_url_refused",
            hint="An administrator can correct it under Providers.",
        ) from None


def base_url_of(route: Route) -> str:
    own = route.credential.base_url or (str(settings.SIMULATOR_URL) if route.provider.name == "simulator" else "")
    return route.provider.access.address(route.credential.settings, own)


def _plain(grant: Grant, model: str, environment: str, book: PriceBook, now_s: int, endpoint: str) -> Route | None:
    """The route of a model that is no alias. Raises UnknownModel where its name says a provider that cannot be asked."""
    provider_name, _, rest = model.partition("/")
    if rest and provider_name in PROVIDERS:
        return _named(grant, PROVIDERS[provider_name], model, rest, environment, book, now_s, endpoint)
    for name, provider in PROVIDERS.items():
        if (
            name in grant.policy.credentials
            and provider.serves(endpoint, model)
            and _knows(provider, model, book, now_s)
        ):
            route = _to(grant, provider, model, environment, book, now_s)
            if route is None and name in grant.key.credentials:
                raise _no_credential(grant, name)
            break
    else:
        route = None
    return route or _unlisted(grant, model, environment, book, now_s, endpoint)


def _named(
    grant: Grant,
    provider: Provider,
    asked: str,
    model: str,
    environment: str,
    book: PriceBook,
    now_s: int,
    endpoint: str,
) -> Route:
    if not provider.serves(endpoint, model):
        raise _elsewhere(asked, provider.name, endpoint)
    route = _to(grant, provider, model, environment, book, now_s)
    if route is None:
        raise _no_credential(grant, provider.name)
    return route


def _through(alias: Alias, grant: Grant, environment: str, book: PriceBook, now_s: int, endpoint: str) -> list[Route]:
    """The routes of an alias, at least one. A key that may use the alias may use all it stands for; another one those targets it may use."""
    routes: list[Route] = []
    refusal: Exception | None = None
    for place in alias.targets:
        provider = PROVIDERS.get(place.provider)
        if provider is None or not provider.serves(endpoint, place.model):
            refusal = refusal or _elsewhere(alias.name, place.provider, endpoint)
        elif not _allowed(grant, place.provider, place.model, alias.name):
            refusal = refusal or _not_allowed(alias.name)
        else:
            rates = book.rates_at(place.provider, place.model, now_s)
            found = _at(grant, place, environment)
            routes.extend(Route(provider, credential, place.model, rates) for credential in found)
            if not found:
                refusal = refusal or _no_credential(grant, place.provider)
    if not routes:
        raise refusal or _no_credential(grant, alias.name)
    return routes


def _at(grant: Grant, place: Target, environment: str) -> list[Credential]:
    """The credentials for a target, in the order of their use."""
    if not place.credential:
        return _shuffled(_tiers(grant, place.provider, environment))
    pinned = grant.key.credentials.get(place.provider)
    if pinned is not None and place.credential not in pinned:
        return []
    return [one for one in grant.policy.credentials.get(place.provider, ()) if one.id == place.credential]


def _tiers(grant: Grant, provider: str, environment: str) -> Tiers:
    return grant.policy.tiers(provider, environment, grant.key.credentials.get(provider))


def _shuffled(tiers: Tiers) -> list[Credential]:
    """Each tier in an order by chance in which each credential is as often the first as its weight says."""
    ordered: list[Credential] = []
    for tier in tiers:
        left = list(tier)
        while left:
            chosen = _chosen(left)
            left.remove(chosen)
            ordered.append(chosen)
    return ordered


def _chosen(tier: Sequence[Credential]) -> Credential:
    if len(tier) == 1:
        return tier[0]
    return random.choices(tier, [credential.weight for credential in tier])[0]


def _knows(provider: Provider, model: str, book: PriceBook, now_s: int) -> bool:
    """Its price list has the model. A list can hold models that the provider sells through another door (`models`)."""
    name = provider.name
    return name not in UNLISTED and model.startswith(provider.models) and book.rates_at(name, model, now_s) is not None


def _unlisted(grant: Grant, model: str, environment: str, book: PriceBook, now_s: int, endpoint: str) -> Route | None:
    own = [name for name in UNLISTED if _tiers(grant, name, environment) and PROVIDERS[name].serves(endpoint, model)]
    return _to(grant, PROVIDERS[own[0]], model, environment, book, now_s) if len(own) == 1 else None


def _to(grant: Grant, provider: Provider, model: str, environment: str, book: PriceBook, now_s: int) -> Route | None:
    tiers = _tiers(grant, provider.name, environment)
    if not tiers:
        return None
    return Route(provider, _chosen(tiers[0]), model, book.rates_at(provider.name, model, now_s))


def _allowed(grant: Grant, provider: str, model: str, asked: str) -> bool:
    allowed = grant.key.allowed_models
    return not allowed or not allowed.isdisjoint((asked, model, f"{provider}/{model}"))


def _not_allowed(model: str) -> NotAllowed:
    return NotAllowed(
        f"This key may not use the model '{model}'.",
        param="model",
        code="model_not_allowed",
        hint="Use one of the models of this key (GET /v1/models), or ask an administrator to allow it.",
    )


def _no_credential(grant: Grant, provider: str) -> UnknownModel:
    if provider in grant.key.credentials:
        return UnknownModel(
            f"The credential for {provider} that this key is pinned to is disabled or was deleted.",
            param="model",
            code="provider_not_configured",
            hint="An administrator can pin the key to another credential, or enable that one.",
        )
    return UnknownModel(
        f"The workspace has no credential for {provider}.",
        param="model",
        code="provider_not_configured",
        hint="An administrator can add one under Providers.",
    )


def _elsewhere(model: str, provider: str, endpoint: str) -> UnknownModel:
    return UnknownModel(
        f"The model '{model}' is served by {provider}, which is not reached through {endpoint}.",
        param="model",
        code="model_not_on_endpoint",
        facts={"provider": provider},
        hint="POST /v1/chat/completions reaches every provider; the other APIs reach those that speak them.",
    )


def _unknown(grant: Grant, model: str, environment: str, book: PriceBook) -> UnknownModel:
    known = _names(grant, environment, book)
    near = difflib.get_close_matches(model.lower(), known, MAX_SUGGESTIONS, 0.6)
    if not known:
        return UnknownModel(
            f"The model '{model}' cannot be reached: the workspace has no provider credential that lists models.",
            param="model",
            code="provider_not_configured",
            hint="An administrator can add a provider key under Providers.",
        )
    guess = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return UnknownModel(
        f"The model '{model}' does not exist for this workspace's providers.{guess}",
        param="model",
        facts={"near": near},
        hint="GET /v1/models lists what this key can use; write provider/model to ask a provider for a model that has no price yet.",
    )


def _names(grant: Grant, environment: str, book: PriceBook) -> list[str]:
    providers: Iterable[str] = (name for name in PROVIDERS if _tiers(grant, name, environment))
    return [*grant.policy.routes.aliases, *(model for name in providers for model in book.models(name))]
