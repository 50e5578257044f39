"""Logins in the audit log, in the installation's own chain: who came in, who failed to, who left (SECURITY.md S75)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from workspaces import audit
from workspaces.audit import Actor
from workspaces.models import User


def listen() -> None:
    user_logged_in.connect(_came, dispatch_uid="workspaces.audit.login")
    user_logged_out.connect(_left, dispatch_uid="workspaces.audit.logout")
    user_login_failed.connect(_failed, dispatch_uid="workspaces.audit.login_failed")


def _came(sender: object, request: HttpRequest | None, user: User, **_: Any) -> None:
    _record("login", request, user.email)


def _left(sender: object, request: HttpRequest | None, user: User | None, **_: Any) -> None:
    if user is not None:
        _record("logout", request, user.email)


def _failed(sender: object, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    _record("login.failed", request, str(credentials.get("email") or credentials.get("username") or ""))


def _record(action: str, request: HttpRequest | None, email: str) -> None:
    address = request.META.get("REMOTE_ADDR", "") if request is not None else ""
    audit.record(workspace=None, by=Actor(email.lower(), address), action=action)
