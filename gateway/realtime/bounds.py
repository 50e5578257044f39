"""The bounds of a session's events, and the message by which the server says that it stops."""

from __future__ import annotations

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event in either direction; more than a minute of sound."""
MOST_WAITING_BYTES = 4 * 1024 * 1024
"""Of a client's events that were read and wait to be sent."""
MOST_EVENTS_PER_S = 1_000
"""Of a client; more wait."""
RESTART = "sluice.restart"
"""An ASGI message of our own server: the process is about to stop (gateway.front_socket)."""
