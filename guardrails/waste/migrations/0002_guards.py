"""Tenants apart, by the database itself."""

from django.db import migrations

from billing.migrations._partitions import forced_row_level_security


class Migration(migrations.Migration):
    dependencies = [("waste", "0001_waste"), ("workspaces", "0002_current_workspace")]
    operations = [forced_row_level_security("waste_day", "waste_finding", "waste_saving", "waste_look")]
