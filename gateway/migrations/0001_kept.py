"""What providers keep for a workspace, by its id; tenants apart."""

from django.db import migrations, models

import workspaces.ids
from billing.migrations._partitions import forced_row_level_security


class Migration(migrations.Migration):
    initial = True

    dependencies = [("billing", "0001_initial"), ("workspaces", "0002_current_workspace")]

    operations = [
        migrations.CreateModel(
            name="Kept",
            fields=[
                (
                    "id",
                    models.UUIDField(default=workspaces.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("workspace_id", models.BigIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("response", "Response"),
                            ("file", "File"),
                            ("batch", "Batch"),
                            ("message_batch", "Message Batch"),
                        ],
                        max_length=16,
                    ),
                ),
                ("object_id", models.CharField(max_length=200)),
                ("credential_id", models.UUIDField()),
                ("provider", models.CharField(max_length=32)),
                (
                    "state",
                    models.CharField(
                        choices=[("free", "Free"), ("open", "Open"), ("settling", "Settling")],
                        default="free",
                        max_length=8,
                    ),
                ),
                ("facts", models.JSONField(default=dict)),
                ("made_at", models.DateTimeField()),
                ("look_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "gateway_kept",
                "indexes": [
                    models.Index(fields=["workspace_id", "kind", "-made_at"], name="gateway_kept_newest"),
                    models.Index(
                        condition=models.Q(("look_at__isnull", False)), fields=["look_at"], name="gateway_kept_due"
                    ),
                    models.Index(fields=["expires_at"], name="gateway_kept_expired"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("workspace_id", "kind", "object_id"), name="gateway_kept_once")
                ],
            },
        ),
        forced_row_level_security("gateway_kept"),
    ]
