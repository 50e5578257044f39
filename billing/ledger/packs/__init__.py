"""Combinations of all dimensions, packed by column: one row a workspace and day instead of one a combination (docs/adr/0014).

The writer adds to `billing_rollup_detail` as ever. `packing` moves its rows into `billing_detail_pack` from time to time, `combinations` reads both:
all measures are sums, so a combination may stand in either, or in both, and a correction that comes late is a row of its own. `merging` makes the
packs of a closed month one (docs/adr/0027).
"""
