"""Addresses of pages and API. The gateway's own paths are decided before Django, in `config.asgi`."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("accounts/", include("allauth.urls")),
]
