"""Crossings are told once a cap in force; lines know raises and when to look again; totals and crossings are found by their age."""

import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0003_prices_and_reratings"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="crossing",
            name="billing_crossing_once",
        ),
        migrations.AddField(
            model_name="budgetline",
            name="cap_before",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="budgetline",
            name="raises",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="budgetline",
            name="recheck_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="budgetline",
            name="recheck_start_ms",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddIndex(
            model_name="budgetline",
            index=models.Index(
                condition=models.Q(("recheck_at__isnull", False)), fields=["recheck_at"], name="billing_line_to_recheck"
            ),
        ),
        migrations.AddIndex(
            model_name="budgettotal",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["period_start"], name="billing_total_by_age"
            ),
        ),
        migrations.AddIndex(
            model_name="crossing",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["period_start"], name="billing_crossing_by_age"
            ),
        ),
        migrations.AddConstraint(
            model_name="crossing",
            constraint=models.UniqueConstraint(
                fields=("workspace_id", "counter", "threshold", "cap"), name="billing_crossing_once_a_cap"
            ),
        ),
    ]
