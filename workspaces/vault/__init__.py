"""The vault: the only door to sealing and opening provider keys."""
