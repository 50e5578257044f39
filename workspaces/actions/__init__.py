"""Everything that writes to a workspace: keyword-only, atomic, audited, one file a decision.

Each function says `by` whom; what a role may do at all is decided before, by pages and API, in `workspaces.roles`. What admission must
see raises the policy version in the same transaction.
"""

from workspaces.actions.api_tokens import create_api_token, operators_token, revoke_api_token
from workspaces.actions.base import Minted
from workspaces.actions.credential_use import change_credential, note_health
from workspaces.actions.credentials import (
    add_credential,
    base_url_of,
    delete_credential,
    disable_credential,
    enable_credential,
    rotate_credential,
    verify_credential,
)
from workspaces.actions.directory import add_agent, add_department, remove_agent, remove_department
from workspaces.actions.people import (
    accept_invitation,
    add_member,
    change_member,
    find_invitation,
    invite,
    remove_member,
    withdraw_invitation,
)
from workspaces.actions.routes import change_alias, change_hop_rules, create_alias, delete_alias, hop_rules
from workspaces.actions.tenants import (
    change_display,
    change_workspace,
    create_workspace,
    delete_workspace,
    purge_deleted_workspaces,
    resume_workspace,
    suspend_workspace,
)
from workspaces.actions.virtual_keys import (
    change_virtual_key,
    create_virtual_key,
    pause_virtual_key,
    resume_virtual_key,
    revoke_virtual_key,
    rotate_virtual_key,
)

__all__ = [
    "Minted",
    "accept_invitation",
    "add_agent",
    "add_credential",
    "add_department",
    "add_member",
    "base_url_of",
    "change_alias",
    "change_credential",
    "change_display",
    "change_hop_rules",
    "change_member",
    "change_virtual_key",
    "change_workspace",
    "create_alias",
    "create_api_token",
    "create_virtual_key",
    "create_workspace",
    "delete_alias",
    "delete_credential",
    "delete_workspace",
    "disable_credential",
    "enable_credential",
    "find_invitation",
    "hop_rules",
    "invite",
    "note_health",
    "operators_token",
    "pause_virtual_key",
    "purge_deleted_workspaces",
    "remove_agent",
    "remove_department",
    "remove_member",
    "resume_virtual_key",
    "resume_workspace",
    "revoke_api_token",
    "revoke_virtual_key",
    "rotate_credential",
    "rotate_virtual_key",
    "suspend_workspace",
    "verify_credential",
    "withdraw_invitation",
]
