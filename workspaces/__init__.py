"""Who is it: tenants, members, roles, virtual keys, the vault, API tokens, audit, and the tenancy door. Imports no other app.

What is always true here:

* A workspace is made whole or not at all (`actions.create_workspace`), and its schema is named `w_<id>`, which row-level security reads.
* A tenant's rows are reached through `tenancy.entered` only; somebody else's workspace is the same 404 as one that does not exist.
* `roles.TABLE` alone says who may do what; pages and API both ask it, and a token needs the action's scope besides.
* A secret is kept as a peppered digest (`keys`) or sealed (`vault.door`), shown once, and never logged.
* Every write is an action: under the workspace's lock, audited in the same transaction (`audit`, append-only, hash-chained), and where
  admission must see it, with a higher policy version (`policy_signal.bump`).
* Outgoing HTTP leaves through `outbound`, which checks every address.
"""
