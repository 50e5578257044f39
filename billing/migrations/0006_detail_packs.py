"""Combinations packed by column: see docs/adr/0014. Columns are packed already, so PostgreSQL neither compresses nor keeps them in the row."""

from django.db import migrations, models

from billing.migrations._partitions import forced_row_level_security

TEXTS = "virtual_key member agent department customer feature end_user session model provider environment tags"
NUMBERS = (
    "calls attempts errors voids cost_nano assumed_nano unpriced_calls input_tokens cache_read_tokens cache_write_tokens output_tokens "
    "duration_ms timed first_byte_ms first_bytes overhead_us"
)
STORAGE = "".join(
    f"ALTER TABLE public.billing_detail_pack ALTER COLUMN {column} SET STORAGE EXTERNAL;"
    for column in (*TEXTS.split(), *NUMBERS.split())
)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_told"),
    ]

    operations = [
        migrations.CreateModel(
            name="DetailPack",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id", "day", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("day", models.DateField()),
                ("rows", models.IntegerField()),
                ("sum_cost_nano", models.BigIntegerField()),
                ("sum_assumed_nano", models.BigIntegerField()),
                ("sum_attempts", models.BigIntegerField()),
                ("virtual_key", models.BinaryField()),
                ("member", models.BinaryField()),
                ("agent", models.BinaryField()),
                ("department", models.BinaryField()),
                ("customer", models.BinaryField()),
                ("feature", models.BinaryField()),
                ("user", models.BinaryField(db_column="end_user")),
                ("session", models.BinaryField()),
                ("model", models.BinaryField()),
                ("provider", models.BinaryField()),
                ("environment", models.BinaryField()),
                ("tags", models.BinaryField()),
                ("calls", models.BinaryField()),
                ("attempts", models.BinaryField()),
                ("errors", models.BinaryField()),
                ("voids", models.BinaryField()),
                ("cost_nano", models.BinaryField()),
                ("assumed_nano", models.BinaryField()),
                ("unpriced_calls", models.BinaryField()),
                ("input_tokens", models.BinaryField()),
                ("cache_read_tokens", models.BinaryField()),
                ("cache_write_tokens", models.BinaryField()),
                ("output_tokens", models.BinaryField()),
                ("duration_ms", models.BinaryField()),
                ("timed", models.BinaryField()),
                ("first_byte_ms", models.BinaryField()),
                ("first_bytes", models.BinaryField()),
                ("overhead_us", models.BinaryField()),
            ],
            options={
                "db_table": "billing_detail_pack",
            },
        ),
        forced_row_level_security("billing_detail_pack"),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
    ]
