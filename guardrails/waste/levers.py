"""What one click can do about a finding: each lever is an action the product has anyway, and can be undone where that is possible."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from guardrails.actions import create_rate_limit, delete_rate_limit, update_rate_limit
from guardrails.domain.rates import Metric
from guardrails.domain.waste.sorter import LOOP_CALLS
from guardrails.domain.waste.values import Category
from guardrails.models import RateLimit
from guardrails.waste.models import Finding, State
from workspaces import actions
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotThere, WrongState
from workspaces.models import Workspace
from workspaces.roles import Action
from workspaces.routes.models import Alias


class Lever(StrEnum):
    REVOKE_KEY = "revoke_key"
    """Refuse the idle key from the next call on, for good."""
    LIMIT_SESSIONS = "limit_sessions"
    """A rate limit on each session."""
    CHEAPER_MODEL = "cheaper_model"
    """An alias with the dear model's name: its calls go to the cheaper one, and to the dear one where that fails."""
    FEWER_RETRIES = "fewer_retries"
    """The gateway repeats a failed call no more."""
    DONE = "done"
    """It is changed in the application: what that saves is measured from now."""


RIGHTS: Final = {
    Lever.REVOKE_KEY: Action.MANAGE_KEYS,
    Lever.LIMIT_SESSIONS: Action.MANAGE_LIMITS,
    Lever.CHEAPER_MODEL: Action.MANAGE_ROUTES,
    Lever.FEWER_RETRIES: Action.MANAGE_ROUTES,
    Lever.DONE: Action.MANAGE_WASTE,
}
"""What the lever itself needs, beside MANAGE_WASTE: nobody does here what they may not do on its own page."""

_LEVERS: Final = {
    Category.FAILURES: (Lever.FEWER_RETRIES, Lever.DONE),
    Category.ABORTED: (Lever.DONE,),
    Category.LOOPS: (Lever.LIMIT_SESSIONS, Lever.DONE),
    Category.DUPLICATES: (Lever.DONE,),
    Category.OVERKILL: (Lever.CHEAPER_MODEL, Lever.DONE),
    Category.OVERSIZED: (Lever.DONE,),
    Category.IDLE_KEYS: (Lever.REVOKE_KEY,),
}


def levers_of(row: Finding) -> tuple[Lever, ...]:
    """The levers of a finding, the one to offer first. Inside the workspace."""
    found = _LEVERS[Category(row.category)]
    if Lever.FEWER_RETRIES in found and not (row.facts.get("retried") and actions.hop_rules().retries):
        return tuple(lever for lever in found if lever is not Lever.FEWER_RETRIES)
    return found


@dataclass(frozen=True, slots=True)
class Pull:
    """Who pulls what, with which choice."""

    workspace: Workspace
    by: Actor
    row: Finding
    model: str = ""
    """Of CHEAPER_MODEL; empty: the one proposed."""


def pull(lever: Lever, asked: Pull) -> dict[str, Any]:
    """Do it; answers what must be known to undo it. Raises Refused."""
    if lever is Lever.REVOKE_KEY:
        actions.revoke_virtual_key(workspace=asked.workspace, by=asked.by, key_id=asked.row.about.virtual_key)
        return {}
    if lever is Lever.LIMIT_SESSIONS:
        return _limit_sessions(asked)
    if lever is Lever.CHEAPER_MODEL:
        return _put_in_place(asked)
    if lever is Lever.FEWER_RETRIES:
        before = actions.hop_rules().retries
        actions.change_hop_rules(workspace=asked.workspace, by=asked.by, retries=0)
        return {"retries": before}
    return {}


def undo(lever: Lever, asked: Pull) -> None:
    """As it was before. What somebody has changed or deleted meanwhile stays as they left it. Raises WrongState for what is for good."""
    done = asked.row.done
    if lever is Lever.REVOKE_KEY:
        raise WrongState("A revoked key stays revoked. Make a new one.")
    try:
        if lever is Lever.LIMIT_SESSIONS:
            _unlimit_sessions(asked, done)
        elif lever is Lever.CHEAPER_MODEL:
            _put_back(asked, done)
        elif lever is Lever.FEWER_RETRIES and actions.hop_rules().retries == 0:
            actions.change_hop_rules(workspace=asked.workspace, by=asked.by, retries=done["retries"])
    except NotThere:
        return


def _limit_sessions(asked: Pull) -> dict[str, Any]:
    wanted = int(asked.row.facts.get("allowed_an_hour", LOOP_CALLS))
    known = RateLimit.objects.filter(by="session", value=None, metric=Metric.RPH).first()
    if known is None:
        made = create_rate_limit(
            workspace=asked.workspace, by=asked.by, metric=Metric.RPH, limit=wanted, scope="session", value=None,
            name="Runaway sessions",
        )  # fmt: skip
        return {"limit_id": str(made.pk), "made": True, "limit": wanted}
    if known.limit <= wanted:
        return {"limit_id": str(known.pk), "limit": known.limit, "before": known.limit}
    before = known.limit
    update_rate_limit(workspace=asked.workspace, by=asked.by, limit_id=known.pk, limit=wanted)
    return {"limit_id": str(known.pk), "limit": wanted, "before": before}


def _unlimit_sessions(asked: Pull, done: dict[str, Any]) -> None:
    row = RateLimit.objects.filter(pk=done["limit_id"]).first()
    if row is None or row.limit != done["limit"]:
        return
    if done.get("made"):
        _must_be_the_last(asked, "limit_id")
        delete_rate_limit(workspace=asked.workspace, by=asked.by, limit_id=row.pk)
    elif done["before"] != done["limit"]:
        update_rate_limit(workspace=asked.workspace, by=asked.by, limit_id=row.pk, limit=done["before"])


def _put_in_place(asked: Pull) -> dict[str, Any]:
    about, options = asked.row.about, asked.row.facts.get("options", {})
    model = asked.model or asked.row.facts.get("proposed", "")
    if model not in options:
        raise Invalid(f"Choose among: {', '.join(options)}.", field="model")
    first = {"provider": about.provider, "model": model}
    row = Alias.objects.filter(name=about.model).first()
    if row is None:
        targets = [first, {"provider": about.provider, "model": about.model}]
        made = actions.create_alias(workspace=asked.workspace, by=asked.by, name=about.model, targets=targets)
        return {"alias_id": str(made.pk), "made": True, "model": model, "targets": made.targets}
    before = list(row.targets)
    rest = [place for place in before if (place["provider"], place["model"]) != (about.provider, model)]
    changed = actions.change_alias(workspace=asked.workspace, by=asked.by, alias_id=row.pk, targets=[first, *rest])
    return {"alias_id": str(row.pk), "model": model, "before": before, "targets": changed.targets}


def _put_back(asked: Pull, done: dict[str, Any]) -> None:
    row = Alias.objects.filter(pk=done["alias_id"]).first()
    if row is None or row.targets != done["targets"]:
        return
    if done.get("made"):
        _must_be_the_last(asked, "alias_id")
        actions.delete_alias(workspace=asked.workspace, by=asked.by, alias_id=row.pk)
    else:
        actions.change_alias(workspace=asked.workspace, by=asked.by, alias_id=row.pk, targets=done["before"])


def _must_be_the_last(asked: Pull, name: str) -> None:
    """What one finding's lever made may be what another one's rests on."""
    resting = Finding.objects.filter(
        workspace_id=asked.workspace.pk, state=State.PULLED, **{f"done__{name}": asked.row.done[name]}
    )
    if resting.exclude(pk=asked.row.pk).exists():
        raise WrongState("Another finding was acted on by the same lever.", hint="Undo that one first.")
