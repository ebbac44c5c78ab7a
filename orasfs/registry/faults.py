"""Foreign network exceptions become ours: the one table for httpx, urllib3, ssl and sockets.

A library wraps what the system said several times over; the first known class in the chain of
causes decides, so that the message and the errno name the real reason.
"""

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator

import httpx
import urllib3.exceptions

from orasfs.errors import (
    ConnectionBroken,
    ConnectionRefused,
    HostUnreachable,
    TimedOut,
    TLSFailure,
    Unreachable,
)

# What both libraries say of a CONNECT that was not answered with 200.
_PROXY_REFUSAL = re.compile(
    r"(?:Tunnel connection failed: )?(?P<status>[1345]\d\d)\b.*", re.DOTALL
)

FOREIGN = (
    httpx.TransportError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,  # ssl.SSLError, socket.gaierror and TimeoutError among them
)

_NO_ROUTE = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)


def unreachable(error: BaseException, where: str) -> Unreachable:
    """Return our exception for a foreign one met while speaking with `where`."""
    chain = list(_chain(error))
    for cause in chain:
        found = _known(cause, where)
        if found is not None:
            return found
    if any(isinstance(e, httpx.TimeoutException | TimeoutError) for e in chain) or any(
        isinstance(e, urllib3.exceptions.TimeoutError) for e in chain
    ):
        return TimedOut(f"{where}: no answer in time")
    return ConnectionBroken(f"{where}: the connection broke: {_words(chain)}")


def _known(cause: BaseException, where: str) -> Unreachable | None:
    refusal = _PROXY_REFUSAL.fullmatch(str(cause)) if _is_of_a_proxy(cause) else None
    if refusal is not None:
        reason = "it wants credentials" if refusal["status"] == "407" else "it refuses"
        return HostUnreachable(f"{where}: the proxy lets nothing through: {reason} ({refusal[1]})")
    if isinstance(cause, ssl.SSLError) and not _is_end_of_stream(cause):
        # Both attributes are there only on errors that OpenSSL itself made.
        reason = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or str(cause)
        return TLSFailure(f"{where}: TLS failed: {reason}")
    if isinstance(cause, socket.gaierror):
        return HostUnreachable(f"{where}: no such host: {cause.strerror or cause}")
    if isinstance(cause, ConnectionRefusedError):
        return ConnectionRefused(f"{where}: connection refused")
    if isinstance(cause, OSError) and cause.errno in _NO_ROUTE:
        return HostUnreachable(f"{where}: {cause.strerror}")
    return None


def _is_of_a_proxy(cause: BaseException) -> bool:
    # urllib3 has it of http.client, which raises a bare OSError.
    return isinstance(cause, httpx.ProxyError) or type(cause) is OSError


def _is_end_of_stream(error: ssl.SSLError) -> bool:
    """Tell a connection that ended without TLS's goodbye from a failed handshake."""
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and what caused it, members of groups included, each once."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        arguments = [arg for arg in current.args if isinstance(arg, BaseException)]
        causes = [current.__cause__, current.__context__, *arguments]
        waiting.extend(cause for cause in causes if cause is not None)


def _words(chain: list[BaseException]) -> str:
    """Return the innermost message; no URL is in it, since the system's own words have none."""
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(chain[-1]).__name__
