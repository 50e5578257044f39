"""Bearer tokens of the REST API. No cookies here, so no CSRF here (SECURITY.md S56)."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from workspaces import keys
from workspaces.models import ApiToken, User


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer slt_...` -> (user, ApiToken). Whatever else the header holds: 401, at most one query."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        header: str = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, text = header.partition(" ")
        token = keys.recognise_token(text.strip(" ")) if scheme.lower() == "bearer" else None
        if token is None:
            raise AuthenticationFailed("This API token is unknown, malformed, expired or revoked.", code="bad_token")
        _mark_used(token)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="sluice"'


def _mark_used(token: ApiToken) -> None:
    """To the minute: people look for tokens nobody uses, not for the second of the last use."""
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
