"""Packs of a closed month's days as one: see docs/adr/0027. Columns are packed already, so PostgreSQL neither compresses nor keeps them in the row."""

from django.db import migrations, models

from billing.migrations._partitions import forced_row_level_security

MEASURES = [
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
TEXTS = [
    "virtual_key",
    "member",
    "agent",
    "department",
    "customer",
    "feature",
    "user",
    "session",
    "model",
    "provider",
    "environment",
    "tags",
]
COLUMN_OF = {"user": "end_user"}


def key(*names):
    return (
        "pk",
        models.CompositePrimaryKey(*names, blank=True, editable=False, primary_key=True, serialize=False),
    )


def fields(*texts):
    return [
        ("workspace_id", models.BigIntegerField()),
        ("day", models.DateField()),
        ("rows", models.IntegerField()),
        ("sum_cost_nano", models.BigIntegerField()),
        ("sum_assumed_nano", models.BigIntegerField()),
        ("sum_attempts", models.BigIntegerField()),
        *((column, models.BinaryField()) for column in (*MEASURES, "days", "ends")),
        *((name, models.BinaryField(db_column=COLUMN_OF.get(name))) for name in texts),
    ]


def outside(table, *texts):
    columns = [*MEASURES, *(COLUMN_OF.get(name, name) for name in texts)]
    return "".join(f"ALTER TABLE public.{table} ALTER COLUMN {column} SET STORAGE EXTERNAL;" for column in columns)


class Migration(migrations.Migration):
    dependencies = [("billing", "0014_value_packs")]
    operations = [
        migrations.CreateModel(
            name="DayMonthPack",
            fields=[
                *fields("value"),
                ("dimension", models.CharField(max_length=40)),
                key("workspace_id", "dimension", "day"),
            ],
            options={"db_table": "billing_day_month_pack"},
        ),
        migrations.CreateModel(
            name="DetailMonthPack",
            fields=[*fields(*TEXTS), key("workspace_id", "day")],
            options={"db_table": "billing_detail_month_pack"},
        ),
        forced_row_level_security("billing_day_month_pack", "billing_detail_month_pack"),
        migrations.RunSQL(
            outside("billing_day_month_pack", "value") + outside("billing_detail_month_pack", *TEXTS),
            migrations.RunSQL.noop,
        ),
    ]
