"""`make bench`: calls a second and added latency of the gateway on one core, beside nginx. `python -m tests.bench --help`."""
