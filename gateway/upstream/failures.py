"""How an outgoing call fails. The one bit that money needs is on the type: was anything sent?

`NotSent` is provable (no connection was ever handed a byte of the request): the hold is voided and a retry is safe. After
`Silent` and `Broken` nobody knows what the provider did, so the attempt is assumed to have cost what was held (PROTOCOL.md, "Finish").
"""

from __future__ import annotations


class UpstreamFailure(Exception):
    """An outgoing call did not end as it should. The message is for operators: no key, no body."""

    sent = True


class NotSent(UpstreamFailure):
    """DNS, connect or TLS failed, or the address may not be contacted."""

    sent = False


class AddressRefused(NotSent):
    """The host resolves to an address that the SSRF guard refuses (SECURITY.md S28, S29)."""


class Silent(UpstreamFailure):
    """The request was sent; then nothing came for longer than the limit named in the message."""


class Broken(UpstreamFailure):
    """The request was sent; the answer was cut off, or is not HTTP we accept."""
