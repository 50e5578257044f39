"""Saved views of the cost explorer, in each workspace's own schema."""
