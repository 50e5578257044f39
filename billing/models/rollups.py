"""Sums: rollups by hour, day, month and combination, as rows and packed."""

from __future__ import annotations

from django.db import models

from billing.models.attributed import Attributed


class Measures(models.Model):
    """What a rollup adds up. Sums only, so that any order of events gives the same row."""

    calls = models.BigIntegerField()
    """First attempts: one a call."""
    attempts = models.BigIntegerField()
    errors = models.BigIntegerField()
    """Attempts that failed, charged or not."""
    voids = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    assumed_nano = models.BigIntegerField()
    """The part of the cost that is still an unconfirmed upper bound."""
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    timed = models.BigIntegerField()
    """Attempts with a known duration."""
    first_byte_ms = models.BigIntegerField()
    first_bytes = models.BigIntegerField()
    """Attempts with a known first byte."""
    overhead_us = models.BigIntegerField()

    class Meta:
        abstract = True


class RollupHour(Measures):
    """Per hour and value of one dimension. Partitioned by month of `hour`."""

    pk = models.CompositePrimaryKey("workspace_id", "dimension", "hour", "value")
    workspace_id = models.BigIntegerField()
    dimension = models.CharField(max_length=40)
    """A `Dimension`, "tag:<key>", or empty for the workspace's total. Users and sessions have no hours."""
    hour = models.DateTimeField()
    """Start of the hour on the workspace's wall clock (so :15, :30 or :45 past in zones such as Kathmandu's)."""
    value = models.CharField(max_length=128)

    class Meta:
        db_table = "billing_rollup_hour"

    def __str__(self) -> str:
        return f"{self.dimension}={self.value} {self.hour}"


class RollupDay(Measures):
    """Per day and value of one dimension, all dimensions."""

    pk = models.CompositePrimaryKey("workspace_id", "dimension", "day", "value")
    workspace_id = models.BigIntegerField()
    dimension = models.CharField(max_length=40)
    day = models.DateField()
    """The workspace's own calendar, as its time zone was when the call was booked."""
    value = models.CharField(max_length=128)

    class Meta:
        db_table = "billing_rollup_day"

    def __str__(self) -> str:
        return f"{self.dimension}={self.value} {self.day}"


class RollupMonth(Measures):
    """Per month and value of one dimension, so that a year of ten thousand customers is few rows. No users and sessions."""

    pk = models.CompositePrimaryKey("workspace_id", "dimension", "month", "value")
    workspace_id = models.BigIntegerField()
    dimension = models.CharField(max_length=40)
    month = models.DateField()
    """First day of the month in the workspace's calendar."""
    value = models.CharField(max_length=128)

    class Meta:
        db_table = "billing_rollup_month"

    def __str__(self) -> str:
        return f"{self.dimension}={self.value} {self.month}"


class RollupDetail(Measures, Attributed):
    """Per day and combination of all dimensions: what groups by two of them and filters by any read. Partitioned by month of `day`.

    Bounded per workspace and day (`billing.ledger.rollups.MAX_DETAIL_ROWS`): beyond it, new combinations lose session, user and tags.
    """

    pk = models.CompositePrimaryKey("workspace_id", "day", "digest")
    workspace_id = models.BigIntegerField()
    day = models.DateField()
    digest = models.UUIDField()
    """128-bit digest of the combination."""

    class Meta:
        db_table = "billing_rollup_detail"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.day} {self.digest}"


class Minute(models.Model):
    """What ended in a minute of the last hours, by value of a few dimensions (`billing.ledger.minutes`). Unlogged: a crash of PostgreSQL
    loses hours of habit, and nothing that counts."""

    pk = models.CompositePrimaryKey("minute", "workspace_id", "dimension", "value")
    minute = models.DateTimeField()
    workspace_id = models.BigIntegerField()
    dimension = models.CharField(max_length=40)
    """Empty for the workspace's total."""
    value = models.CharField(max_length=128)
    attempts = models.BigIntegerField()
    errors = models.BigIntegerField()
    cost_nano = models.BigIntegerField()

    class Meta:
        db_table = "billing_minute"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.dimension}={self.value} {self.minute}"


class Pack(models.Model):
    """Rows of one day by column (`billing.ledger.packs`): the columns that every pack has, `Measures` among them."""

    workspace_id = models.BigIntegerField()
    day = models.DateField()
    rows = models.IntegerField()
    sum_cost_nano = models.BigIntegerField()
    """With the next two: what `reconcile` compares without unpacking."""
    sum_assumed_nano = models.BigIntegerField()
    sum_attempts = models.BigIntegerField()
    calls = models.BinaryField()
    attempts = models.BinaryField()
    errors = models.BinaryField()
    voids = models.BinaryField()
    cost_nano = models.BinaryField()
    assumed_nano = models.BinaryField()
    unpriced_calls = models.BinaryField()
    input_tokens = models.BinaryField()
    cache_read_tokens = models.BinaryField()
    cache_write_tokens = models.BinaryField()
    output_tokens = models.BinaryField()
    duration_ms = models.BinaryField()
    timed = models.BinaryField()
    first_byte_ms = models.BinaryField()
    first_bytes = models.BinaryField()
    overhead_us = models.BinaryField()

    class Meta:
        abstract = True


class DetailPack(Pack):
    """The combinations of a workspace's day, by column (`billing.ledger.packs`). A combination may also have a row in `RollupDetail`: both count."""

    pk = models.CompositePrimaryKey("workspace_id", "day")
    virtual_key = models.BinaryField()
    member = models.BinaryField()
    agent = models.BinaryField()
    department = models.BinaryField()
    customer = models.BinaryField()
    feature = models.BinaryField()
    user = models.BinaryField(db_column="end_user")
    session = models.BinaryField()
    model = models.BinaryField()
    provider = models.BinaryField()
    environment = models.BinaryField()
    tags = models.BinaryField()

    class Meta:
        db_table = "billing_detail_pack"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.day}"


class ValuePack(Pack):
    """What rows of a dimension's rollup came to on one day, by column (`billing.ledger.packs.gathering`). Rows that are left count, too."""

    dimension = models.CharField(max_length=40)
    """Never empty: the workspace's total stays in rows."""
    value = models.BinaryField()

    class Meta:
        abstract = True


class DayPack(ValuePack):
    """Rows of `RollupDay`."""

    pk = models.CompositePrimaryKey("workspace_id", "dimension", "day")

    class Meta:
        db_table = "billing_day_pack"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.dimension} {self.day}"


class HourPack(ValuePack):
    """Rows of `RollupHour` whose hour begins on a day of UTC."""

    pk = models.CompositePrimaryKey("workspace_id", "dimension", "day")
    hour = models.BinaryField()
    """Its start in quarters of an hour since 1970."""

    class Meta:
        db_table = "billing_hour_pack"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.dimension} {self.day}"


class MonthPack(Pack):
    """Packs of a month's days as one (`billing.ledger.packs.merging`): texts of all days once, rows in the order of days. `day` is the month's first.
    What comes later has a pack of its day, or rows: all count."""

    days = models.BinaryField()
    """The days that have rows, since 1970."""
    ends = models.BinaryField()
    """Where the rows of each end."""

    class Meta:
        abstract = True


class DetailMonthPack(MonthPack):
    """Of `DetailPack`."""

    pk = models.CompositePrimaryKey("workspace_id", "day")
    virtual_key = models.BinaryField()
    member = models.BinaryField()
    agent = models.BinaryField()
    department = models.BinaryField()
    customer = models.BinaryField()
    feature = models.BinaryField()
    user = models.BinaryField(db_column="end_user")
    session = models.BinaryField()
    model = models.BinaryField()
    provider = models.BinaryField()
    environment = models.BinaryField()
    tags = models.BinaryField()

    class Meta:
        db_table = "billing_detail_month_pack"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.day}"


class DayMonthPack(MonthPack):
    """Of `DayPack`. Users and sessions have none."""

    pk = models.CompositePrimaryKey("workspace_id", "dimension", "day")
    dimension = models.CharField(max_length=40)
    value = models.BinaryField()

    class Meta:
        db_table = "billing_day_month_pack"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.dimension} {self.day}"
