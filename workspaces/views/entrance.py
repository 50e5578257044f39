"""Outside any workspace: the landing page, making a workspace, accepting an invitation, one's own profile."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from workspaces import actions
from workspaces.audit import Actor
from workspaces.domain import slugs
from workspaces.errors import NotThere, Refused
from workspaces.forms import ProfileForm, WorkspaceForm
from workspaces.models import User
from workspaces.views import reads
from workspaces.views.frame import refuse

LAST_WORKSPACE = "last_workspace"


def _person(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User):
        raise TypeError("login_required comes first")
    return user


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """The landing page; who is signed in goes on to the workspace they were in last, or makes their first."""
    if not request.user.is_authenticated:
        return render(request, "landing.html", {"gateway_url": f"{settings.PUBLIC_URL}/v1"})
    found = [one.workspace.slug for one in reads.memberships_of(request.user)]
    if not found:
        return redirect("workspace_new")
    last = request.session.get(LAST_WORKSPACE)
    return redirect("overview", slug=last if last in found else found[0])


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def workspace_new(request: HttpRequest) -> HttpResponse:
    form = WorkspaceForm(request.POST or None)
    if form.is_valid():
        name = form.cleaned_data["name"]
        try:
            workspace = actions.create_workspace(
                name=name,
                slug=form.cleaned_data["slug"].strip().lower() or slugs.suggested(name),
                time_zone=form.cleaned_data["time_zone"],
                owner=_person(request),
                by=Actor.of(request),
            )
        except Refused as error:
            refuse(form, error)
        else:
            return redirect("overview", slug=workspace.slug)
    context = {
        "form": form,
        "is_first": not reads.memberships_of(request.user),
        "address_prefix": f"{settings.PUBLIC_URL.partition('://')[2]}/w/",
    }
    return render(request, "workspaces/new.html", context, status=422 if form.errors else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind the link of an invitation. Whoever holds the link sees which workspace invites; joining needs the invited address."""
    try:
        found = actions.find_invitation(token)
    except NotThere:
        return render(request, "workspaces/invitation.html", {"invitation": None}, status=404)
    refused = ""
    if request.method == "POST" and request.user.is_authenticated:
        try:
            membership = actions.accept_invitation(token=token, user=_person(request), by=Actor.of(request))
        except Refused as error:
            refused = f"{error} {error.hint}".strip()
        else:
            messages.success(request, f"Welcome to {membership.workspace.name}.")
            return redirect("overview", slug=membership.workspace.slug)
    shown = {"workspace": found.workspace.name, "role": found.get_role_display().lower()}
    return render(
        request, "workspaces/invitation.html", {"invitation": shown, "refused": refused}, status=422 if refused else 200
    )


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    user = _person(request)
    form = ProfileForm(request.POST or None, initial={"name": user.name})
    if form.is_valid():
        User.objects.filter(pk=user.pk).update(name=form.cleaned_data["name"])
        messages.success(request, "Saved.")
        return redirect("profile")
    workspaces = [
        {
            "name": one.workspace.name,
            "url": reverse("overview", args=[one.workspace.slug]),
            "role": one.get_role_display(),
        }
        for one in reads.memberships_of(user)
    ]
    context = {"form": form, "workspaces": workspaces}
    return render(request, "workspaces/profile.html", context, status=422 if form.errors else 200)
