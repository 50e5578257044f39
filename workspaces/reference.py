"""The API's own description: the OpenAPI document."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, ClassVar

import orjson
from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The OpenAPI document of every route. Made once a process, for it takes a second or two; not to be changed by its readers."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


@lru_cache(maxsize=1)
def _written() -> tuple[bytes, str]:
    """(the document as JSON, its ETag)"""
    text = orjson.dumps(document(), default=str)
    return text, f'"{hashlib.sha256(text).hexdigest()[:32]}"'


class SchemaDocument(APIView):
    """The OpenAPI 3.1 document, as JSON, for everybody: it says nothing about anybody."""

    authentication_classes: ClassVar[list[type[BaseAuthentication]]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[type[BasePermission]]] = [AllowAny]  # type: ignore[misc]
    http_method_names: ClassVar[list[str]] = ["get", "head"]  # type: ignore[misc]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """It comes as JSON to whatever asks, a browser or a generator with a media type of its own."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        text, tag = _written()
        answer = HttpResponse(text, content_type="application/json", headers={"ETag": tag, "Cache-Control": "no-cache"})
        return get_conditional_response(request, etag=tag, response=answer) or answer
