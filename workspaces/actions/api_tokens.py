"""API tokens. A token acts as its maker in one workspace, never with more than the maker's role then or now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from workspaces import audit, keys, roles
from workspaces.actions.base import Minted, changing, future, identity, words
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotAllowed, NotThere
from workspaces.models import ApiToken, Membership, Workspace
from workspaces.roles import Scope

MOST_TOKENS = 100


def create_api_token(
    *,
    workspace: Workspace,
    by: Actor,
    membership: Membership,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> Minted[ApiToken]:
    """A token for the member themselves. There is no wildcard scope, and none that the member's role cannot use."""
    name = words(name, field="name")
    if not scopes or isinstance(scopes, str) or not all(scope in Scope.__members__.values() for scope in scopes):
        raise Invalid(f"Choose among: {', '.join(Scope)}.", field="scopes")
    with changing(workspace):
        membership = Membership.objects.select_related("user").get(pk=membership.pk, workspace=workspace)
        beyond = {Scope(scope) for scope in scopes} - roles.scopes_of(membership.role)
        if beyond:
            raise NotAllowed(f"Your role ({membership.role}) has no use for: {', '.join(sorted(beyond))}.")
        if ApiToken.objects.filter(workspace=workspace, user=membership.user, revoked_at=None).count() >= MOST_TOKENS:
            raise Invalid(f"A member has at most {MOST_TOKENS} tokens. Revoke some first.")
        key = keys.mint(keys.KeyKind.API_TOKEN)
        stored = keys.seal_digest(key)
        token = ApiToken.objects.create(
            workspace=workspace, user=membership.user, locator=key.locator, digest=stored.digest, pepper_version=stored.pepper_version,
            last_four=key.last_four, name=name, scopes=sorted(set(scopes)), expires_at=future(expires_at),
        )  # fmt: skip
        audit.record(
            workspace=workspace, by=by, action="api_token.create", target=str(token.id), after={"name": name, "scopes": token.scopes}
        )  # fmt: skip
        return Minted(token, key.text)


def operators_token(*, workspace: Workspace, by: Actor, membership: Membership) -> Minted[ApiToken]:
    """The token that `manage.py provision` prints: made once, and derived again each time until somebody revokes it."""
    name, scopes = "provision", sorted(roles.scopes_of(membership.role))
    with changing(workspace):
        generation = 0
        while True:
            key = keys.derive(keys.KeyKind.API_TOKEN, f"{workspace.pk} {membership.user_id} {generation}")
            token = ApiToken.objects.filter(locator=key.locator).first()
            if token is None or token.revoked_at is None:
                break
            generation += 1
        if token is None:
            stored = keys.seal_digest(key)
            token = ApiToken.objects.create(
                workspace=workspace, user=membership.user, locator=key.locator, digest=stored.digest, pepper_version=stored.pepper_version,
                last_four=key.last_four, name=name, scopes=scopes,
            )  # fmt: skip
            audit.record(
                workspace=workspace,
                by=by,
                action="api_token.create",
                target=str(token.id),
                after={"name": name, "scopes": scopes},
            )
        return Minted(token, key.text)


def revoke_api_token(*, workspace: Workspace, by: Actor, token_id: UUID | str) -> None:
    """One's own, or anybody's for those who manage people. Refuses from the next request on."""
    with changing(workspace):
        token = ApiToken.objects.filter(workspace=workspace, pk=identity(token_id)).first()
        mine = token is not None and token.user_id == by.user_id
        theirs = by.installation or (by.role is not None and roles.may(by.role, roles.Action.MANAGE_PEOPLE))
        if token is None or not (mine or theirs):
            raise NotThere("There is no such token in this workspace.")
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(
                workspace=workspace, by=by, action="api_token.revoke", target=str(token.id), before={"name": token.name}
            )
