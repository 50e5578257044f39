"""The Monthly Spend Alert's amount is the cap of its budget and nothing else: what is left here is when a month was last looked ahead at."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("signals", "0004_chosen")]
    operations = [
        migrations.RemoveConstraint("SpendLine", "spend_line_positive"),
        migrations.RemoveField("SpendLine", "line_nano"),
        migrations.RenameModel("SpendLine", "LookAhead"),
    ]
