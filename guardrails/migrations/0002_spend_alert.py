"""The Monthly Spend Alert, which may stand beside a budget on the same scope and period."""

from django.db import migrations, models

import guardrails.domain.budgets


class Migration(migrations.Migration):
    dependencies = [
        ("guardrails", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="budget",
            name="budget_not_twice",
        ),
        migrations.RemoveConstraint(
            model_name="budget",
            name="budget_kind_known",
        ),
        migrations.AlterField(
            model_name="budget",
            name="kind",
            field=models.CharField(
                choices=[
                    ("budget", "budget"),
                    ("daily_hard_stop", "daily hard stop"),
                    ("monthly_control", "monthly control"),
                    ("spend_alert", "spend alert"),
                    ("member_cap", "member cap"),
                    ("plan_quota", "plan quota"),
                ],
                default=guardrails.domain.budgets.Kind["BUDGET"],
                max_length=16,
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(
                fields=("by", "value", "period", "unit", "reset_day", "kind"),
                name="budget_not_twice_of_a_kind",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        ["budget", "daily_hard_stop", "monthly_control", "spend_alert", "member_cap", "plan_quota"],
                    )
                ),
                name="budget_kind_known",
            ),
        ),
    ]
