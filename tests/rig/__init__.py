"""The fault rig: real processes, a proxy that breaks connections, a seeded nemesis, bounded load, and an auditor of the books."""
