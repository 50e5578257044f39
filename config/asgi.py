"""One ASGI process, two faces: the data plane answers calls as plain ASGI, everything else is Django."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from config.fitness import refuse_unfit_stores, refuse_weak_secrets  # noqa: E402 - needs Django's app registry

if settings.PRODUCTION:
    refuse_weak_secrets()
    refuse_unfit_stores()

from gateway.asgi import application as gateway_application  # noqa: E402 - needs Django's app registry

GATEWAY_PREFIXES = ("/v1/", "/anthropic/", "/gemini/")
GATEWAY_PATHS = ("/healthz", "/readyz")


class Application:
    """Decides by the parsed path alone (SECURITY.md S25); lifespan and WebSockets belong to the gateway."""

    calls = staticmethod(gateway_application.answer)
    """For a server that has seen itself that a request is a call (`gateway.front`)."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path.startswith(GATEWAY_PREFIXES) or path in GATEWAY_PATHS:
            await gateway_application(scope, receive, send)
        else:
            await django_application(scope, receive, send)


application = Application()
