"""Migration operations of the ledger: tables partitioned by month, and row-level security. Not a migration."""

from django.db import migrations

MAKE_PARTITION = r"""
CREATE FUNCTION public.sluice_make_partition(parent text, month date, fillfactor int DEFAULT 100) RETURNS boolean
LANGUAGE plpgsql SET search_path = public, pg_catalog AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    next date := (date_trunc('month', month) + interval '1 month')::date;
    part text := parent || to_char(first, '_YYYY_MM');
    zone text := '';
BEGIN
    IF to_regclass('public.' || quote_ident(part)) IS NOT NULL THEN RETURN false; END IF;
    PERFORM pg_advisory_xact_lock(hashtext('sluice_make_partition'), hashtext(part));
    IF to_regclass('public.' || quote_ident(part)) IS NOT NULL THEN RETURN false; END IF;
    IF (SELECT atttypid = 'timestamptz'::regtype FROM pg_attribute a JOIN pg_partitioned_table p
        ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] WHERE p.partrelid = parent::regclass)
    THEN zone := ' 00:00:00+00'; END IF;
    -- Made apart and then attached: CREATE ... PARTITION OF would lock out readers of the parent.
    EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL) WITH (fillfactor = %s)', part, parent, fillfactor);
    -- A partition read by its own name has only its own policies.
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
    EXECUTE format('CREATE POLICY workspace ON public.%I USING ('
        'workspace_id = (SELECT public.sluice_current_workspace()) OR (SELECT public.sluice_every_workspace()))', part);
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        parent, part, first || zone, next || zone);
    -- Row triggers come with ATTACH, statement triggers do not.
    IF parent = 'billing_entry' THEN
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION public.sluice_refuse_edit()', part);
    END IF;
    RETURN true;
END $$;
"""
DROP_MAKE_PARTITION = "DROP FUNCTION public.sluice_make_partition(text, date, int);"


class CreatePartitionedModel(migrations.CreateModel):
    """`CreateModel` whose table is `PARTITION BY RANGE` of a column. Partitions are made by `sluice_make_partition`."""

    def __init__(self, name, fields, *, by, options=None, bases=None, managers=None):
        super().__init__(name, fields, options, bases, managers)
        self.by = by

    def deconstruct(self):
        name, args, kwargs = super().deconstruct()
        return name, args, {**kwargs, "by": self.by}

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        statement, params = schema_editor.table_sql(model)
        schema_editor.execute(f"{statement} PARTITION BY RANGE ({schema_editor.quote_name(self.by)})", params or None)
        schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(model))


def forced_row_level_security(*tables):
    """Only rows of the entered workspace, for the table's owner too (FORCE). The functions run once a query (sub-selects), not a row."""
    forward = "".join(
        f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY workspace ON public.{table} USING (workspace_id = (SELECT public.sluice_current_workspace()) "
        f"OR (SELECT public.sluice_every_workspace()));"
        for table in tables
    )
    backward = "".join(
        f"DROP POLICY workspace ON public.{table};"
        f"ALTER TABLE public.{table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;"
        for table in tables
    )
    return migrations.RunSQL(forward, backward)
