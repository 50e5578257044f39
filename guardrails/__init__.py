"""May it: budgets, rate limits, holds (the only door to the money Redis), stages and recovery.

Invariants: a call is forwarded only after an OK of the money Redis for its own attempt id; settled + held never exceeds a hard cap; what is
lost is refused until it is rebuilt from the books, never taken for zero.
"""
