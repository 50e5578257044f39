"""Saving, changing and forgetting views. One's own are one's own; shared ones are seen by all, and deleted by an admin too."""

from __future__ import annotations

from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from billing.saved.models import SavedView
from workspaces import audit
from workspaces.actions.base import changing, identity, words
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotAllowed, NotThere, Taken
from workspaces.models import Membership, Role, Workspace

MOST_VIEWS = 200
MOST_CHARACTERS = 2000


def visible_to(membership: Membership) -> list[SavedView]:
    """A member's own views and the shared ones, by name."""
    return list(SavedView.objects.filter(Q(owner_id=membership.user_id) | Q(is_shared=True))[: 2 * MOST_VIEWS])


def find_view(membership: Membership, view_id: UUID | str) -> SavedView:
    """Raises NotThere for what is somebody else's, and for what is not."""
    found = SavedView.objects.filter(pk=identity(view_id)).first()
    if found is None or not (found.is_shared or found.owner_id == membership.user_id):
        raise NotThere("There is no such saved view: it was deleted, or it is not shared with you.")
    return found


def save_view(
    *, workspace: Workspace, by: Actor, membership: Membership, name: str, query: str, shared: bool
) -> SavedView:
    """A new view, or another question under a name one already has. Raises Invalid, Taken."""
    name = words(name, field="name")
    if len(query) > MOST_CHARACTERS:
        raise Invalid("This question is too long to be saved: use fewer filters.", field="name")
    with changing(workspace):
        known = SavedView.objects.filter(owner_id=membership.user_id, name__iexact=name).first()
        if known is None and SavedView.objects.count() >= MOST_VIEWS:
            raise Invalid(f"A workspace has at most {MOST_VIEWS} saved views. Delete some first.", field="name")
        view = known or SavedView(owner_id=membership.user_id)
        view.name, view.query, view.is_shared, view.owner_name = name, query, shared, by.name[:254]
        try:
            with transaction.atomic():
                view.save()
        except IntegrityError:
            raise Taken("You have a view with this name.", field="name") from None
        audit.record(
            workspace=workspace, by=by, action="saved_view.save", target=name, after={"query": query, "shared": shared}
        )
    return view


def delete_view(*, workspace: Workspace, by: Actor, membership: Membership, view_id: UUID | str) -> str:
    """Forget a view; answers its name."""
    with changing(workspace):
        view = find_view(membership, view_id)
        if view.owner_id != membership.user_id and membership.role not in (Role.OWNER, Role.ADMIN):
            raise NotAllowed("Only who saved a view, an owner or an admin deletes it.")
        view.delete()
        audit.record(workspace=workspace, by=by, action="saved_view.delete", target=view.name)
    return view.name
