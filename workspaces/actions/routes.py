"""Where calls go: aliases of models, and what is done when an attempt fails. Each edit bites on the next call of every replica."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from workspaces import audit, policy_signal
from workspaces.actions.base import changing, identity
from workspaces.audit import Actor
from workspaces.domain import routes
from workspaces.domain.providers import PROVIDERS
from workspaces.domain.routes import Condition
from workspaces.errors import Invalid, NotThere, Taken
from workspaces.models import Workspace
from workspaces.routes.models import Alias, HopRules
from workspaces.vault.models import ProviderCredential

_SETTINGS = ("name", "targets", "fallback_on")


def create_alias(
    *, workspace: Workspace, by: Actor, name: str, targets: Sequence[Any], fallback_on: Iterable[str] | None = None
) -> Alias:
    """A name of the workspace's own for an ordered list of targets.

    A target is "provider/model", or {"provider", "model", "credential": id or nothing}. `fallback_on` are names of `Condition`; nothing: those
    that cost nothing. Raises Invalid naming the field, Taken.
    """
    with changing(workspace):
        if Alias.objects.count() >= routes.MOST_ALIASES:
            raise Invalid(f"A workspace has at most {routes.MOST_ALIASES} aliases. Delete some first.")
        row = Alias(
            name=_name(name),
            targets=_targets(targets),
            fallback_on=_conditions(routes.DEFAULT_CONDITIONS if fallback_on is None else fallback_on),
            created_by=by.name[:254],
        )
        _save(row, force_insert=True)
        _announce(workspace, by, "alias.create", row, {}, _shown(row))
    return row


def change_alias(*, workspace: Workspace, by: Actor, alias_id: UUID | str, **changes: Any) -> Alias:
    """Change name, targets or conditions (the keywords of `create_alias`)."""
    with changing(workspace):
        row = _found(alias_id)
        before = _shown(row)
        if "name" in changes:
            row.name = _name(changes["name"])
        if "targets" in changes:
            row.targets = _targets(changes["targets"])
        if "fallback_on" in changes:
            row.fallback_on = _conditions(changes["fallback_on"])
        if _shown(row) != before:
            _save(row)
            _announce(workspace, by, "alias.change", row, before, _shown(row))
    return row


def delete_alias(*, workspace: Workspace, by: Actor, alias_id: UUID | str) -> None:
    with changing(workspace):
        row = _found(alias_id)
        _announce(workspace, by, "alias.delete", row, _shown(row), {})
        row.delete()


def hop_rules() -> HopRules:
    """Those of the entered workspace; the defaults where it has set none."""
    return HopRules.objects.first() or HopRules()


def change_hop_rules(
    *,
    workspace: Workspace,
    by: Actor,
    retries: int | None = None,
    pause_ms: int | None = None,
    max_wait_ms: int | None = None,
    fallback_on: Iterable[str] | None = None,
) -> HopRules:
    """How often a failed call is repeated, after what pause, and when it moves on to another credential of its provider."""
    with changing(workspace):
        row = hop_rules()
        before = _rules_shown(row)
        if retries is not None:
            row.retries = _whole(retries, routes.MOST_RETRIES, "retries")
        if pause_ms is not None:
            row.pause_ms = _whole(pause_ms, routes.LONGEST_PAUSE_MS, "pause_ms")
        if max_wait_ms is not None:
            row.max_wait_ms = _whole(max_wait_ms, routes.LONGEST_WAIT_MS, "max_wait_ms")
        if fallback_on is not None:
            row.fallback_on = _conditions(fallback_on)
        after = _rules_shown(row)
        if after != before:
            row.save()
            policy_signal.bump(workspace)
            audit.record(
                workspace=workspace, by=by, action="hop_rules.change", target=workspace.slug, before=before, after=after
            )
    return row


def _name(value: Any) -> str:
    if not isinstance(value, str) or not routes.ALIAS_NAME.fullmatch(value):
        raise Invalid("Write at most 100 letters, digits or . _ : @ = + -, without spaces or a slash.", field="name")
    return value


def _targets(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= routes.MOST_TARGETS:
        raise Invalid(f"Write a list of 1 to {routes.MOST_TARGETS} targets like openai/gpt-4o-mini.", field="targets")
    found = [_target(place) for place in value]
    if len({tuple(place.values()) for place in found}) != len(found):
        raise Invalid("The same target stands in the list twice.", field="targets")
    return found


def _target(place: Any) -> dict[str, Any]:
    named = _parted(place) if isinstance(place, str) else place
    if not isinstance(named, dict) or not named.keys() <= {"provider", "model", "credential"}:
        raise Invalid(
            'A target is "provider/model" or {"provider", "model", "credential"}: nothing else.', field="targets"
        )
    provider, model, credential = named.get("provider"), named.get("model"), named.get("credential")
    if not isinstance(provider, str) or provider not in PROVIDERS:
        raise Invalid(f"There is no provider “{str(provider)[:40]}”.", field="targets")
    if not isinstance(model, str) or not routes.MODEL_NAME.fullmatch(model):
        raise Invalid("Each target names its model as the provider does, without spaces.", field="targets")
    return {"provider": provider, "model": model, "credential": _credential(provider, credential)}


def _parted(name: str) -> dict[str, Any]:
    provider, _, model = name.partition("/")
    return {"provider": provider, "model": model}


def _credential(provider: str, credential: Any) -> str | None:
    if credential in (None, ""):
        return None
    try:
        row = ProviderCredential.objects.filter(pk=identity(credential), provider=provider).first()
    except NotThere:
        row = None
    if row is None:
        raise Invalid(f"There is no such credential of {PROVIDERS[provider].title}.", field="targets")
    return str(row.id)


def _conditions(value: Any) -> list[str]:
    known = {condition.value for condition in Condition}
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise Invalid(f"Write a list of {', '.join(sorted(known))}.", field="fallback_on")
    names = {str(name) for name in value}
    if not names <= known:
        raise Invalid(f"Choose among {', '.join(sorted(known))}.", field="fallback_on")
    return sorted(names)


def _whole(value: Any, most: int, field: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Invalid(f"Write a whole number from 0 to {most:,}.", field=field)
    return value


def _save(row: Alias, **options: Any) -> None:
    try:
        with transaction.atomic():
            row.save(**options)
    except IntegrityError:
        raise Taken("There is an alias of this name.", field="name") from None


def _announce(
    workspace: Workspace, by: Actor, action: str, row: Alias, before: dict[str, Any], after: dict[str, Any]
) -> None:
    policy_signal.bump(workspace)
    audit.record(workspace=workspace, by=by, action=action, target=str(row.pk), before=before, after=after)


def _found(alias_id: UUID | str) -> Alias:
    row = Alias.objects.filter(pk=identity(alias_id)).first()
    if row is None:
        raise NotThere("There is no such alias in this workspace.")
    return row


def _shown(row: Alias) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _SETTINGS}


def _rules_shown(row: HopRules) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("retries", "pause_ms", "max_wait_ms", "fallback_on")}
