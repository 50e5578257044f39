"""Crossings know whether they were told. Those of before this release count as told: nobody wants mail about last month."""

from django.db import migrations, models

TOLD = (
    "SELECT set_config('sluice.every_workspace', 'on', true); "
    "UPDATE public.billing_crossing SET told_at = recorded_at; "
    "SELECT set_config('sluice.every_workspace', '', true);"
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_crossings_and_caps")]
    operations = [
        migrations.AddField(model_name="crossing", name="told_at", field=models.DateTimeField(null=True)),
        migrations.AddIndex(
            model_name="crossing",
            index=models.Index(
                condition=models.Q(("told_at__isnull", True)), fields=["workspace_id"], name="billing_crossing_untold"
            ),
        ),
        migrations.RunSQL(TOLD, migrations.RunSQL.noop),
    ]
