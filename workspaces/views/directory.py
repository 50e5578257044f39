"""Agents and departments: the names that calls are attributed to, kept in one place so that nobody mistypes them."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from workspaces import actions
from workspaces.errors import Refused
from workspaces.forms import AgentForm, NameForm
from workspaces.roles import Action
from workspaces.views import reads
from workspaces.views.frame import actor, page, refuse, url, workspace_of, workspace_page


@workspace_page(Action.SEE_PEOPLE)
def directory(request: HttpRequest) -> HttpResponse:
    return _page(request)


@workspace_page(Action.MANAGE_DIRECTORY, methods=("POST",))
def department_new(request: HttpRequest) -> HttpResponse:
    form = NameForm(request.POST, prefix="department")
    if form.is_valid():
        try:
            actions.add_department(workspace=workspace_of(request), by=actor(request), name=form.cleaned_data["name"])
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, f"“{form.cleaned_data['name']}” is a department now.")
            return redirect(url(request, "directory"))
    return _page(request, department_form=form)


@workspace_page(Action.MANAGE_DIRECTORY, methods=("POST",))
def department_remove(request: HttpRequest, department_id: UUID) -> HttpResponse:
    actions.remove_department(workspace=workspace_of(request), by=actor(request), department_id=department_id)
    messages.success(request, "The department is removed. What was spent under its name stays under it.")
    return redirect(url(request, "directory"))


@workspace_page(Action.MANAGE_DIRECTORY, methods=("POST",))
def agent_new(request: HttpRequest) -> HttpResponse:
    form = AgentForm(request.POST, prefix="agent", departments=reads.departments())
    if form.is_valid():
        try:
            actions.add_agent(workspace=workspace_of(request), by=actor(request), **form.cleaned_data)
        except Refused as error:
            refuse(form, error)
        else:
            messages.success(request, f"“{form.cleaned_data['name']}” is an agent now.")
            return redirect(url(request, "directory"))
    return _page(request, agent_form=form)


@workspace_page(Action.MANAGE_DIRECTORY, methods=("POST",))
def agent_remove(request: HttpRequest, agent_id: UUID) -> HttpResponse:
    actions.remove_agent(workspace=workspace_of(request), by=actor(request), agent_id=agent_id)
    messages.success(request, "The agent is removed. What it spent stays under its name.")
    return redirect(url(request, "directory"))


def _page(
    request: HttpRequest, department_form: NameForm | None = None, agent_form: AgentForm | None = None
) -> HttpResponse:
    departments = reads.departments()
    people = reads.members_of(workspace_of(request))
    context = {
        "departments": [
            {
                "name": name,
                "members": sum(one.department_id == key for one in people),
                "remove_url": url(request, "department_remove", key),
            }
            for key, name in sorted(departments.items(), key=lambda item: item[1].casefold())
        ],
        "agents": [
            {
                "name": agent.name,
                "department": agent.department.name if agent.department else "",
                "since": agent.created_at,
                "remove_url": url(request, "agent_remove", agent.id),
            }
            for agent in reads.agents()
        ],
        "department_form": department_form or NameForm(prefix="department"),
        "agent_form": agent_form or AgentForm(prefix="agent", departments=departments),
        "department_new_url": url(request, "department_new"),
        "agent_new_url": url(request, "agent_new"),
    }
    status = 422 if department_form is not None or agent_form is not None else 200
    return page(request, "workspaces/directory.html", "directory", context, status=status)
