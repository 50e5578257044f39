"""The slug of a workspace: its part of every address."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 40
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)

_RESERVED_WORDS = """
about abuse account accounts admin anthropic api app apps assets auth billing blog callback cdn contact dashboard demo dev docs
download email everyone favicon feedback gateway gemini globals graphql healthz help home http https inbox info internal invitations
invite legal localhost login logout mail mailer media metrics new noreply null oauth openai operator owner password pg postmaster
pricing privacy profile public readyz register robots root schema security settings setup signin signout signup simulator sitemap
sluice staff static status support system team teams tenant terms test undefined user users v1 w webhook webhooks well-known
workspace workspaces www
"""
RESERVED = frozenset(_RESERVED_WORDS.split())


class BadSlug(ValueError):
    """The slug cannot be used. The message is a sentence for the person who chose it."""


def checked(slug: str) -> str:
    """The slug itself when a new workspace may have it. Raises BadSlug."""
    if not 2 <= len(slug) <= LONGEST:
        raise BadSlug(f"An address has 2 to {LONGEST} characters.")
    if not SLUG.fullmatch(slug) or "--" in slug:
        raise BadSlug(
            "An address has small letters a to z, digits and single hyphens, with a letter or digit at both ends."
        )
    if slug.isdigit():
        raise BadSlug("An address needs at least one letter.")
    if slug in RESERVED or slug.startswith("deleted-"):
        raise BadSlug(f"“{slug}” is reserved. Choose another address.")
    return slug


def suggested(name: str) -> str:
    """A slug for a name, for forms to start from; empty where nothing usable is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST].strip("-")
