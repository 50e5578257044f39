"""The proof of the caps: bursts at their edge, a kill at every point of a call, and ten thousand calls under a seeded nemesis.

Short versions run with `make test`; `python -m tests.chaos --seed N --calls 10000` is the long one (`make chaos SEED=N`).
"""
