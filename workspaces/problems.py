"""How the REST API answers errors: RFC 9457 problem details."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import resolve
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from workspaces.errors import Refused

PROBLEM_JSON = "application/problem+json"


def nothing_here(request: HttpRequest) -> HttpResponse:
    """The answer to an address below /api/ that nothing has. Where only the slash at its end is missing, the way there, method and body kept."""
    if not request.path.endswith("/") and resolve(request.path + "/").func is not nothing_here:
        query = request.META.get("QUERY_STRING", "")
        return HttpResponse(status=308, headers={"Location": f"{request.path}/{'?' + query if query else ''}"})
    hint = "GET /api/v1/schema/ lists every address. They end in a slash."
    return JsonResponse(
        document(404, "not_found", "There is nothing at this address.", hint), status=404, content_type=PROBLEM_JSON
    )


def problem(status: int, code: str, detail: str, *, hint: str = "", errors: Any = None) -> Response:
    """The answer with a problem document."""
    return Response(document(status, code, detail, hint, errors), status=status, content_type=PROBLEM_JSON)


def document(status: int, code: str, detail: str, hint: str = "", errors: Any = None) -> dict[str, Any]:
    """One problem document (RFC 9457): type, title, status, detail, and our stable `code`, `hint`, `errors`."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
    }
    if hint:
        body["hint"] = hint
    if errors:
        body["errors"] = errors
    return body


def problem_details(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None lets an unexpected error become a 500, which is logged at the edge and shows nothing."""
    answer = _answer(error)
    if answer is not None:
        set_rollback()
    return answer


def _answer(error: Exception) -> Response | None:
    if isinstance(error, Refused):
        errors = [{"field": error.field, "message": str(error)}] if error.field else None
        return problem(error.status, error.code, str(error), hint=error.hint, errors=errors)
    if isinstance(error, Http404):
        return problem(404, "not_found", "There is nothing at this address.")
    if isinstance(error, PermissionDenied):
        return problem(403, "not_allowed", "You may not do this.")
    if isinstance(error, exceptions.ValidationError):
        return problem(400, "invalid", "The request has errors.", errors=_flat(error.detail))
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    return None


def _of_framework(error: exceptions.APIException) -> Response:
    code = error.get_codes()
    answer = problem(error.status_code, code if isinstance(code, str) else "refused", str(error.detail))
    if challenge := getattr(error, "auth_header", None):
        answer["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        answer["Retry-After"] = str(int(wait) + 1)
    return answer


def _flat(detail: Any, field: str = "") -> list[dict[str, str]]:
    """DRF's nested errors as a flat list of {field, message}."""
    if isinstance(detail, dict):
        pairs = ((f"{field}.{name}" if field else str(name), inner) for name, inner in detail.items())
        return [error for name, inner in pairs for error in _flat(inner, name)]
    if isinstance(detail, list):
        return [error for inner in detail for error in _flat(inner, field)]
    return [{"field": "" if field == "non_field_errors" else field, "message": str(detail)}]
