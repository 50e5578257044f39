"""The answers of POSTs that carried an Idempotency-Key, sealed, for a day. A workspace reaches its own only."""

import django.db.models.deletion
from django.db import migrations, models

import workspaces.ids

FORWARD = r"""
ALTER TABLE public.workspaces_idempotentanswer ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.workspaces_idempotentanswer FORCE ROW LEVEL SECURITY;
CREATE POLICY idempotent_answer_of_workspace ON public.workspaces_idempotentanswer
    USING (workspace_id = public.sluice_current_workspace() OR public.sluice_every_workspace());
"""
BACKWARD = r"""
DROP POLICY idempotent_answer_of_workspace ON public.workspaces_idempotentanswer;
ALTER TABLE public.workspaces_idempotentanswer NO FORCE ROW LEVEL SECURITY;
ALTER TABLE public.workspaces_idempotentanswer DISABLE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0005_admission_epoch")]
    operations = [
        migrations.CreateModel(
            name="IdempotentAnswer",
            fields=[
                (
                    "id",
                    models.UUIDField(default=workspaces.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("key", models.BinaryField(max_length=32)),
                ("request", models.BinaryField(max_length=32)),
                ("status", models.SmallIntegerField(default=0)),
                ("sealed", models.BinaryField(default=b"")),
                ("made_at", models.DateTimeField()),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="workspaces.apitoken"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["made_at"], name="idempotent_answer_age")],
                "constraints": [
                    models.UniqueConstraint(fields=["token", "key"], name="idempotent_answer_once"),
                ],
            },
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
