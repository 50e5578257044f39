"""The audit log is append-only and each workspace sees its own: triggers and row-level security, forced for the table's owner too."""

from django.db import migrations

FORWARD = r"""
CREATE FUNCTION public.sluice_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON public.workspaces_auditrecord
    FOR EACH ROW EXECUTE FUNCTION public.sluice_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON public.workspaces_auditrecord
    FOR EACH STATEMENT EXECUTE FUNCTION public.sluice_append_only();
ALTER TABLE public.workspaces_auditrecord ENABLE ALWAYS TRIGGER audit_append_only;
ALTER TABLE public.workspaces_auditrecord ENABLE ALWAYS TRIGGER audit_no_truncate;
ALTER TABLE public.workspaces_auditrecord ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.workspaces_auditrecord FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_of_workspace ON public.workspaces_auditrecord
    USING (workspace_id = public.sluice_current_workspace() OR public.sluice_every_workspace());
"""
BACKWARD = r"""
DROP POLICY audit_of_workspace ON public.workspaces_auditrecord;
ALTER TABLE public.workspaces_auditrecord NO FORCE ROW LEVEL SECURITY;
ALTER TABLE public.workspaces_auditrecord DISABLE ROW LEVEL SECURITY;
DROP TRIGGER audit_no_truncate ON public.workspaces_auditrecord;
DROP TRIGGER audit_append_only ON public.workspaces_auditrecord;
DROP FUNCTION public.sluice_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("workspaces", "0003_invitations_scripts_and_checks")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
