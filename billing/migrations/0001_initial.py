# The books. Generated, but for the tables that are partitioned by month.

import django.contrib.postgres.fields
from django.db import migrations, models

from billing.migrations._partitions import CreatePartitionedModel


class Migration(migrations.Migration):
    initial = True

    dependencies = [("workspaces", "0002_current_workspace")]

    operations = [
        migrations.CreateModel(
            name="RollupDay",
            fields=[
                ("calls", models.BigIntegerField()),
                ("attempts", models.BigIntegerField()),
                ("errors", models.BigIntegerField()),
                ("voids", models.BigIntegerField()),
                ("cost_nano", models.BigIntegerField()),
                ("assumed_nano", models.BigIntegerField()),
                ("unpriced_calls", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cache_read_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("timed", models.BigIntegerField()),
                ("first_byte_ms", models.BigIntegerField()),
                ("first_bytes", models.BigIntegerField()),
                ("overhead_us", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id",
                        "dimension",
                        "day",
                        "value",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("dimension", models.CharField(max_length=40)),
                ("day", models.DateField()),
                ("value", models.CharField(max_length=128)),
            ],
            options={
                "db_table": "billing_rollup_day",
            },
        ),
        CreatePartitionedModel(
            name="RollupDetail",
            by="day",
            fields=[
                ("virtual_key", models.CharField(max_length=36)),
                ("member", models.CharField(max_length=128)),
                ("agent", models.CharField(max_length=128)),
                ("department", models.CharField(max_length=128)),
                ("customer", models.CharField(max_length=128)),
                ("feature", models.CharField(max_length=128)),
                ("user", models.CharField(db_column="end_user", max_length=128)),
                ("session", models.CharField(max_length=128)),
                ("model", models.CharField(max_length=128)),
                ("provider", models.CharField(max_length=32)),
                ("environment", models.CharField(max_length=128)),
                ("tags", models.JSONField()),
                ("calls", models.BigIntegerField()),
                ("attempts", models.BigIntegerField()),
                ("errors", models.BigIntegerField()),
                ("voids", models.BigIntegerField()),
                ("cost_nano", models.BigIntegerField()),
                ("assumed_nano", models.BigIntegerField()),
                ("unpriced_calls", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cache_read_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("timed", models.BigIntegerField()),
                ("first_byte_ms", models.BigIntegerField()),
                ("first_bytes", models.BigIntegerField()),
                ("overhead_us", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id", "day", "digest", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("day", models.DateField()),
                ("digest", models.UUIDField()),
            ],
            options={
                "db_table": "billing_rollup_detail",
            },
        ),
        CreatePartitionedModel(
            name="RollupHour",
            by="hour",
            fields=[
                ("calls", models.BigIntegerField()),
                ("attempts", models.BigIntegerField()),
                ("errors", models.BigIntegerField()),
                ("voids", models.BigIntegerField()),
                ("cost_nano", models.BigIntegerField()),
                ("assumed_nano", models.BigIntegerField()),
                ("unpriced_calls", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cache_read_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("timed", models.BigIntegerField()),
                ("first_byte_ms", models.BigIntegerField()),
                ("first_bytes", models.BigIntegerField()),
                ("overhead_us", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id",
                        "dimension",
                        "hour",
                        "value",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("dimension", models.CharField(max_length=40)),
                ("hour", models.DateTimeField()),
                ("value", models.CharField(max_length=128)),
            ],
            options={
                "db_table": "billing_rollup_hour",
            },
        ),
        migrations.CreateModel(
            name="RollupMonth",
            fields=[
                ("calls", models.BigIntegerField()),
                ("attempts", models.BigIntegerField()),
                ("errors", models.BigIntegerField()),
                ("voids", models.BigIntegerField()),
                ("cost_nano", models.BigIntegerField()),
                ("assumed_nano", models.BigIntegerField()),
                ("unpriced_calls", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cache_read_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("timed", models.BigIntegerField()),
                ("first_byte_ms", models.BigIntegerField()),
                ("first_bytes", models.BigIntegerField()),
                ("overhead_us", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id",
                        "dimension",
                        "month",
                        "value",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("dimension", models.CharField(max_length=40)),
                ("month", models.DateField()),
                ("value", models.CharField(max_length=128)),
            ],
            options={
                "db_table": "billing_rollup_month",
            },
        ),
        migrations.CreateModel(
            name="SequenceMark",
            fields=[
                ("workspace_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField()),
                ("gaps", models.JSONField()),
            ],
            options={
                "db_table": "billing_sequence_mark",
            },
        ),
        migrations.CreateModel(
            name="StreamOffset",
            fields=[
                ("partition", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("last_id", models.CharField(default="", max_length=64)),
                ("last_seal", models.BinaryField(default=b"", max_length=16)),
                ("resets", models.IntegerField(default=0)),
                ("drained_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "billing_stream_offset",
            },
        ),
        migrations.CreateModel(
            name="BudgetLine",
            fields=[
                ("budget_id", models.UUIDField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("name", models.CharField(max_length=120)),
                ("unit", models.CharField(max_length=8)),
                ("cap", models.BigIntegerField()),
                (
                    "thresholds",
                    django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(), size=None),
                ),
            ],
            options={
                "db_table": "billing_budget_line",
                "indexes": [models.Index(fields=["workspace_id"], name="billing_line_by_workspace")],
            },
        ),
        migrations.CreateModel(
            name="BudgetTotal",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id", "counter", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("counter", models.CharField(max_length=200)),
                ("budget_id", models.UUIDField(null=True)),
                ("period_start", models.DateTimeField(null=True)),
                ("unit", models.CharField(max_length=8)),
                ("settled", models.BigIntegerField()),
            ],
            options={
                "db_table": "billing_budget_total",
                "indexes": [
                    models.Index(fields=["workspace_id", "budget_id", "-period_start"], name="billing_total_by_budget")
                ],
            },
        ),
        migrations.CreateModel(
            name="Crossing",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("budget_id", models.UUIDField()),
                ("counter", models.CharField(max_length=200)),
                ("period_start", models.DateTimeField()),
                ("threshold", models.SmallIntegerField()),
                ("at", models.DateTimeField()),
                ("settled", models.BigIntegerField()),
                ("cap", models.BigIntegerField()),
                ("recorded_at", models.DateTimeField()),
            ],
            options={
                "db_table": "billing_crossing",
                "indexes": [
                    models.Index(fields=["workspace_id", "budget_id", "-at"], name="billing_crossing_by_budget")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("workspace_id", "counter", "threshold"), name="billing_crossing_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField(null=True)),
                ("partition", models.SmallIntegerField()),
                ("stream_id", models.CharField(max_length=64)),
                ("seal", models.BinaryField(max_length=16)),
                ("fields", models.JSONField()),
                ("error", models.CharField(max_length=500)),
                ("tries", models.SmallIntegerField()),
                ("first_at", models.DateTimeField()),
                ("next_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "billing_dead_letter",
                "constraints": [
                    models.UniqueConstraint(fields=("partition", "stream_id", "seal"), name="billing_dead_letter_once")
                ],
            },
        ),
        CreatePartitionedModel(
            name="Entry",
            by="at",
            fields=[
                ("virtual_key", models.CharField(max_length=36)),
                ("member", models.CharField(max_length=128)),
                ("agent", models.CharField(max_length=128)),
                ("department", models.CharField(max_length=128)),
                ("customer", models.CharField(max_length=128)),
                ("feature", models.CharField(max_length=128)),
                ("user", models.CharField(db_column="end_user", max_length=128)),
                ("session", models.CharField(max_length=128)),
                ("model", models.CharField(max_length=128)),
                ("provider", models.CharField(max_length=32)),
                ("environment", models.CharField(max_length=128)),
                ("tags", models.JSONField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "rid", "leg", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("rid", models.UUIDField()),
                ("leg", models.SmallIntegerField(choices=[(0, "Charge"), (1, "Correction")])),
                ("at", models.DateTimeField()),
                ("ended_at", models.DateTimeField()),
                ("seq", models.BigIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("settled", "Settled"),
                            ("void", "Void"),
                            ("expired", "Expired"),
                            ("adjusted", "Adjusted"),
                        ],
                        max_length=8,
                    ),
                ),
                ("basis", models.CharField(max_length=8)),
                ("price_status", models.CharField(max_length=9)),
                ("cost_nano", models.BigIntegerField()),
                ("hold_nano", models.BigIntegerField()),
                ("call_id", models.UUIDField(null=True)),
                ("attempt", models.SmallIntegerField()),
                ("credential_id", models.UUIDField(null=True)),
                ("model_requested", models.CharField(max_length=200)),
                ("model_served", models.CharField(max_length=200)),
                ("endpoint", models.CharField(max_length=200)),
                ("streamed", models.BooleanField()),
                ("input_tokens", models.BigIntegerField()),
                ("cache_read_tokens", models.BigIntegerField()),
                ("cache_write_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("http_status", models.IntegerField()),
                ("error", models.CharField(max_length=64)),
                ("first_byte_ms", models.IntegerField(null=True)),
                ("duration_ms", models.IntegerField(null=True)),
                ("overhead_us", models.IntegerField(null=True)),
                ("counters", models.JSONField()),
                ("flags", models.JSONField()),
                ("price_version", models.CharField(max_length=64)),
                ("detail", models.BinaryField()),
            ],
            options={
                "db_table": "billing_entry",
                "indexes": [models.Index(fields=["workspace_id", "-at", "rid"], name="billing_entry_newest")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["settled", "void", "expired", "adjusted"])),
                        name="billing_entry_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("leg", 1), ("state", "adjusted")),
                            models.Q(models.Q(("state", "adjusted"), _negated=True), ("cost_nano__gte", 0), ("leg", 0)),
                            _connector="OR",
                        ),
                        name="billing_entry_only_a_correction_is_signed",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "void"), _negated=True), ("cost_nano", 0), _connector="OR"
                        ),
                        name="billing_entry_void_is_free",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OpenAttempt",
            fields=[
                ("rid", models.UUIDField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("held_at", models.DateTimeField()),
                ("deadline", models.DateTimeField()),
                ("seq", models.BigIntegerField()),
                ("hold_nano", models.BigIntegerField()),
                ("counters", models.JSONField()),
                ("context", models.TextField()),
            ],
            options={
                "db_table": "billing_open_attempt",
                "indexes": [models.Index(fields=["workspace_id", "rid"], name="billing_open_by_workspace")],
            },
        ),
    ]
