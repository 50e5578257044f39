from __future__ import annotations

from django.apps import AppConfig


class WorkspacesConfig(AppConfig):
    name = "workspaces"

    def ready(self) -> None:
        from workspaces import checks, logins, openapi  # noqa: F401 - each registers itself; models are ready only now

        checks.FirstConnection().watch()
        logins.listen()
