"""Addresses of pages and API. The gateway's own paths are decided before Django, in `config.asgi`.

Outside any workspace: entrance and account pages. Under `/w/<slug>/`: the pages of one workspace, which `WorkspaceMiddleware` enters
before the view runs. Under `/api/v1/`: the REST API, with tokens instead of cookies.
"""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path, re_path

from billing import urls as billing
from guardrails import urls as guardrails
from guardrails.anomalies import urls as anomalies
from guardrails.signals import urls as signals
from guardrails.waste import urls as waste
from workspaces import problems
from workspaces import urls as workspaces

urlpatterns: list[URLPattern | URLResolver] = [
    *workspaces.entrance,
    *signals.outside,
    path("accounts/", include("allauth.urls")),
    path(
        "w/<str:slug>/",
        include(
            [*billing.inside, *guardrails.inside, *signals.inside, *anomalies.inside, *waste.inside, *workspaces.inside]
        ),
    ),
    path("api/v1/", include("workspaces.api_urls")),
    path("api/v1/", include("billing.api_urls")),
    path("api/v1/", include("guardrails.api_urls")),
    path("api/v1/", include("guardrails.signals.api_urls")),
    path("api/v1/", include("guardrails.anomalies.api_urls")),
    path("api/v1/", include("guardrails.waste.api_urls")),
    re_path(r"^api/", problems.nothing_here),  # last: what no API has is answered in the API's words, not with a page
]
