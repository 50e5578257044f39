"""Days and hours of dimensions' values packed by column: see docs/adr/0025. Columns are packed already, so PostgreSQL neither compresses nor keeps them in the row."""

from django.db import migrations, models

from billing.migrations._partitions import forced_row_level_security

COLUMNS = [
    "value",
    "calls",
    "attempts",
    "errors",
    "voids",
    "cost_nano",
    "assumed_nano",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "duration_ms",
    "timed",
    "first_byte_ms",
    "first_bytes",
    "overhead_us",
]


def outside(table, *more):
    return "".join(
        f"ALTER TABLE public.{table} ALTER COLUMN {column} SET STORAGE EXTERNAL;" for column in (*COLUMNS, *more)
    )


def fields():
    key = models.CompositePrimaryKey(
        "workspace_id", "dimension", "day", blank=True, editable=False, primary_key=True, serialize=False
    )
    return [
        ("workspace_id", models.BigIntegerField()),
        ("dimension", models.CharField(max_length=40)),
        ("day", models.DateField()),
        ("rows", models.IntegerField()),
        ("sum_cost_nano", models.BigIntegerField()),
        ("sum_assumed_nano", models.BigIntegerField()),
        ("sum_attempts", models.BigIntegerField()),
        *((column, models.BinaryField()) for column in COLUMNS),
        ("pk", key),
    ]


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_unknown_usage")]
    operations = [
        migrations.CreateModel(name="DayPack", fields=fields(), options={"db_table": "billing_day_pack"}),
        migrations.CreateModel(
            name="HourPack",
            fields=[*fields(), ("hour", models.BinaryField())],
            options={"db_table": "billing_hour_pack"},
        ),
        forced_row_level_security("billing_day_pack", "billing_hour_pack"),
        # Users have days enough: their months are not kept any more.
        migrations.RunSQL(
            "SELECT set_config('sluice.every_workspace', 'on', true); DELETE FROM public.billing_rollup_month WHERE dimension = 'user';"
            "SELECT set_config('sluice.every_workspace', '', true);",
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(outside("billing_day_pack") + outside("billing_hour_pack", "hour"), migrations.RunSQL.noop),
    ]
