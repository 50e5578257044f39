"""What every route of the REST API is built of: it says what it needs, is inside its workspace, and lists by a stable cursor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.db.models import Field, Model, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from workspaces import idempotency, narrowing, tenancy, throttles
from workspaces.actions.base import changing
from workspaces.audit import Actor
from workspaces.errors import NotThere, Refused
from workspaces.models import ApiToken, Membership, Workspace
from workspaces.permissions import RoleAllows
from workspaces.roles import Action

METHODS = ("get", "post", "put", "patch", "delete")
MOST_ROWS = 200
Row = TypeVar("Row", bound=Model)


class Strict(serializers.Serializer[Any]):
    """A body whose unknown fields are errors: a typo, or somebody trying `is_staff` (SECURITY.md S24), is told so.

    Text is text: DRF would take the number 10 for "10", which the document does not allow, and for a secret is surely a mistake.
    """

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            wrong = {name: ["There is no such field."] for name in data if name not in self.fields}
            wrong |= {
                name: ["Not a valid string."] for name in data if _is_number_for_text(self.fields.get(name), data[name])
            }
            if wrong:
                raise ValidationError(wrong)
        return super().to_internal_value(data)

    @classmethod
    def read(cls, request: Request, *, partial: bool = False) -> dict[str, Any]:
        """The checked body. Raises DRF's ValidationError."""
        body = cls(data=request.data, partial=partial)
        body.is_valid(raise_exception=True)
        return body.validated_data  # type: ignore[no-any-return]


def _is_number_for_text(field: Any, value: Any) -> bool:
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        return any(_is_number_for_text(field.child, one) for one in value)
    return isinstance(field, serializers.CharField | serializers.UUIDField) and isinstance(value, int | float)


class WorkspaceAPIView(APIView):
    """A route under `/api/v1/workspaces/<slug>/`.

    `needs` says which action each method is, for the role table; a method without an entry does not start. The handler runs inside the
    workspace, so its queries see this tenant only.
    """

    permission_classes: ClassVar[list[type[BasePermission]]] = [RoleAllows]  # type: ignore[misc]
    http_method_names: ClassVar[list[str]] = [*METHODS, "head"]  # type: ignore[misc]
    needs: ClassVar[dict[str, Action]] = {}
    moving: ClassVar[frozenset[str]] = frozenset({"last_used_at"})
    """Fields that change by use, not by an edit: an ETag leaves them out."""
    narrows: ClassVar[bool] = False
    """Whether all it answers is narrowed to a lead's department (`workspaces.narrowing`); otherwise leads are refused."""
    membership: Membership
    _once: idempotency.Once | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [method for method in METHODS if hasattr(cls, method) and method.upper() not in cls.needs]
        if missing:
            raise TypeError(f"{cls.__name__}.needs says nothing about {', '.join(missing)}")

    @property
    def workspace(self) -> Workspace:
        return self.membership.workspace

    @property
    def actor(self) -> Actor:
        return Actor.member(self.membership, self.request.META.get("REMOTE_ADDR", ""))

    @property
    def token(self) -> ApiToken:
        token = self.request.auth
        assert isinstance(token, ApiToken)  # noqa: S101 - the permission made sure
        return token

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as self._inside:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self._rate: dict[str, str] = throttles.count(request)
        super().initial(request, *args, **kwargs)
        self._inside.enter_context(tenancy.entered(self.workspace))
        self._inside.enter_context(narrowing.narrowed_to(self.membership))
        if request.method == "POST" and idempotency.HEADER in request.headers:
            self._do_once(request)
        if request.method in ("PATCH", "PUT", "DELETE") and "If-Match" in request.headers:
            self._must_match(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if self._once is not None:
            if 200 <= response.status_code < 300:
                self._once.remember(response.status_code, response.data)
            else:
                transaction.set_rollback(True)
        if request.method in ("GET", "PATCH", "PUT") and response.status_code == 200 and hasattr(self, "patch"):
            response["ETag"] = self._etag(response.data)
        for name, value in getattr(self, "_rate", {}).items():
            response[name] = value
        return super().finalize_response(request, response, *args, **kwargs)

    def handle_exception(self, error: Exception) -> Response:
        if isinstance(error, _Replayed):
            return Response(error.answer.data, status=error.answer.status, headers={"Idempotency-Replayed": "true"})
        return super().handle_exception(error)

    def _do_once(self, request: Request) -> None:
        """From here on one transaction, in which the act and its remembered answer become true together."""
        key = request.headers[idempotency.HEADER]
        once = idempotency.Once(self.token, key, "POST", request.get_full_path(), request.body)
        self._inside.enter_context(transaction.atomic())
        answer = once.begin()
        if answer is not None:
            raise _Replayed(answer)
        self._once = once

    def _must_match(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Hold the workspace's lock from the comparison to the edit, so that nobody edits in between."""
        show = getattr(self, "get", None)
        if show is None:
            raise ValidationError({"If-Match": ["This address has no ETag."]})
        self._inside.enter_context(changing(self.workspace))
        wanted = {tag.strip() for tag in request.headers["If-Match"].split(",")}
        if "*" not in wanted and self._etag(show(request, *args, **kwargs).data) not in wanted:
            raise Changed("It has changed since you read it.", hint="Read it again, and send its new ETag in If-Match.")

    def _etag(self, data: Any) -> str:
        """Of what an edit can change of one object."""
        lasting = {name: value for name, value in dict(data).items() if name not in self.moving}
        return f'"{hashlib.sha256(orjson.dumps(lasting, default=str, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]}"'


class Changed(Refused):
    status = HTTPStatus.PRECONDITION_FAILED
    code = "changed_meanwhile"


class _Replayed(Exception):
    """Not an error: the answer is known already."""

    def __init__(self, answer: idempotency.Answer) -> None:
        super().__init__()
        self.answer = answer


def one_of(rows: QuerySet[Row], pk: UUID, what: str) -> Row:
    """The row with this id. Raises NotThere, which says what is not there."""
    row = rows.filter(pk=pk).first()
    if row is None:
        raise NotThere(f"There is no such {what} in this workspace.")
    return row


def paged(request: Request, rows: QuerySet[Row], shown: Callable[[Row], Any], *, key: str = "id") -> Response:
    """One page of a list, newest first by `key` (unique; our ids sort by time): `{"results": [...], "next": address or null}`.

    `?limit=` 1 to 200 (50), `?cursor=` the key of the last row of the page before. Rows that come or go meanwhile shift nothing.
    """
    limit = page_size(request)
    if cursor := request.query_params.get("cursor"):
        try:
            field = rows.model._meta.get_field(key)
            after = cast("Field[Any, Any]", field).to_python(cursor)
        except (DjangoValidationError, ValueError):
            raise BadCursor from None
        rows = rows.filter(**{f"{key}__lt": after})
    found = list(rows.order_by(f"-{key}")[: limit + 1])
    following = next_page(request, getattr(found[limit - 1], key)) if len(found) > limit else None
    return Response({"results": [shown(row) for row in found[:limit]], "next": following})


class BadCursor(ValidationError):
    def __init__(self) -> None:
        super().__init__({"cursor": ["Use the cursor of an earlier answer."]})


def page_size(request: Request) -> int:
    """`?limit=`: how many rows a page of a list has."""
    text = request.query_params.get("limit", "50")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_ROWS):
        raise ValidationError({"limit": [f"Write a whole number from 1 to {MOST_ROWS}."]})
    return int(text)


def next_page(request: Request, cursor: object) -> str:
    """The address of the page after the row with this cursor, with what else was asked."""
    asked = {name: value for name, value in request.query_params.items() if name != "cursor"}
    return f"{settings.PUBLIC_URL}{request.path}?{urlencode({**asked, 'cursor': str(cursor)})}"


def listed(row: type[serializers.BaseSerializer[Any]], *, whole: bool = False) -> Any:
    """For the OpenAPI document: a page of rows; or, `whole`, all of them at once, without `limit` and `cursor`."""
    name = row.__name__.removesuffix("Shown") + ("List" if whole else "Page")
    fields = {"results": row(many=True), "next": serializers.URLField(allow_null=True)}
    return type(name, (serializers.Serializer,), fields)
