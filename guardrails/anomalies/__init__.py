"""Anomalies: one incident a cause, found in minutes (loops, error storms) and hours (cost), told once, with levers.

`guardrails.domain.anomalies` decides on plain values; here is what feeds it (`reading`), when it looks (`watching` by the minute, `looking` by
the hour), what becomes of a cause (`incidents`), and what people do about it (`actions`, pages, API).
"""
