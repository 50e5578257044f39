"""The only door to the money Redis for writing. Scripts in `lua/`, their packed requests in `wire`, the gateway's `Limiter`,
and `control` for the rare, synchronous writes (policy version, rebuild, sweep)."""
