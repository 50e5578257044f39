"""The operator's alarm for answers that say something new about money: a usage key that nobody has taught us, sums that differ from ours.

One line in the log for each kind and provider, once a process: the calls themselves carry the flag (their page shows it), and those whose
price may be missing a line are PARTIAL and listed by `billing.prices_status`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

log = logging.getLogger(__name__)

MEANT: Final = {
    "schema_drift": "states a usage key that nobody has taught us (it may be billed): see billing/domain/extraction",
    "provider_total_differs": "states a total that its parts do not add up to",
    "provider_cost_differs": "states another price than our table: see billing/prices/overlay.json",
}
MOST: Final = 1_000
"""Keys come from providers: an endless number of new ones is told as one."""
_told: set[tuple[str, str]] = set()


def tell(provider: str, flags: Iterable[str]) -> None:
    """Logs what of these flags was not told yet."""
    for flag in flags:
        kind = flag.partition(":")[0]
        if kind not in MEANT or (provider, flag) in _told or len(_told) >= MOST:
            continue
        _told.add((provider, flag))
        log.warning("%s %s [%s]", provider, MEANT[kind], flag[:120])
