"""A model that cost more than its proven bound is kept from hard budgets until a person has looked."""

from __future__ import annotations

from uuid import UUID

from guardrails.models import BarredModel
from workspaces import audit, policy_signal
from workspaces.actions.base import changing, identity
from workspaces.audit import SYSTEM, Actor
from workspaces.errors import NotThere
from workspaces.models import Workspace


def bar_model(
    *, workspace: Workspace, provider: str, model: str, rid: UUID | str, held_nano: int, cost_nano: int
) -> bool:
    """Called when a settlement was above its hold. True when the model was not barred before."""
    with changing(workspace):
        row, new = BarredModel.objects.get_or_create(
            provider=provider[:32],
            model=model[:200],
            defaults={"rid": rid, "held_nano": held_nano, "cost_nano": cost_nano},
        )
        if new:
            policy_signal.bump(workspace)
            audit.record(
                workspace=workspace, by=SYSTEM, action="model.bar", target=str(row),
                after={"rid": str(rid), "held_nano": held_nano, "cost_nano": cost_nano},
            )  # fmt: skip
    return new


def lift_bar(*, workspace: Workspace, by: Actor, bar_id: UUID | str) -> None:
    """Somebody has looked: the model may be called under hard budgets again."""
    with changing(workspace):
        row = BarredModel.objects.filter(pk=identity(bar_id)).first()
        if row is None:
            raise NotThere("There is no such barred model in this workspace.")
        policy_signal.bump(workspace)
        audit.record(workspace=workspace, by=by, action="model.lift_bar", target=str(row))
        row.delete()
