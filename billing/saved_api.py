"""The REST API of saved views: questions to the cost explorer under a name, one's own and the shared ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl
from uuid import UUID

from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ledger import queries
from billing.saved import actions as saved
from billing.saved.models import SavedView
from billing.views import question
from workspaces.errors import Invalid
from workspaces.rest import Strict, WorkspaceAPIView, listed, paged
from workspaces.roles import Action


class SavedViewShown(serializers.ModelSerializer[SavedView]):
    class Meta:
        model = SavedView
        fields = ["id", "name", "query", "owner_name", "is_shared", "created_at", "updated_at"]
        read_only_fields = fields


class SavedViewWanted(Strict):
    name = serializers.CharField(max_length=80)
    query = serializers.CharField(
        max_length=saved.MOST_CHARACTERS, help_text="The query string of the explorer's address, e.g. `by=customer`."
    )
    shared = serializers.BooleanField(required=False, default=False, help_text="Whether the whole workspace sees it.")


class SavedViews(WorkspaceAPIView):
    """One's own views and the shared ones. Saving under a name one already has replaces its question."""

    needs: ClassVar = {"GET": Action.SEE_SPEND, "POST": Action.SAVE_VIEWS}

    @extend_schema(operation_id="saved_views_list", responses=listed(SavedViewShown))
    def get(self, request: Request, slug: str) -> Response:
        rows = SavedView.objects.filter(Q(owner_id=self.membership.user_id) | Q(is_shared=True))
        return paged(request, rows, lambda row: SavedViewShown(row).data)

    @extend_schema(operation_id="saved_views_create", request=SavedViewWanted, responses={201: SavedViewShown})
    def post(self, request: Request, slug: str) -> Response:
        wanted = SavedViewWanted.read(request)
        row = saved.save_view(
            workspace=self.workspace, by=self.actor, membership=self.membership, **{**wanted, "query": self._checked(wanted["query"])}
        )  # fmt: skip
        return Response(SavedViewShown(row).data, status=201)

    def _checked(self, query: str) -> str:
        """As the explorer understands it. Raises Invalid for what it does not."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=60)
        except ValueError:
            raise Invalid("Write the query string of an explorer's address.", field="query") from None
        asked = question.read(pairs, queries.today(self.workspace, datetime.now(UTC)))
        if asked.problems:
            raise Invalid(" ".join(asked.problems), field="query")
        return asked.query()


class OneSavedView(WorkspaceAPIView):
    needs: ClassVar = {"GET": Action.SEE_SPEND, "DELETE": Action.SAVE_VIEWS}

    @extend_schema(operation_id="saved_views_show", responses=SavedViewShown)
    def get(self, request: Request, slug: str, view_id: UUID) -> Response:
        return Response(SavedViewShown(saved.find_view(self.membership, view_id)).data)

    @extend_schema(operation_id="saved_views_delete", responses={204: None})
    def delete(self, request: Request, slug: str, view_id: UUID) -> Response:
        asked: dict[str, Any] = {"workspace": self.workspace, "by": self.actor, "membership": self.membership}
        saved.delete_view(**asked, view_id=view_id)
        return Response(status=204)
