"""Counters that refuse calls before their cap is reached."""

from django.db import migrations, models

from billing.migrations._partitions import forced_row_level_security


class Migration(migrations.Migration):
    dependencies = [
        ("signals", "0002_guards"),
    ]

    operations = [
        migrations.CreateModel(
            name="FullCounter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("budget_id", models.UUIDField()),
                ("counter", models.CharField(max_length=200)),
                ("cap", models.BigIntegerField()),
                ("settled", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("told_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("told_at__isnull", True)),
                        fields=["workspace_id"],
                        name="full_counter_untold",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("workspace_id", "counter", "cap"), name="full_counter_once_a_cap")
                ],
            },
        ),
        forced_row_level_security("signals_fullcounter"),
    ]
