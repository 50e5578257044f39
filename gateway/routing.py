"""Which provider a model is asked of, with which credential: from the name the client wrote and what the workspace has.

1. `provider/model` names its provider. 2. Otherwise the first provider (in the registry's order) whose price list knows the model. 3. Otherwise
the workspace's only credential for a server of its own kind (openai_compatible, ollama), whose models nobody lists. 4. Otherwise 404.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from django.conf import settings

from billing.domain.pricing import PriceBook, Rates
from gateway.errors import NotAllowed, ProviderUnreachable, UnknownModel
from gateway.providers.registry import PROVIDERS, Provider
from gateway.upstream import BadBaseUrl, Origin, parse_base_url
from guardrails.policy import Credential, Grant, Policy

UNLISTED = ("openai_compatible", "ollama")
MAX_SUGGESTIONS = 3


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
    """The route of a call to one of `gateway.endpoints`. Raises UnknownModel, NotAllowed.

    `free`: the call costs nothing, so whoever serves the endpoint may be asked for a model that no price list has.
    """
    policy = grant.policy
    provider_name, _, rest = model.partition("/")
    if rest and provider_name in PROVIDERS:
        named = PROVIDERS[provider_name]
        if not named.serves(endpoint, rest):
            raise _elsewhere(model, provider_name, endpoint)
        route = _to(policy, named, rest, environment, book, now_s)
        if route is None:
            raise UnknownModel(
                f"The workspace has no credential for {provider_name}.",
                param="model",
                code="provider_not_configured",
                hint="An administrator can add one under Providers.",
            )
    else:
        route = _listed(policy, model, environment, book, now_s, endpoint) or _unlisted(
            policy, model, environment, book, now_s, endpoint
        )
    if route is None and free:
        serving = (provider for provider in PROVIDERS.values() if provider.serves(endpoint, model))
        routes = (_to(policy, provider, model, environment, book, now_s) for provider in serving)
        route = next((found for found in routes if found is not None), None)
    if route is None:
        for provider in PROVIDERS.values():  # known, but not by this API?
            if provider.name in policy.credentials and _knows(provider, model, book, now_s):
                raise _elsewhere(model, provider.name, endpoint)
        raise _unknown(grant, model, environment, book)
    if not _allowed(grant, route.provider.name, route.model, model):
        raise NotAllowed(
            f"This key may not use the model '{model}'.",
            param="model",
            code="model_not_allowed",
            hint="Use one of the models of this key (GET /v1/models), or ask an administrator to allow it.",
        )
    return route


def kept_by(route: Route, policy: Policy, credential_id: str) -> Route:
    """The route by the credential that keeps what the call goes on from, where it is one of the same provider's."""
    found = (one for one in policy.credentials.get(route.provider.name, ()) if one.id == credential_id)
    credential = next(found, None) if credential_id else None
    return route if credential is None else msgspec.structs.replace(route, credential=credential)


def offers(grant: Grant, book: PriceBook, endpoint: str) -> list[Offer]:
    """The models a key can use through an endpoint, each once, under the provider that would serve it."""
    found: dict[str, Offer] = {}
    environment = grant.key.pins.get("environment", "")
    for name, provider in PROVIDERS.items():
        if not provider.serves_any(endpoint) or grant.policy.credential_for(name, environment) is None:
            continue
        for model in book.models(name):
            meta = book.meta(name, model)
            if (
                model not in found
                and meta is not None
                and model.startswith(provider.models)
                and provider.serves(endpoint, model)
                and meta.mode in ("", "chat")
                and _allowed(grant, name, model, model)
            ):
                found[model] = Offer(model, name)
    return sorted(found.values(), key=lambda offer: offer.id)


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


def _listed(policy: Policy, model: str, environment: str, book: PriceBook, now_s: int, endpoint: str) -> Route | None:
    for name, provider in PROVIDERS.items():
        if name in policy.credentials and provider.serves(endpoint, model) and _knows(provider, model, book, now_s):
            return _to(policy, provider, model, environment, book, now_s)
    return None


def _knows(provider: Provider, model: str, book: PriceBook, now_s: int) -> bool:
    """Its price list has the model. A list can hold models that the provider sells through another door (`models`)."""
    name = provider.name
    return name not in UNLISTED and model.startswith(provider.models) and book.rates_at(name, model, now_s) is not None


def _unlisted(policy: Policy, model: str, environment: str, book: PriceBook, now_s: int, endpoint: str) -> Route | None:
    own = [
        name
        for name in UNLISTED
        if policy.credential_for(name, environment) is not None and PROVIDERS[name].serves(endpoint, model)
    ]
    return _to(policy, PROVIDERS[own[0]], model, environment, book, now_s) if len(own) == 1 else None


def _to(policy: Policy, provider: Provider, model: str, environment: str, book: PriceBook, now_s: int) -> Route | None:
    credential = policy.credential_for(provider.name, environment)
    if credential is None:
        return None
    return Route(provider, credential, model, book.rates_at(provider.name, model, now_s))


def _allowed(grant: Grant, provider: str, model: str, asked: str) -> bool:
    allowed = grant.key.allowed_models
    return not allowed or not allowed.isdisjoint((asked, model, f"{provider}/{model}"))


def _elsewhere(model: str, provider: str, endpoint: str) -> UnknownModel:
    return UnknownModel(
        f"The model '{model}' is served by {provider}, which is not reached through {endpoint}.",
        param="model",
        code="model_not_on_endpoint",
        facts={"provider": provider},
        hint="POST /v1/chat/completions reaches every provider; the other APIs reach those that speak them.",
    )


def _unknown(grant: Grant, model: str, environment: str, book: PriceBook) -> UnknownModel:
    known = _names(grant.policy, environment, book)
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


def _names(policy: Policy, environment: str, book: PriceBook) -> list[str]:
    providers: Iterable[str] = (name for name in PROVIDERS if policy.credential_for(name, environment) is not None)
    return [model for name in providers for model in book.models(name)]
