"""In which currency pages show amounts, and how long single calls can be looked at."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("workspaces", "0010_department_leads"),
    ]

    operations = [
        migrations.AddField(
            model_name="workspace",
            name="calls_shown_days",
            field=models.IntegerField(null=True),
        ),
        migrations.AddField(
            model_name="workspace",
            name="display_currency",
            field=models.CharField(default="USD", max_length=3),
        ),
        migrations.AddField(
            model_name="workspace",
            name="display_rate",
            field=models.DecimalField(decimal_places=9, max_digits=18, null=True),
        ),
        migrations.AddField(
            model_name="workspace",
            name="display_rate_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddConstraint(
            model_name="workspace",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("display_currency", "USD"), ("display_rate__isnull", True)),
                    models.Q(
                        models.Q(("display_currency", "USD"), _negated=True),
                        ("display_rate__gt", 0),
                        ("display_rate_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="workspace_display_has_a_rate",
            ),
        ),
        migrations.AddConstraint(
            model_name="workspace",
            constraint=models.CheckConstraint(
                condition=models.Q(("calls_shown_days__isnull", True), ("calls_shown_days__gte", 1), _connector="OR"),
                name="workspace_calls_shown_for_days",
            ),
        ),
    ]
