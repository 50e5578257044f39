"""Where the ledger's writer stands."""

from __future__ import annotations

from django.db import models


class StreamOffset(models.Model):
    """How far the ledger has read a partition's stream; committed with the rows it read."""

    partition = models.SmallIntegerField(primary_key=True)
    last_id = models.CharField(max_length=64, default="")
    """Id of the last committed entry; empty: from the beginning."""
    last_seal = models.BinaryField(max_length=16, default=b"")
    """Digest of that entry. It stays in the stream; when it is gone or differs, Redis has lost or replaced the stream."""
    resets = models.IntegerField(default=0)
    """How often the stream was found lost or replaced, and read from its beginning."""
    drained_at = models.DateTimeField(null=True)
    """When the writer last found nothing more to read."""

    class Meta:
        db_table = "billing_stream_offset"

    def __str__(self) -> str:
        return f"p{self.partition:02d} {self.last_id}"


class SequenceMark(models.Model):
    """The highest seq of a workspace that the books have seen, and the numbers missing below it (an alarm)."""

    workspace_id = models.BigIntegerField(primary_key=True)
    seq = models.BigIntegerField()
    gaps = models.JSONField()
    """[[first, last], ...] never seen so far, oldest first."""

    class Meta:
        db_table = "billing_sequence_mark"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.seq}"


class DeadLetter(models.Model):
    """A stream entry that could not be booked. Tried five times, then quarantined; the others go on meanwhile."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField(null=True)
    """Null when even that could not be read."""
    partition = models.SmallIntegerField()
    stream_id = models.CharField(max_length=64)
    seal = models.BinaryField(max_length=16)
    fields = models.JSONField()
    """The raw entry: names and values as Latin-1 text, so that any bytes survive."""
    error = models.CharField(max_length=500)
    tries = models.SmallIntegerField()
    first_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True)
    """When it is tried again; null: quarantined, a person must look."""

    class Meta:
        db_table = "billing_dead_letter"
        constraints = [
            models.UniqueConstraint(fields=["partition", "stream_id", "seal"], name="billing_dead_letter_once")
        ]

    def __str__(self) -> str:
        return f"p{self.partition:02d} {self.stream_id}"
