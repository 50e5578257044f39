"""How often a token may ask the REST API: a count a minute in the shared cache, so that all processes count together.

The cache may be away or empty: then nobody is counted. That limits load, not access; what may be done is `permissions`' to say.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from workspaces.models import ApiToken

WINDOW_S = 60
log = logging.getLogger(__name__)


class TooManyRequests(Throttled):
    default_detail = "This API token asks too often."
    default_code = "too_many_requests"


def count(request: Request) -> dict[str, str]:
    """Count a request of its token. Answers the RateLimit headers; raises TooManyRequests over the limit."""
    token: Any = request.auth
    limit = settings.API_REQUESTS_A_MINUTE
    if not isinstance(token, ApiToken) or limit == 0:
        return {}
    now = time.time()
    window = int(now // WINDOW_S)
    reset_s = max(1, int((window + 1) * WINDOW_S - now) + 1)
    used = _counted(f"api:{token.id}:{window}")
    if used > limit:
        raise TooManyRequests(wait=reset_s)
    return {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(limit - used), "RateLimit-Reset": str(reset_s)}


def _counted(name: str) -> int:
    try:
        cache.add(name, 0, timeout=2 * WINDOW_S)
        return cache.incr(name)
    except Exception as error:  # noqa: BLE001 - whatever the cache's client raises, the API does not depend on it
        log.warning("API requests are not counted: %s", type(error).__name__)
        return 0
