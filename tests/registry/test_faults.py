import errno
import socket
import ssl

import httpx
import pytest
import urllib3.exceptions

from orasfs.errors import (
    ConnectionBroken,
    ConnectionRefused,
    HostUnreachable,
    TimedOut,
    TLSFailure,
    Unreachable,
)
from orasfs.registry.faults import unreachable


def caused(outer: Exception, *causes: Exception) -> Exception:
    """Chain exceptions as `raise outer from cause` does."""
    current = outer
    for cause in causes:
        current.__cause__ = cause
        current = cause
    return outer


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            caused(httpx.ConnectError("all failed"), OSError("all failed"), REFUSED),
            ConnectionRefused,
        ),
        (
            caused(httpx.ConnectError("x"), OSError("x"), ExceptionGroup("x", [REFUSED])),
            ConnectionRefused,
        ),
        (caused(httpx.ConnectError("x"), socket.gaierror(-2, "unknown")), HostUnreachable),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), HostUnreachable),
        (caused(httpx.ConnectError("x"), ssl.SSLError(1, "bad record")), TLSFailure),
        (urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed")), TLSFailure),
        (ssl.SSLEOFError(8, "EOF occurred"), ConnectionBroken),
        (httpx.ReadTimeout("x"), TimedOut),
        (TimeoutError("timed out"), TimedOut),
        (urllib3.exceptions.ReadTimeoutError(None, None, "x"), TimedOut),  # type: ignore[arg-type]
        (
            urllib3.exceptions.ProtocolError("Connection broken", OSError(104, "reset")),
            ConnectionBroken,
        ),
        (httpx.RemoteProtocolError("disconnected"), ConnectionBroken),
        (OSError(errno.EPIPE, "Broken pipe"), ConnectionBroken),
    ],
)
def test_the_real_cause_decides(error: Exception, kind: type[Unreachable]) -> None:
    found = unreachable(error, "host/team")
    assert type(found) is kind
    assert str(found).startswith("host/team: ")


def test_exceptions_in_a_circle_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert isinstance(unreachable(first, "x"), ConnectionBroken)


def test_signed_addresses_are_not_repeated() -> None:
    error = urllib3.exceptions.ProtocolError("GET /x?X-Amz-Signature=secret broke")
    assert "secret" not in str(unreachable(error, "x"))
