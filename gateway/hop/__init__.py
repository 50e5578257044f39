"""When an attempt fails: what may be tried again, where else, and who is not asked for a while.

`breaker` and `rules` are pure. `health` keeps what this process saw of each credential; `trip` is the course of one call after its first failure.
Nothing here costs a call that succeeds at a provider that works.
"""
