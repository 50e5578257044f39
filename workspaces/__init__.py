"""Who is it: tenants, members, roles, virtual keys, the vault, API tokens, audit, and the tenancy door. Imports no other app."""
