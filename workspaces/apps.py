from __future__ import annotations

from django.apps import AppConfig


class WorkspacesConfig(AppConfig):
    name = "workspaces"

    def ready(self) -> None:
        # Models are ready only now. workspaces.openapi is imported by what describes the API (REST_FRAMEWORK names it): it and Django REST
        # framework are an eighth of a start, of gateways and workers as well.
        from workspaces import checks, logins

        checks.FirstConnection().watch()
        logins.listen()
