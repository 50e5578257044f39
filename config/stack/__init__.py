"""The parts that a single machine needs around the application: its own PostgreSQL and Redis, and the supervisor of `make up`.

`postgres.PostgresServer` and `redis.RedisServer` are plain objects around one process each; the tests and the fault rig use them too.
"""
