"""The directory of a workspace: its departments and its agents."""
