"""When a workspace set how long its calls are kept, and up to where they were deleted."""

from django.db import migrations, models
from django.db.models.functions import Now


def begin(apps, schema_editor):
    """What was only hidden so far begins to be deleted a day from now."""
    apps.get_model("workspaces", "Workspace").objects.filter(calls_shown_days__isnull=False).update(
        calls_shown_set_at=Now()
    )


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0011_display_and_sight")]
    operations = [
        migrations.AddField("workspace", "calls_shown_set_at", models.DateTimeField(null=True)),
        migrations.AddField("workspace", "calls_forgotten_on", models.DateField(null=True)),
        migrations.RunPython(begin, migrations.RunPython.noop),
        migrations.AddIndex(
            "workspace",
            models.Index(
                fields=["calls_forgotten_on"],
                name="workspace_forgets_calls",
                condition=models.Q(calls_shown_days__isnull=False),
            ),
        ),
    ]
