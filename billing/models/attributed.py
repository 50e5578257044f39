"""What every call is attributed to, as columns."""

from __future__ import annotations

from django.db import models


class Attributed(models.Model):
    """The dimensions of DESIGN section 1 as columns; empty text where a call has none. `user` is the column `end_user`."""

    virtual_key = models.CharField(max_length=36)
    """Virtual key id (UUID text), so that every dimension is text."""
    member = models.CharField(max_length=128)
    agent = models.CharField(max_length=128)
    department = models.CharField(max_length=128)
    customer = models.CharField(max_length=128)
    feature = models.CharField(max_length=128)
    user = models.CharField(max_length=128, db_column="end_user")
    session = models.CharField(max_length=128)
    model = models.CharField(max_length=128)
    """Model asked of the provider."""
    provider = models.CharField(max_length=32)
    environment = models.CharField(max_length=128)
    tags = models.JSONField()

    class Meta:
        abstract = True
