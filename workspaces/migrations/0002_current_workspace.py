"""`sluice_current_workspace()`: the workspace whose schema the connection has entered; row-level security compares with it.

`sluice_every_workspace()`: true inside `tenancy.every_workspace()` only.
"""

from django.db import migrations

FORWARD = r"""
CREATE FUNCTION public.sluice_current_workspace() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT substring(current_schema() FROM '^w_([0-9]+)$')::bigint $$;
CREATE FUNCTION public.sluice_every_workspace() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT coalesce(current_setting('sluice.every_workspace', true), '') = 'on' $$;
"""
BACKWARD = "DROP FUNCTION public.sluice_current_workspace(); DROP FUNCTION public.sluice_every_workspace();"


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
