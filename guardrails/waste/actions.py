"""What people decide about findings: dismissed, put back, acted on, undone. Audited."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from billing.ledger import queries as books
from billing.ledger.queries import Days
from guardrails.domain.waste.values import Category
from guardrails.waste import levers
from guardrails.waste.levers import Lever, Pull
from guardrails.waste.looking import WINDOW_DAYS, place_of
from guardrails.waste.models import Finding, Look, State
from workspaces import audit, policy_signal, roles
from workspaces.actions.base import changing, identity, words
from workspaces.audit import Actor
from workspaces.errors import Invalid, NotAllowed, NotThere, WrongState
from workspaces.models import Workspace

ASK_PAUSE = timedelta(seconds=30)


def dismiss(*, workspace: Workspace, by: Actor, finding_id: UUID | str, reason: str = "") -> Finding:
    """It is fine as it is: it counts no more. Raises WrongState for what was acted on."""
    why = words(reason, field="reason", longest=200, required=False)
    with changing(workspace):
        row = _locked(finding_id)
        if row.state == State.DISMISSED:
            return row
        if row.state == State.PULLED:
            raise WrongState("Something was done about this already.", hint="Undo it first.")
        return _decide(workspace, by, row, State.DISMISSED, "waste.dismiss", reason=why)


def restore(*, workspace: Workspace, by: Actor, finding_id: UUID | str) -> Finding:
    """A dismissed finding counts again."""
    with changing(workspace):
        row = _locked(finding_id)
        if row.state == State.OPEN:
            return row
        if row.state != State.DISMISSED:
            raise WrongState("Only what was dismissed can be put back.")
        return _decide(workspace, by, row, State.OPEN, "waste.restore")


def pull(*, workspace: Workspace, by: Actor, finding_id: UUID | str, lever: str = "", model: str = "") -> Finding:
    """Act on a finding. `lever`: empty for the one offered first; `model`: of `Lever.CHEAPER_MODEL`. Raises Invalid, NotAllowed, WrongState."""
    with changing(workspace):
        row = _locked(finding_id)
        if row.state not in (State.OPEN, State.DISMISSED):
            raise WrongState("There is nothing to do about this any more.")
        offered = levers.levers_of(row)
        chosen = _lever(lever, offered)
        if model and chosen is not Lever.CHEAPER_MODEL:
            raise Invalid("Only a cheaper model can be chosen.", field="model")
        _may(by, chosen)
        row.before_calls, row.before_waste_nano = _before(workspace, row)
        row.done = levers.pull(chosen, Pull(workspace, by, row, model))
        row.lever = chosen.value
        row.save(update_fields=["before_calls", "before_waste_nano", "done", "lever"])
        return _decide(workspace, by, row, State.PULLED, "waste.pull", lever=chosen.value, **row.done)


def undo(*, workspace: Workspace, by: Actor, finding_id: UUID | str) -> Finding:
    """Take a lever back, as far as nobody has changed meanwhile what it did. Raises WrongState, NotAllowed."""
    with changing(workspace):
        row = _locked(finding_id)
        if row.state != State.PULLED:
            raise WrongState("Nothing was done about this.")
        chosen = Lever(row.lever)
        _may(by, chosen)
        levers.undo(chosen, Pull(workspace, by, row))
        row.lever, row.done = "", {}
        row.save(update_fields=["lever", "done"])
        return _decide(workspace, by, row, State.OPEN, "waste.undo", lever=chosen.value)


def ask_for_look(*, workspace: Workspace, by: Actor) -> Look:
    """Have the last days read again soon; asking twice in half a minute is asking once."""
    with changing(workspace):
        now = timezone.now()
        look, _ = Look.objects.get_or_create(workspace_id=workspace.pk)
        if look.asked_at is None or now - look.asked_at > ASK_PAUSE:
            look.asked_at = now
            look.save(update_fields=["asked_at"])
            audit.record(workspace=workspace, by=by, action="waste.look", target=workspace.slug)
    return look


def set_fingerprints(*, workspace: Workspace, by: Actor, on: bool) -> bool:
    """Whether calls carry a keyed hash of what was asked. Off: from the next call of every replica on none is computed."""
    with changing(workspace):
        before = Workspace.objects.values_list("fingerprints", flat=True).get(pk=workspace.pk)
        if before != on:
            Workspace.objects.filter(pk=workspace.pk).update(fingerprints=on)
            policy_signal.bump(workspace)
            audit.record(
                workspace=workspace, by=by, action="waste.fingerprints", target=workspace.slug,
                before={"fingerprints": before}, after={"fingerprints": on},
            )  # fmt: skip
        workspace.fingerprints = on
    return on


def _lever(name: str, offered: tuple[Lever, ...]) -> Lever:
    if not name:
        return offered[0]
    if name not in offered:
        raise Invalid(f"Choose among: {', '.join(offered)}.", field="lever")
    return Lever(name)


def _may(by: Actor, lever: Lever) -> None:
    if not by.installation and (by.role is None or not roles.may(by.role, levers.RIGHTS[lever])):
        raise NotAllowed(f"Your role may not do this: it needs “{levers.RIGHTS[lever].value}”.")


def _before(workspace: Workspace, row: Finding) -> tuple[int, int]:
    """All calls at the finding's place in the last thirty days, and what of them was waste."""
    if row.category == Category.IDLE_KEYS:
        return 0, 0
    today = books.today(workspace, timezone.now())
    days = Days(today - timedelta(days=WINDOW_DAYS - 1), today)
    return books.totals(workspace, days, place_of(row)).calls, row.waste_nano


def _decide(workspace: Workspace, by: Actor, row: Finding, state: State, action: str, **facts: Any) -> Finding:
    before = row.state
    row.state, row.decided_at, row.decided_by = state, timezone.now(), by.name[:254]
    row.reason = facts.get("reason", "")
    row.save(update_fields=["state", "decided_at", "decided_by", "reason"])
    about = {name: value for name, value in row.about._asdict().items() if value}
    audit.record(
        workspace=workspace, by=by, action=action, target=str(row.pk),
        before={"state": before}, after={"state": state.value, "category": row.category, **about, **facts},
    )  # fmt: skip
    return row


def _locked(finding_id: UUID | str) -> Finding:
    row = Finding.objects.select_for_update().filter(pk=identity(finding_id)).first()
    if row is None:
        raise NotThere("There is no such finding in this workspace.")
    return row
