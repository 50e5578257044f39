"""`/w/<slug>/...`: find the workspace, check the membership, enter the tenancy for the whole view.

Under ASGI Django runs this synchronous middleware and the synchronous view beneath it on one thread (asgiref's thread-sensitive executor of the
request), and a schema belongs to that thread's connection: so entering here covers the view, its template, and exceptions; `entered` leaves
on every way out, also when the client hangs up. An asynchronous view stays outside on purpose: it sees no tenant's rows, and calls
`tenancy.run(request.workspace, ...)`. A synchronous streaming body is produced after this function returned, so each of its
steps enters anew; an asynchronous one again uses `tenancy.run`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse

from workspaces import tenancy
from workspaces.domain.slugs import SLUG
from workspaces.models import Membership, User, Workspace, WorkspaceState

_SLUG = re.compile(r"/w/([^/]+)(?:/|$)")


class WorkspaceMiddleware:
    """Sets `request.workspace` and `request.membership` (None outside `/w/`).

    A workspace one is no member of and one that does not exist are the same 404 after the same query (SECURITY.md S38).
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.workspace = request.membership = None  # type: ignore[attr-defined]
        match = _SLUG.match(request.path_info)
        if match is None:
            return self.get_response(request)
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        membership = membership_of(request, match.group(1))
        request.membership = membership  # type: ignore[attr-defined]
        request.workspace = membership.workspace  # type: ignore[attr-defined]
        with tenancy.entered(membership.workspace):
            response = self.get_response(request)
        if isinstance(response, StreamingHttpResponse) and not response.is_async:
            response.streaming_content = _inside(
                membership.workspace, cast("Iterable[bytes]", response.streaming_content)
            )
        return response


def membership_of(request: HttpRequest, slug: str) -> Membership:
    if not SLUG.fullmatch(slug):
        raise Http404("no such workspace")
    rows = Membership.objects.select_related("workspace").filter(user_id=cast("User", request.user).pk)
    mine = list(rows.exclude(workspace__state=WorkspaceState.DELETING).order_by("workspace__name", "workspace_id"))
    request.memberships = mine  # type: ignore[attr-defined]  # the switcher shows them: one query serves both
    membership = next((one for one in mine if one.workspace.slug == slug), None)
    if membership is None:
        raise Http404("no such workspace")
    return membership


def _inside(workspace: Workspace, body: Iterable[bytes]) -> Iterator[bytes]:
    """Each step of `body` inside the workspace, and none of the time between steps, in which the thread may serve something else."""
    steps = iter(body)
    try:
        while True:
            with tenancy.entered(workspace):
                try:
                    chunk = next(steps)
                except StopIteration:
                    return
            yield chunk
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            with tenancy.entered(workspace):
                close()
