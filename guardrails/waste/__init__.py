"""Waste: what of the bill bought nothing, in dollars, with evidence and a lever each. The sorting is pure (`guardrails.domain.waste`).

A day of a workspace's ledger is read once, in order, and leaves sums by category and place (`Day`); findings are made of the last thirty days of
those. After a lever was pulled, what it saved is kept by day (`Saving`). Workspaces without new calls are not visited.
"""
