"""Realtime sessions: a WebSocket of the client's and one of the provider's, and a hold for every response before it can cost anything.

`opening` decides whether and where, `session` runs from there to the end; `upward` and `downward` pass the events; `turns` knows who may answer
next and `holds` keeps the money for it; `conversation` knows what the next response may cost.
"""
