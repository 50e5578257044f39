"""Pure rules of workspaces: key texts, slugs, addresses, the audit chain. No Django, clock or I/O."""
