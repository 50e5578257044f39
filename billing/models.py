"""The books: the ledger, what is derived from it, and where its writer stands. Shared tables, one for all workspaces.

Every table with a `workspace_id` has row-level security forced (migrations): a connection that has not entered a workspace sees no
row of them, one that has sees only its own. Only the ledger writer (`billing.ledger.writer`) writes here, except `BudgetLine`, which
guardrails keeps in step with its budgets. Readers use `billing.ledger.queries`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.utils.functional import cached_property

from billing.ledger.kept import unfold_entry
from workspaces.ids import uuid7

if TYPE_CHECKING:
    _Text: TypeAlias = models.CharField[str, str]
else:  # no generic at run time
    _Text = models.CharField


class EntryState(models.TextChoices):
    SETTLED = "settled"
    VOID = "void"
    """Never sent, or an error the provider does not bill: no money, shown in the call log."""
    EXPIRED = "expired"
    """Nobody came back by the deadline: charged at the hold, an upper bound."""
    ADJUSTED = "adjusted"
    """A correction (leg 1): signed."""
    RERATED = "rerated"
    """A correction because a price arrived or changed (leg 2 and above): signed."""


class Leg(models.IntegerChoices):
    CHARGE = 0
    CORRECTION = 1
    FIRST_RERATING = 2
    """The first re-rating; each later one takes the next number."""


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


class Caller(models.Model):
    """Who called what with what: the dimensions that many lines have in common. Rows are added by the ledger writer and never change."""

    id = models.AutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    digest = models.UUIDField()
    """128-bit digest of all that follows."""
    virtual_key = models.CharField(max_length=36)
    """Virtual key id (UUID text), so that every dimension is text."""
    member = models.CharField(max_length=128)
    agent = models.CharField(max_length=128)
    department = models.CharField(max_length=128)
    feature = models.CharField(max_length=128)
    model = models.CharField(max_length=128)
    """Model asked of the provider."""
    provider = models.CharField(max_length=32)
    environment = models.CharField(max_length=128)
    tags = models.JSONField()

    class Meta:
        db_table = "billing_caller"
        constraints = [models.UniqueConstraint(fields=["workspace_id", "digest"], name="billing_caller_once")]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.digest}"


class Pattern(models.Model):
    """What the cold parts of many lines have in common (`ledger.folding`). Rows are added by the ledger writer and never change."""

    id = models.AutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    digest = models.UUIDField()
    """128-bit digest of the body."""
    body = models.BinaryField()
    """JSON"""

    class Meta:
        db_table = "billing_pattern"
        constraints = [models.UniqueConstraint(fields=["workspace_id", "digest"], name="billing_pattern_once")]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.digest}"


class Word(_Text):
    """One of a few words: an enumerated type of PostgreSQL, four bytes. SQL compares and shows it as text."""

    def __init__(self, *args: Any, enum: str, **options: Any) -> None:
        self.enum = enum
        super().__init__(*args, **options)

    def deconstruct(self) -> Any:
        name, path, args, options = super().deconstruct()
        return name, path, args, {**options, "enum": self.enum}

    def db_type(self, connection: Any) -> str:
        return f"public.{self.enum}"


class _OfCaller:
    """An attribute of the line's caller."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, entry: Any, owner: type) -> Any:
        return self if entry is None else getattr(entry.caller, self._name)


class _Folded:
    """A part of the line's detail."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, entry: Any, owner: type) -> Any:
        return self if entry is None else entry.unfolded[self._name]


class Entries(models.Manager["Entry"]):
    """Lines with what they have in common with others, in one statement."""

    def get_queryset(self) -> models.QuerySet[Entry]:
        return super().get_queryset().select_related("caller", "shape", "plan")


class Entry(models.Model):
    """One immutable ledger line. Partitioned by month of `at`; a trigger refuses UPDATE, and DELETE of what is to be kept.

    `at` is the time of admission, read from the attempt's id (a UUIDv7), so that the key (at, rid, leg) is as unique as (rid, leg).
    A charge may be corrected once by the truth about it (leg 1) and any number of times by a price (legs 2, 3, ...); the attempt's
    cost is the sum of its legs, what is known of it stands in the highest.

    What SQL filters or sums is a column here or in `caller`, all else is folded into `detail` (`ledger.folding`, ADR 0024).
    """

    pk = models.CompositePrimaryKey("workspace_id", "at", "rid", "leg")
    workspace_id = models.BigIntegerField()
    at = models.DateTimeField()
    cost_nano = models.BigIntegerField()
    hold_nano = models.BigIntegerField()
    rid = models.UUIDField()
    """The attempt's id, sent upstream as a header: what invoices are joined on."""
    call_id = models.UUIDField(null=True)
    """Null only for an attempt whose context was lost with Redis: its money is booked, the call log leaves it out."""
    caller = models.ForeignKey(Caller, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False)
    shape = models.ForeignKey(
        Pattern, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False, null=True
    )
    plan = models.ForeignKey(
        Pattern, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False, null=True
    )
    """Which counters it moved; null where it moved none."""
    state = Word(enum="billing_entry_state", max_length=8, choices=EntryState)
    basis = Word(enum="billing_entry_basis", max_length=8)
    price_status = Word(enum="billing_entry_price_status", max_length=9)
    leg = models.SmallIntegerField()
    failed = models.BooleanField()
    """The provider's status is an error, or `error` says one."""
    customer = models.CharField(max_length=128)
    user = models.CharField(max_length=128, db_column="end_user")
    session = models.CharField(max_length=128)
    unsure_tokens = models.CharField(max_length=64)
    """Of a line that is unpriced or partial: its answer's tokens as "input,cache read,cache write,output", for SQL to bound what it may cost; else
    empty."""
    detail = models.BinaryField()

    objects = Entries()

    class Meta:
        db_table = "billing_entry"
        indexes = [
            models.Index(
                fields=["workspace_id", "at"],
                name="billing_entry_unsure_price",
                condition=models.Q(price_status__in=["unpriced", "partial"]),
            ),
            # Without a time in them, so that PostgreSQL keeps equal keys together: 7.5 bytes an entry. The log of a rare customer reads 70 pages
            # instead of 50,000; a frequent one is found by time.
            models.Index(fields=["workspace_id", "customer"], name="billing_entry_of_customer"),
            models.Index(fields=["workspace_id", "user"], name="billing_entry_of_user"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state="adjusted", leg=1)
                | models.Q(state="rerated", leg__gte=2)
                | (~models.Q(state__in=["adjusted", "rerated"]) & models.Q(leg=0, cost_nano__gte=0)),
                name="billing_entry_only_a_correction_is_signed",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="void") | models.Q(cost_nano=0), name="billing_entry_void_is_free"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rid}/{self.leg}"

    virtual_key = _OfCaller()
    member = _OfCaller()
    agent = _OfCaller()
    department = _OfCaller()
    feature = _OfCaller()
    model = _OfCaller()
    provider = _OfCaller()
    environment = _OfCaller()
    tags = _OfCaller()

    ended_at = _Folded()
    """When the money Redis took this event."""
    seq = _Folded()
    attempt = _Folded()
    credential_id = _Folded()
    """A UUID, or None."""
    model_requested = _Folded()
    """What the client named, where it differs from `model`."""
    model_served = _Folded()
    endpoint = _Folded()
    streamed = _Folded()
    http_status = _Folded()
    """The provider's status; 0 when it never answered."""
    error = _Folded()
    first_byte_ms = _Folded()
    duration_ms = _Folded()
    overhead_us = _Folded()
    """These three: None where not known."""
    price_version = _Folded()
    fingerprint = _Folded()
    """`events.CallContext.fingerprint` as a signed number; None where there is none."""
    flags = _Folded()
    """Alarms: ["over", ...]."""
    counters = _Folded()
    """[[counter, unit, charged], ...]: what this line moved, as in the stream."""
    input_tokens = _Folded()
    """Uncached input of every modality; the four numbers of tokens are disjoint."""
    cache_read_tokens = _Folded()
    cache_write_tokens = _Folded()
    output_tokens = _Folded()

    @cached_property
    def unfolded(self) -> dict[str, Any]:
        return unfold_entry(self)

    def unpacked(self) -> dict[str, Any]:
        """usage, fees, breakdown, context (as in `events.Outcome`), raw_usage (JSON text) and provider_request_id, where known."""
        told: dict[str, Any] = self.unfolded["told"]
        return told


class Forgotten(models.Model):
    """What the lines that retention deleted added up to (`ledger.forgetting`), so that the books can still be compared with their totals."""

    pk = models.CompositePrimaryKey("workspace_id", "what")
    workspace_id = models.BigIntegerField()
    what = models.TextField()
    """A sum over all lines ("cost_nano", ...), or the counter that they were charged to."""
    amount = models.DecimalField(max_digits=40, decimal_places=0)

    class Meta:
        db_table = "billing_forgotten"

    def __str__(self) -> str:
        return f"{self.what} {self.amount}"


class OpenAttempt(models.Model):
    """An attempt that is held and not ended, as the stream told it: what a rebuild of the money Redis adopts."""

    rid = models.UUIDField(primary_key=True)
    workspace_id = models.BigIntegerField()
    at = models.DateTimeField()
    held_at = models.DateTimeField()
    deadline = models.DateTimeField()
    """The first deadline. Renewals are not in the stream: a rebuild gives every adopted hold a new lease."""
    seq = models.BigIntegerField()
    hold_nano = models.BigIntegerField()
    counters = models.JSONField()
    """[[counter, unit, held], ...]"""
    context = models.TextField()
    """JSON of `events.CallContext`, verbatim."""

    class Meta:
        db_table = "billing_open_attempt"
        indexes = [models.Index(fields=["workspace_id", "rid"], name="billing_open_by_workspace")]

    def __str__(self) -> str:
        return str(self.rid)


class BudgetTotal(models.Model):
    """Settled amount of one counter (a budget, a period, and for each-value budgets a value): the S of a rebuild."""

    pk = models.CompositePrimaryKey("workspace_id", "counter")
    workspace_id = models.BigIntegerField()
    counter = models.CharField(max_length=200)
    """Key suffix "b:<budget uuid>:<period start ms>[:<value digest>]"."""
    budget_id = models.UUIDField(null=True)
    period_start = models.DateTimeField(null=True)
    unit = models.CharField(max_length=8)
    settled = models.BigIntegerField()

    class Meta:
        db_table = "billing_budget_total"
        indexes = [
            models.Index(fields=["workspace_id", "budget_id", "-period_start"], name="billing_total_by_budget"),
            BrinIndex(fields=["period_start"], name="billing_total_by_age", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.counter}"


class BudgetLine(models.Model):
    """What the writer must know of a budget to see its thresholds crossed. Guardrails writes it with the budget."""

    budget_id = models.UUIDField(primary_key=True)
    workspace_id = models.BigIntegerField()
    name = models.CharField(max_length=120)
    unit = models.CharField(max_length=8)
    cap = models.BigIntegerField()
    """In its unit; 0: no cap, nothing crosses."""
    thresholds = ArrayField(models.SmallIntegerField())
    """Percents of the cap in force, 1 to 100."""
    raises = models.JSONField(default=list)
    """[[amount, start of the period it began in, start of the period it ends in, its end], ...], moments in ms: what is added to the cap."""
    cap_before = models.BigIntegerField(default=0)
    """The cap in force when crossings were last looked for without a call; what the next look compares with."""
    recheck_at = models.DateTimeField(null=True)
    """When crossings are to be looked for although no call may follow: the cap changed, or a raise ends."""
    recheck_start_ms = models.BigIntegerField(default=0)
    """Start of the period that is looked at then."""

    class Meta:
        db_table = "billing_budget_line"
        indexes = [
            models.Index(fields=["workspace_id"], name="billing_line_by_workspace"),
            models.Index(
                fields=["recheck_at"], name="billing_line_to_recheck", condition=models.Q(recheck_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Crossing(models.Model):
    """A threshold was crossed: once per counter (budget, period, value), threshold and cap in force, whatever is redelivered.

    After a raise, or another change of the cap, a threshold that was not crossed any more is told again, with the new cap.
    """

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    budget_id = models.UUIDField()
    counter = models.CharField(max_length=200)
    period_start = models.DateTimeField()
    threshold = models.SmallIntegerField()
    at = models.DateTimeField()
    """When the money Redis took the event that the writer saw crossing it."""
    settled = models.BigIntegerField()
    cap = models.BigIntegerField()
    """In force: with the raises of that moment."""
    recorded_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True)
    """When `guardrails.signals` took it over, in one transaction with its notice; null: it waits."""

    class Meta:
        db_table = "billing_crossing"
        constraints = [
            models.UniqueConstraint(
                fields=["workspace_id", "counter", "threshold", "cap"], name="billing_crossing_once_a_cap"
            )
        ]
        indexes = [
            models.Index(fields=["workspace_id", "budget_id", "-at"], name="billing_crossing_by_budget"),
            BrinIndex(fields=["period_start"], name="billing_crossing_by_age", autosummarize=True),
            models.Index(
                fields=["workspace_id"], name="billing_crossing_untold", condition=models.Q(told_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.counter} {self.threshold}%"


class UnknownUsage(models.Model):
    """A provider's answer stated usage under a key that nobody has taught us: once a workspace, provider, model, key path and day (UTC)."""

    id = models.BigAutoField(primary_key=True)
    workspace_id = models.BigIntegerField()
    provider = models.CharField(max_length=128)
    model = models.CharField(max_length=128)
    path = models.CharField(max_length=64)
    """Of the key, with its sections: "prompt_tokens_details.holographic_tokens"."""
    day = models.DateField()
    at = models.DateTimeField()
    """Of the first call."""
    call_id = models.UUIDField(null=True)
    """The first one."""
    price_status = models.CharField(max_length=9)
    """Of the first call's entry: "partial" where the key may be a line of the bill."""
    told_at = models.DateTimeField(null=True)
    """When `guardrails.signals` took it over, in one transaction with its notice; null: it waits."""

    class Meta:
        db_table = "billing_unknown_usage"
        constraints = [
            models.UniqueConstraint(
                fields=["workspace_id", "day", "provider", "model", "path"], name="billing_unknown_usage_once_a_day"
            )
        ]
        indexes = [
            models.Index(
                fields=["workspace_id"], name="billing_unknown_usage_untold", condition=models.Q(told_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}: {self.path}"


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


class DetailPack(models.Model):
    """The combinations of a workspace's day, by column (`billing.ledger.packs`). A combination may also have a row in `RollupDetail`: both count."""

    pk = models.CompositePrimaryKey("workspace_id", "day")
    workspace_id = models.BigIntegerField()
    day = models.DateField()
    rows = models.IntegerField()
    sum_cost_nano = models.BigIntegerField()
    """With the next two: what `reconcile` compares without unpacking."""
    sum_assumed_nano = models.BigIntegerField()
    sum_attempts = models.BigIntegerField()
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
        db_table = "billing_detail_pack"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.day}"


class ValuePack(models.Model):
    """What rows of a dimension's rollup came to on one day, by column (`billing.ledger.packs.gathering`). Rows that are left count, too."""

    workspace_id = models.BigIntegerField()
    dimension = models.CharField(max_length=40)
    """Never empty: the workspace's total stays in rows."""
    day = models.DateField()
    rows = models.IntegerField()
    sum_cost_nano = models.BigIntegerField()
    """With the next two: what `reconcile` compares without unpacking."""
    sum_assumed_nano = models.BigIntegerField()
    sum_attempts = models.BigIntegerField()
    value = models.BinaryField()
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


class PriceKind(models.TextChoices):
    DISCOUNT = "discount"
    """A percentage off the list price."""
    RATES = "rates"
    """Own rates: negotiated ones, or of a model that no list has."""
    FREE = "free"
    """A model on the workspace's own machines."""


class PriceOverride(models.Model):
    """A workspace's own dated price. What has begun is never edited, it is ended and followed by another: calls were charged by it.

    The later one of several valid ones counts. Written by `billing.actions`, compiled into the workspace's book by `billing.overrides`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    workspace_id = models.BigIntegerField()
    kind = models.CharField(max_length=8, choices=PriceKind)
    provider = models.CharField(max_length=32)
    """As credentials name it; "*" for all (discounts only)."""
    model = models.CharField(max_length=200)
    """As the provider names it, in lower case; "*" for all."""
    discount_percent = models.DecimalField(max_digits=7, decimal_places=4, null=True)
    """Above 0, to 100."""
    rates = models.JSONField(default=dict)
    """Unit -> price as a decimal string, per million tokens or as `billing.domain.rates.PER` says."""
    tier = models.CharField(max_length=32, default="standard")
    context_window = models.IntegerField(null=True)
    max_output_tokens = models.IntegerField(null=True)
    """What bounds need to know of a model that no list has."""
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    """The first moment at which it is not valid any more; null: until further notice."""
    note = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=254)

    class Meta:
        db_table = "billing_price_override"
        indexes = [models.Index(fields=["workspace_id", "valid_from"], name="billing_price_by_workspace")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind="discount", discount_percent__gt=0, discount_percent__lte=100, rates={})
                | models.Q(kind="free", discount_percent__isnull=True, rates={})
                | (models.Q(kind="rates", discount_percent__isnull=True) & ~models.Q(rates={})),
                name="billing_price_is_of_its_kind",
            ),
            models.CheckConstraint(
                condition=models.Q(valid_to__isnull=True) | models.Q(valid_to__gte=models.F("valid_from")),
                name="billing_price_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.provider}/{self.model}"
