"""Where a workspace's calls may go, as its policy knows it: credentials in the order of their use, aliases, the rules of repeating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workspaces.domain.routes import DEFAULT_RULES, Alias, Rules
from workspaces.routes.models import Alias as AliasRow
from workspaces.routes.models import HopRules
from workspaces.vault.models import CredentialState, ProviderCredential


@dataclass(frozen=True, slots=True)
class Credential:
    """A provider credential without its secret, which `PolicyStore.secret` opens."""

    id: str
    provider: str
    name: str
    base_url: str
    environment: str
    """Empty: for every environment"""
    priority: int = 0
    """The lowest goes first"""
    weight: int = 1
    """Its share of the calls among those of the same priority"""
    timeouts: tuple[tuple[str, float], ...] = ()
    """Time limits of its own: names of `workspaces.domain.routes.TIMEOUTS` and seconds"""
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the provider needs beside the key: region, resource, project"""
    rejected: bool = False
    """The provider refused its key: it is used where nothing else is left"""


Tiers = tuple[tuple[Credential, ...], ...]


@dataclass(frozen=True, slots=True)
class Routes:
    """Aliases and rules of one workspace, compiled. Compared by value: calls are planned again when they differ."""

    aliases: Mapping[str, Alias] = field(default_factory=dict)
    rules: Rules = DEFAULT_RULES


NO_ROUTES = Routes()


def load_routes() -> Routes:
    """Those of the entered workspace."""
    aliases = {row.name: row.compiled() for row in AliasRow.objects.all()}
    rules = HopRules.objects.first()
    if not aliases and rules is None:
        return NO_ROUTES
    return Routes(aliases, DEFAULT_RULES if rules is None else rules.compiled())


def load_credentials() -> dict[str, tuple[Credential, ...]]:
    """The enabled ones of the entered workspace, by provider, the oldest first."""
    found: dict[str, tuple[Credential, ...]] = {}
    for row in ProviderCredential.objects.filter(disabled_at=None).order_by("created_at", "id"):
        credential = Credential(
            id=str(row.id),
            provider=row.provider,
            name=row.name,
            base_url=row.base_url,
            environment=row.environment,
            priority=row.priority,
            weight=row.weight,
            timeouts=tuple(sorted(row.timeouts.items())),
            settings=row.settings,
            rejected=row.state == CredentialState.REJECTED,
        )
        found[row.provider] = (*found.get(row.provider, ()), credential)
    return found


def in_order(credentials: Sequence[Credential], environment: str, only: frozenset[str] | None) -> Tiers:
    """The credentials of one provider that a call may use, in tiers of the same priority, the first first.

    `only`: the ids that the call's key is pinned to. Otherwise those of the call's environment, where there are any; they are not mixed with
    those for every environment, so that one environment cannot use up what another one pays for. One that the provider refuses comes last.
    """
    if only is not None:
        found = [credential for credential in credentials if credential.id in only]
    else:
        found = [credential for credential in credentials if environment and credential.environment == environment]
        found = found or [credential for credential in credentials if not credential.environment]
    tiers: dict[tuple[bool, int], list[Credential]] = {}
    for credential in found:
        tiers.setdefault((credential.rejected, credential.priority), []).append(credential)
    return tuple(tuple(tiers[rank]) for rank in sorted(tiers))
