"""Pages of the books, under `/w/<slug>/`."""

from __future__ import annotations

from django.urls import URLPattern, path

from billing.views import calls, overview

inside: list[URLPattern] = [
    path("", overview.overview, name="overview"),
    path("live/", overview.overview_live, name="overview_live"),
    path("calls/", calls.calls, name="calls"),
    path("calls/<uuid:call_id>/", calls.call, name="call"),
]
