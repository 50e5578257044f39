"""The one door of outgoing calls of the data plane. Nothing else in the gateway opens a socket."""

from gateway.upstream.door import Answer, Door, Limits
from gateway.upstream.failures import AddressRefused, Broken, NotSent, Silent, UpstreamFailure
from gateway.upstream.socket import Declined, Socket
from workspaces.domain.addresses import BadBaseUrl, Origin, parse_base_url

__all__ = [
    "AddressRefused",
    "Answer",
    "BadBaseUrl",
    "Broken",
    "Declined",
    "Door",
    "Limits",
    "NotSent",
    "Origin",
    "Silent",
    "Socket",
    "UpstreamFailure",
    "parse_base_url",
]
