"""Which peppers the digests of live keys still need: the old one may go when nothing stands under it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Count, Q
from django.utils import timezone

from workspaces import keys
from workspaces.models import ApiToken, VirtualKey


class Command(BaseCommand):
    help = "Count live virtual keys and API tokens by the pepper of their digest. Exit 1 while the previous one is still needed."

    def handle(self, *args: Any, **options: Any) -> None:
        known = keys.peppers()
        behind = 0
        for what, model in (("virtual keys", VirtualKey), ("API tokens", ApiToken)):
            live = model._default_manager.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None)
            for version, count in live.values_list("pepper_version").annotate(Count("pk")).order_by("pepper_version"):
                now = version == known.current_version
                behind += 0 if now else count
                pepper = (
                    "the current pepper"
                    if now
                    else "SLUICE_PEPPER_PREVIOUS"
                    if version in known.by_version
                    else "a pepper that is gone"
                )
                self.stdout.write(f"{count:>7} {what} under {pepper}")
        if behind:
            self.stderr.write(
                f"{behind} live keys would stop working without the old pepper: those that are used move by themselves."
            )
            raise SystemExit(1)
