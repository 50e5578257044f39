"""How a workspace's calls find their provider: aliases and the rules of repeating, in each workspace's own schema."""
