"""Retention: what deleted lines added up to; and the database lets only those lines go that are older than their workspace keeps them."""

from django.db import migrations, models

from billing.migrations._partitions import forced_row_level_security

REFUSE = r"""
CREATE OR REPLACE FUNCTION public.sluice_refuse_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {unless}RAISE EXCEPTION 'entries of the ledger are never edited: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write a correction (leg 1).';
END $$;
"""
BEYOND = r"""IF TG_OP = 'DELETE' THEN
        IF EXISTS (
            SELECT 1 FROM public.workspaces_workspace w WHERE w.id = OLD.workspace_id
            AND OLD.at < now() - make_interval(days => w.calls_shown_days) AND w.calls_shown_set_at < now() - interval '1 day'
        ) THEN
            RETURN OLD;
        END IF;
    END IF;
    """


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_fingerprints"), ("workspaces", "0012_retention")]
    operations = [
        migrations.CreateModel(
            name="Forgotten",
            fields=[
                ("pk", models.CompositePrimaryKey("workspace_id", "what", blank=True, editable=False, primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("what", models.TextField()),
                ("amount", models.DecimalField(decimal_places=0, max_digits=40)),
            ],
            options={"db_table": "billing_forgotten"},
        ),
        forced_row_level_security("billing_forgotten"),
        migrations.RunSQL(REFUSE.format(unless=BEYOND), REFUSE.format(unless="")),
    ]  # fmt: skip
