"""Providers and their dialects: records and sans-I/O state machines. Nothing here opens a socket or reads a clock."""
