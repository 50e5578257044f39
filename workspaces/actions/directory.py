"""Departments and agents of a workspace. Dimensions carry their names, so past spend keeps the name it was made under."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from django.db import IntegrityError, transaction

from workspaces import audit, policy_signal
from workspaces.actions.base import changing, identity, words
from workspaces.audit import Actor
from workspaces.directory.models import Agent, Department
from workspaces.errors import Invalid, NotThere, Taken
from workspaces.models import Membership, Workspace

Named = TypeVar("Named", Department, Agent)


def add_department(*, workspace: Workspace, by: Actor, name: str) -> Department:
    name = words(name, field="name")
    with changing(workspace):
        department = _saved(Department(name=name))
        policy_signal.bump(workspace)
        audit.record(workspace=workspace, by=by, action="department.add", target=name)
        return department


def remove_department(*, workspace: Workspace, by: Actor, department_id: UUID | str) -> None:
    with changing(workspace):
        department = Department.objects.filter(pk=identity(department_id)).first()
        if department is None:
            raise NotThere("There is no such department in this workspace.")
        Membership.objects.filter(workspace=workspace, department_id=department.pk).update(department_id=None)
        department.delete()
        policy_signal.bump(workspace)
        audit.record(workspace=workspace, by=by, action="department.remove", target=department.name)


def add_agent(*, workspace: Workspace, by: Actor, name: str, department_id: UUID | str | None = None) -> Agent:
    name = words(name, field="name")
    with changing(workspace):
        department = None
        if department_id not in (None, ""):
            department = Department.objects.filter(pk=identity(department_id)).first()
            if department is None:
                raise Invalid("There is no such department.", field="department_id")
        agent = _saved(Agent(name=name, department=department))
        policy_signal.bump(workspace)
        audit.record(workspace=workspace, by=by, action="agent.add", target=name)
        return agent


def remove_agent(*, workspace: Workspace, by: Actor, agent_id: UUID | str) -> None:
    with changing(workspace):
        agent = Agent.objects.filter(pk=identity(agent_id)).first()
        if agent is None:
            raise NotThere("There is no such agent in this workspace.")
        agent.delete()
        policy_signal.bump(workspace)
        audit.record(workspace=workspace, by=by, action="agent.remove", target=agent.name)


def _saved(row: Named) -> Named:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise Taken("There is one with this name.", field="name") from None
    return row
