"""The OpenAPI document: how the API is authenticated, the manners every address has (`workspaces.rest`), and what each operation is called.

Views say what is theirs with `extend_schema`; whatever holds for all of them is added here, so that no view can forget it.
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import get_doc
from rest_framework.serializers import CharField

from workspaces import openapi_examples, openapi_tags, roles
from workspaces.models import Role

PROBLEM = "application/problem+json"
_ALWAYS = (400, 401, 403, 404, 429)
_ANSWERS: dict[str, tuple[int, ...]] = {
    "get": _ALWAYS,
    "post": (*_ALWAYS, 409, 415, 422),
    "put": (*_ALWAYS, 409, 412, 415),
    "patch": (*_ALWAYS, 409, 412, 415),
    "delete": (*_ALWAYS, 409, 412),
}
_MEANS = {
    400: ("Invalid", "The request has errors; `errors` names the fields."),
    401: ("Unauthorized", "No API token, or one that is unknown, expired or revoked."),
    403: ("NotAllowed", "The token's scopes or its maker's role do not allow this."),
    404: ("NotFound", "There is no such thing in this workspace, or no such workspace for this token."),
    409: ("Conflict", "It cannot be done in the state things are in, or the name is taken."),
    412: ("ChangedMeanwhile", "If-Match names an older version: somebody edited it meanwhile."),
    415: ("UnsupportedMediaType", "The body is not JSON."),
    422: ("IdempotencyKeyReused", "This Idempotency-Key was used for another request."),
    429: ("TooManyRequests", "The token asks too often; Retry-After says when to come back."),
}


class ApiTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Registers itself by being defined."""

    target_class = "workspaces.authentication.ApiTokenAuthentication"
    name = "apiToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token of Sluice, `slt_...`."}


class StrictBody(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Bodies refuse fields they do not know, and empty texts where something is asked for; the document says so."""

    target_class = "workspaces.rest.Strict"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        if "__doc__" not in vars(type(self.target)) or not type(self.target).__doc__:
            schema.pop("description", None)  # the base class's, which is for programmers
        for name, field in self.target.fields.items():
            if isinstance(field, CharField) and not field.allow_blank:
                schema["properties"][name] = {**schema["properties"][name], "minLength": 1}
        return {**schema, "additionalProperties": False}


class Described(AutoSchema):
    """Names and words of an operation where its view gives none. Docstrings of base classes are for programmers, not for readers of the API."""

    def get_description(self) -> str:  # type: ignore[override]
        handler = getattr(self.view, self.method.lower(), None)
        return get_doc(handler) or str(vars(type(self.view)).get("__doc__") or "").strip()

    def get_tags(self) -> list[str]:
        return [openapi_tags.tag_of(self.path)]

    def get_operation_id(self) -> str:
        name = super().get_operation_id().removeprefix("workspaces_")
        handlers = [method for method in ("get", "post", "put", "patch", "delete") if hasattr(self.view, method)]
        return re.sub("_(create|update)$", "", name) if len(handlers) == 1 else name

    def get_extensions(self) -> dict[str, Any]:
        """Which scope the token needs, and which roles its maker may have (`workspaces.roles`)."""
        action = getattr(self.view, "needs", {}).get(self.method)
        if action is None:
            return {}
        narrows = getattr(self.view, "narrows", False)
        return {
            "x-scope": roles.TABLE[action].scope.value,
            "x-roles": [role.value for role in Role if roles.may(role, action, narrows=narrows)],
        }


_IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "Makes the request safe to repeat: within 24 hours the same key with the same body is answered again, not done again.",
    "example": "order-4711",
}
_IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "An ETag from reading the object: 412 when somebody edited it meanwhile.",
    "example": "*",
}
_LIMIT = {
    "in": "query",
    "name": "limit",
    "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
    "description": "Rows on a page.",
}
_CURSOR = {
    "in": "query",
    "name": "cursor",
    "schema": {"type": "string"},
    "description": "From the `next` of the page before.",
}
_PROBLEM_SCHEMA = {
    "type": "object",
    "description": "Problem details (RFC 9457). `code` is stable, `detail` is for people, `hint` says what to do.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                "required": ["field", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "code", "detail"],
}
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "For If-Match."}}


def manners(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A postprocessing hook: what the base view reads and answers, on every operation it does so for; then names and examples."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM_SCHEMA
    components["responses"] = {name: _answer(status, text) for status, (name, text) in _MEANS.items()}
    tags = set()
    for path, operations in result.get("paths", {}).items():
        inside = "{slug}" in path
        for method, operation in operations.items():
            parameters = operation.setdefault("parameters", [])
            if inside and method == "post":
                parameters.append(_IDEMPOTENCY_KEY)
            if inside and method in ("patch", "put", "delete") and "get" in operations:
                parameters.append(_IF_MATCH)
            if method == "get" and _is_page(operation):
                known = {parameter["name"] for parameter in parameters}
                parameters.extend(one for one in (_LIMIT, _CURSOR) if one["name"] not in known)
            for one in parameters:
                if one["name"] == "slug":
                    one["description"] = "The workspace's address."
                if one["in"] == "query" and not one.get("description"):
                    one["description"] = f"Only those with this {one['name'].removesuffix('_id').replace('_', ' ')}."
            _answers(operation, method, tagged="patch" in operations and method in ("get", "patch", "put"))
            operation.setdefault("summary", openapi_tags.summary_of(operation["operationId"], _is_page(operation)))
            tags.update(operation.get("tags", ()))
    result["tags"] = openapi_tags.listed(tags)
    result["servers"] = [{"url": settings.PUBLIC_URL}]
    openapi_examples.add(result)
    return result


def _answers(operation: dict[str, Any], method: str, *, tagged: bool) -> None:
    answers = operation["responses"]
    for status, answer in answers.items():
        answer["description"] = answer.get("description") or "Done."
        if tagged and status == "200":
            answer.setdefault("headers", {}).update(_ETAG)
    for status in _ANSWERS.get(method, _ALWAYS):
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{_MEANS[status][0]}"})
    operation["responses"] = dict(sorted(answers.items()))


def _answer(status: int, text: str) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": "about:blank",
        "title": _MEANS[status][0],
        "status": status,
        "code": openapi_examples.CODES[status],
        "detail": text,
    }
    headers = {}
    if status == 429:
        headers = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    schema = {"$ref": "#/components/schemas/Problem"}
    answer: dict[str, Any] = {"description": text, "content": {PROBLEM: {"schema": schema, "example": example}}}
    return answer | ({"headers": headers} if headers else {})


def _is_page(operation: dict[str, Any]) -> bool:
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    return str(content.get("schema", {}).get("$ref", "")).endswith("Page")
