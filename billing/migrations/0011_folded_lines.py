"""Ledger lines in a third of the room (ADR 0024): a new table for them beside the old one, whose lines migration 0012 moves over."""

import django.db.models.deletion
from django.db import migrations, models

import billing.models
from billing.migrations._partitions import CreatePartitionedModel, forced_row_level_security

WORDS = """
CREATE TYPE public.billing_entry_state AS ENUM ('settled', 'void', 'expired', 'adjusted', 'rerated');
CREATE TYPE public.billing_entry_basis AS ENUM ('measured', 'counted', 'assumed');
CREATE TYPE public.billing_entry_price_status AS ENUM ('exact', 'estimated', 'partial', 'unpriced');
"""
# Partitions keep the name of their month, so the old ones make room. Indexes would keep theirs: all go but the key, by which lines are moved.
ASIDE = """
DO $$
DECLARE part record;
BEGIN
    FOR part IN SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'public.billing_entry'::regclass LOOP
        EXECUTE format('ALTER TABLE public.%I RENAME TO %I', part.relname, replace(part.relname, 'billing_entry_', 'billing_wide_entry_'));
    END LOOP;
END $$;
DROP INDEX public.billing_entry_newest, public.billing_entry_unsure_price, public.billing_entry_of_customer, public.billing_entry_of_user;
ALTER TABLE public.billing_entry RENAME CONSTRAINT billing_entry_pkey TO billing_wide_entry_pkey;
ALTER TABLE public.billing_entry RENAME TO billing_wide_entry;
"""
# Folded already: long ones out of line, never compressed again.
STORAGE = """
ALTER TABLE public.billing_entry ALTER COLUMN detail SET STORAGE EXTERNAL;
CREATE TRIGGER insert_only BEFORE UPDATE OR DELETE ON public.billing_entry
    FOR EACH ROW EXECUTE FUNCTION public.sluice_refuse_edit();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.billing_entry
    FOR EACH STATEMENT EXECUTE FUNCTION public.sluice_refuse_edit();
DO $$
DECLARE part record;
BEGIN
    FOR part IN SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'public.billing_wide_entry'::regclass LOOP
        PERFORM public.sluice_make_partition('billing_entry', to_date(right(part.relname, 7), 'YYYY_MM'));
    END LOOP;
END $$;
"""
KEPT_ONCE = """
CREATE TRIGGER never_changed BEFORE UPDATE ON public.{table} FOR EACH ROW EXECUTE FUNCTION public.sluice_refuse_edit();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0010_forgotten")]
    operations = [
        migrations.RunSQL(ASIDE),
        migrations.RunSQL(WORDS),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Entry")]),
        migrations.CreateModel(
            name="Caller",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("digest", models.UUIDField()),
                ("virtual_key", models.CharField(max_length=36)),
                ("member", models.CharField(max_length=128)),
                ("agent", models.CharField(max_length=128)),
                ("department", models.CharField(max_length=128)),
                ("feature", models.CharField(max_length=128)),
                ("model", models.CharField(max_length=128)),
                ("provider", models.CharField(max_length=32)),
                ("environment", models.CharField(max_length=128)),
                ("tags", models.JSONField()),
            ],
            options={
                "db_table": "billing_caller",
                "constraints": [models.UniqueConstraint(fields=("workspace_id", "digest"), name="billing_caller_once")],
            },
        ),
        migrations.CreateModel(
            name="Pattern",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("workspace_id", models.BigIntegerField()),
                ("digest", models.UUIDField()),
                ("body", models.BinaryField()),
            ],
            options={
                "db_table": "billing_pattern",
                "constraints": [models.UniqueConstraint(fields=("workspace_id", "digest"), name="billing_pattern_once")],
            },
        ),
        CreatePartitionedModel(
            name="Entry",
            by="at",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "workspace_id", "at", "rid", "leg", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("workspace_id", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("cost_nano", models.BigIntegerField()),
                ("hold_nano", models.BigIntegerField()),
                ("rid", models.UUIDField()),
                ("call_id", models.UUIDField(null=True)),
                ("caller", models.ForeignKey(
                    db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="billing.caller"
                )),
                ("shape", models.ForeignKey(
                    db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+",
                    to="billing.pattern",
                )),
                ("plan", models.ForeignKey(
                    db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+",
                    to="billing.pattern",
                )),
                ("state", billing.models.Word(
                    choices=[
                        ("settled", "Settled"), ("void", "Void"), ("expired", "Expired"), ("adjusted", "Adjusted"), ("rerated", "Rerated"),
                    ],
                    enum="billing_entry_state", max_length=8,
                )),
                ("basis", billing.models.Word(enum="billing_entry_basis", max_length=8)),
                ("price_status", billing.models.Word(enum="billing_entry_price_status", max_length=9)),
                ("leg", models.SmallIntegerField()),
                ("failed", models.BooleanField()),
                ("customer", models.CharField(max_length=128)),
                ("user", models.CharField(db_column="end_user", max_length=128)),
                ("session", models.CharField(max_length=128)),
                ("unsure_tokens", models.CharField(max_length=64)),
                ("detail", models.BinaryField()),
            ],
            options={
                "db_table": "billing_entry",
                "indexes": [
                    models.Index(
                        condition=models.Q(("price_status__in", ["unpriced", "partial"])),
                        fields=["workspace_id", "at"],
                        name="billing_entry_unsure_price",
                    ),
                    models.Index(fields=["workspace_id", "customer"], name="billing_entry_of_customer"),
                    models.Index(fields=["workspace_id", "user"], name="billing_entry_of_user"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("leg", 1), ("state", "adjusted")),
                            models.Q(("leg__gte", 2), ("state", "rerated")),
                            models.Q(
                                models.Q(("state__in", ["adjusted", "rerated"]), _negated=True), ("cost_nano__gte", 0), ("leg", 0)
                            ),
                            _connector="OR",
                        ),
                        name="billing_entry_only_a_correction_is_signed",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(models.Q(("state", "void"), _negated=True), ("cost_nano", 0), _connector="OR"),
                        name="billing_entry_void_is_free",
                    ),
                ],
            },
        ),
        forced_row_level_security("billing_entry", "billing_caller", "billing_pattern"),
        migrations.RunSQL(STORAGE),
        *[migrations.RunSQL(KEPT_ONCE.format(table=table)) for table in ("billing_caller", "billing_pattern")],
    ]  # fmt: skip
