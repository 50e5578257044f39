"""Dimensions: what spend is attributed to. The closed list of DESIGN section 1 plus free tags, and their bounds."""

from __future__ import annotations

from enum import StrEnum


class Dimension(StrEnum):
    MEMBER = "member"
    AGENT = "agent"
    DEPARTMENT = "department"
    VIRTUAL_KEY = "virtual_key"
    CUSTOMER = "customer"
    FEATURE = "feature"
    USER = "user"
    SESSION = "session"
    MODEL = "model"
    PROVIDER = "provider"
    ENVIRONMENT = "environment"


MAX_VALUE_CHARS = 128
MAX_TAGS = 10
MAX_TAG_KEY_CHARS = 32
OTHER = "__other__"
"""The bucket that takes values beyond a workspace's cardinality limit."""
