"""Realtime sessions: a WebSocket of the client's and one of the provider's, and a hold for every response before it can cost anything.

`opening` decides whether and where, `session` passes the events, `holds` keeps the money, `conversation` knows what the next response may cost.
"""
