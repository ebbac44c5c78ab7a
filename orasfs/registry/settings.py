"""What can be chosen about the way to a registry; frozen values, no behaviour."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from orasfs.registry.circuit import CircuitPolicy
from orasfs.registry.retry import RetryPolicy


def default_user_agent() -> str:
    """Return `orasfs/<version>`."""
    try:
        return f"orasfs/{metadata.version('orasfs')}"
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "orasfs/0"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How to speak with one registry.

    Attributes:
        plain_http: True or False decides; None is plain HTTP for a loopback host that does not
            speak TLS, else TLS.
        user_agent: the User-Agent header.
        connect_seconds: for establishing a connection, TLS included.
        read_seconds: without a single byte from the other side.
        commit_seconds: for the answer to a blob that was sent whole, which a registry may copy
            once more before it answers.
        total_seconds: for one call on the control path with all its retries and redirects.
        concurrency: control requests at a time, and uploads; of downloads twice as many.
        retry: see `RetryPolicy`.
        circuit: see `CircuitPolicy`.
        ssl_context: whom to trust, and who to be, at the registry's own origin; None is the
            system's certificate store.
        foreign_ssl_context: whom to trust at all other hosts that the registry leads to, its
            token service and its storage among them; None likewise.
        verifies_tls: whether TLS proves who answers; without, it is no more than plain HTTP.
        headers: (name, value) of more headers, for the registry's own origin.
        addresses: where hosts are to be reached, instead of asking for their names: see
            `orasfs.registry.route.dial`.
    """

    plain_http: bool | None = None
    user_agent: str = field(default_factory=default_user_agent)
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    commit_seconds: float = 300.0
    total_seconds: float = 90.0
    concurrency: int = 8
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)
    ssl_context: ssl.SSLContext | None = None
    foreign_ssl_context: ssl.SSLContext | None = None
    verifies_tls: bool = True
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    addresses: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
