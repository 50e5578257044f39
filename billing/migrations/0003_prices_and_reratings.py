"""Prices of a workspace's own, and corrections of the ledger by a price (legs 2 and above)."""

from django.db import migrations, models

import workspaces.ids
from billing.migrations._partitions import forced_row_level_security


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0002_guards"),
    ]

    operations = [
        migrations.CreateModel(
            name="PriceOverride",
            fields=[
                ("id", models.UUIDField(default=workspaces.ids.uuid7, primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("discount", "Discount"), ("rates", "Rates"), ("free", "Free")], max_length=8
                    ),
                ),
                ("provider", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
                ("discount_percent", models.DecimalField(decimal_places=4, max_digits=7, null=True)),
                ("rates", models.JSONField(default=dict)),
                ("tier", models.CharField(default="standard", max_length=32)),
                ("context_window", models.IntegerField(null=True)),
                ("max_output_tokens", models.IntegerField(null=True)),
                ("valid_from", models.DateTimeField()),
                ("valid_to", models.DateTimeField(null=True)),
                ("note", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=254)),
            ],
            options={
                "db_table": "billing_price_override",
            },
        ),
        migrations.RemoveConstraint(
            model_name="entry",
            name="billing_entry_state_known",
        ),
        migrations.RemoveConstraint(
            model_name="entry",
            name="billing_entry_only_a_correction_is_signed",
        ),
        migrations.AlterField(
            model_name="entry",
            name="leg",
            field=models.SmallIntegerField(),
        ),
        migrations.AlterField(
            model_name="entry",
            name="state",
            field=models.CharField(
                choices=[
                    ("settled", "Settled"),
                    ("void", "Void"),
                    ("expired", "Expired"),
                    ("adjusted", "Adjusted"),
                    ("rerated", "Rerated"),
                ],
                max_length=8,
            ),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(
                condition=models.Q(("price_status__in", ["unpriced", "partial"])),
                fields=["workspace_id", "-at"],
                name="billing_entry_unsure_price",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["settled", "void", "expired", "adjusted", "rerated"])),
                name="billing_entry_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("leg", 1), ("state", "adjusted")),
                    models.Q(("leg__gte", 2), ("state", "rerated")),
                    models.Q(
                        models.Q(("state__in", ["adjusted", "rerated"]), _negated=True),
                        ("cost_nano__gte", 0),
                        ("leg", 0),
                    ),
                    _connector="OR",
                ),
                name="billing_entry_only_a_correction_is_signed",
            ),
        ),
        migrations.AddIndex(
            model_name="priceoverride",
            index=models.Index(fields=["workspace_id", "valid_from"], name="billing_price_by_workspace"),
        ),
        migrations.AddConstraint(
            model_name="priceoverride",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("discount_percent__gt", 0), ("discount_percent__lte", 100), ("kind", "discount"), ("rates", {})
                    ),
                    models.Q(("discount_percent__isnull", True), ("kind", "free"), ("rates", {})),
                    models.Q(
                        ("discount_percent__isnull", True), ("kind", "rates"), models.Q(("rates", {}), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="billing_price_is_of_its_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceoverride",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("valid_to__isnull", True), ("valid_to__gte", models.F("valid_from")), _connector="OR"
                ),
                name="billing_price_ends_after_it_begins",
            ),
        ),
        forced_row_level_security("billing_price_override"),
    ]
