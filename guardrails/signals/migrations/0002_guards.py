"""Tenants apart, by the database itself."""

from django.db import migrations

from billing.migrations._partitions import forced_row_level_security


class Migration(migrations.Migration):
    dependencies = [("signals", "0001_notices"), ("workspaces", "0002_current_workspace")]
    operations = [
        forced_row_level_security(
            "signals_notice",
            "signals_endpoint",
            "signals_delivery",
            "signals_preference",
            "signals_stagemark",
            "signals_spendline",
        )
    ]
