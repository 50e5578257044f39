"""The ledger's lines, what they share, and what is derived from single lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import models
from django.utils.functional import cached_property

from billing.ledger.kept import unfold_entry

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
