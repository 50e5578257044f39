"""From a provider's native answer to the canonical Usage: one file per family of APIs, one line each in `DIALECTS`."""
