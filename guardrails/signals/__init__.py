"""Signals: what Sluice tells people, and how it reaches them.

A *notice* is one thing that happened (a threshold crossed, a stage begun or over, a month on its way past a line). Making it is an insert
that only one can win, so nothing is told twice. Its *deliveries* (mail, webhook, Slack) are rows made in the same transaction: the outbox.
Senders lease them, note that they begin, send, and note the end; what was lost on the way is leased again.

`telling` turns crossings into notices, `stages` and `outlooks` see what no call tells, `audience` says who hears of it, `outbox` keeps the
deliveries, `mail` and `hooks` carry them. Shared tables under row-level security: no periodic task walks the workspaces' schemas.
"""
