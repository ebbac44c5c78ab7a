"""Which connections a request may share, and what TLS shows and trusts on them.

Owns the one decision that keeps a client certificate from servers that the registry leads to; both
HTTP paths keep their connections by `Lane`. Reads the system's certificate store, and makes no
request.
"""

import ssl
from dataclasses import dataclass

from orasfs.registry import route
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests that may go over the same connections.

    Attributes:
        is_tls: whether the server is spoken with by TLS.
        is_own: whether it is the registry's own origin, which is told who asks.
        proxy: the proxy's URL, None for none.
    """

    is_tls: bool
    is_own: bool
    proxy: str | None = None


def lane_of(url: str, endpoint: Endpoint) -> Lane:
    """Return the lane of a request to a URL, sent on behalf of a registry's client.

    Raises:
        InvalidInput: the environment names a proxy that cannot be used.
        RegistryFailure: it is no address.
    """
    return Lane(route.origin(url)[0] == "https", endpoint.owns(url), route.proxy_for(url))


def context_for(lane: Lane, settings: RegistrySettings) -> ssl.SSLContext | None:
    """Return how TLS is spoken with the server; None where it is plain HTTP."""
    if not lane.is_tls:  # reading the certificate store takes longer than a request
        return None
    chosen = settings.ssl_context if lane.is_own else settings.foreign_ssl_context
    return chosen or ssl.create_default_context()


def proxy_context_for(lane: Lane, settings: RegistrySettings) -> ssl.SSLContext | None:
    """Return how TLS is spoken with the proxy itself; None where it is not."""
    if not (lane.proxy or "").startswith("https:"):
        return None
    return settings.foreign_ssl_context or ssl.create_default_context()
