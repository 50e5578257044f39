"""What the database itself promises of the books: tenants apart, entries never edited, a partition for each month."""

from django.db import migrations

from billing.migrations._partitions import DROP_MAKE_PARTITION, MAKE_PARTITION, forced_row_level_security

INSERT_ONLY = r"""
CREATE FUNCTION public.sluice_refuse_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the ledger are never edited: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write a correction (leg 1).';
END $$;
CREATE TRIGGER insert_only BEFORE UPDATE OR DELETE ON public.billing_entry
    FOR EACH ROW EXECUTE FUNCTION public.sluice_refuse_edit();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.billing_entry
    FOR EACH STATEMENT EXECUTE FUNCTION public.sluice_refuse_edit();
"""
DROP_INSERT_ONLY = r"""
DROP TRIGGER insert_only ON public.billing_entry;
DROP TRIGGER no_truncate ON public.billing_entry;
DROP FUNCTION public.sluice_refuse_edit();
"""
# Packed already: out of line when long, never compressed again. Rollups are updated in place: room for heap-only updates.
STORAGE = r"""
ALTER TABLE public.billing_entry ALTER COLUMN detail SET STORAGE EXTERNAL;
ALTER TABLE public.billing_rollup_day SET (fillfactor = 80);
ALTER TABLE public.billing_rollup_month SET (fillfactor = 80);
ALTER TABLE public.billing_budget_total SET (fillfactor = 70);
ALTER TABLE public.billing_sequence_mark SET (fillfactor = 50);
ALTER TABLE public.billing_stream_offset SET (fillfactor = 50);
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [
        forced_row_level_security(
            "billing_entry",
            "billing_open_attempt",
            "billing_budget_total",
            "billing_budget_line",
            "billing_crossing",
            "billing_sequence_mark",
            "billing_dead_letter",
            "billing_rollup_hour",
            "billing_rollup_day",
            "billing_rollup_month",
            "billing_rollup_detail",
        ),
        migrations.RunSQL(INSERT_ONLY, DROP_INSERT_ONLY),
        migrations.RunSQL(MAKE_PARTITION, DROP_MAKE_PARTITION),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
    ]
