"""From a registry's name to the URL that it is spoken with.

Owns the address of one registry: the alias of Docker Hub, and whether a loopback registry speaks
TLS, which is found out once. Blocking, for worker threads; knows no HTTP library.
"""

import contextlib
import re
import socket
import ssl
import threading
from urllib.parse import quote

from orasfs.errors import TimedOut
from orasfs.oci.reference import DOCKER_HUB
from orasfs.registry.faults import unreachable
from orasfs.registry.hosts import API_ROOT
from orasfs.registry.route import is_loopback, origin

_DOCKER_HUB_API = "registry-1.docker.io"
_NAMESPACE = re.compile(r"[?&]ns=")
_PROBE_SECONDS = 5.0
_TLS_RECORDS = (b"\x15", b"\x16")  # RFC 8446 section 5.1: alert, handshake


def host_and_port(host: str) -> tuple[str, int | None]:
    """Split `HOST[:PORT]`; brackets of an IPv6 address are taken off."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return name.strip("[]"), int(port)
    return host.strip("[]"), None


class Endpoint:
    """The address of the registry `host` (`HOST[:PORT]`).

    Args:
        host: as a reference names it.
        plain_http: True or False decides; None asks a loopback host, and takes TLS for others.
        root: the path of the API, in place of `/v2`.
        namespace: of a mirror, the registry that it is asked for; "" at the registry itself.
    """

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool | None = None,
        root: str = API_ROOT,
        namespace: str = "",
    ) -> None:
        self.host = host
        self._root = root
        self._namespace = namespace
        self._authority = _DOCKER_HUB_API if host == DOCKER_HUB else host
        self._lock = threading.Lock()
        self._is_plain = plain_http
        if plain_http is None and not is_loopback(host_and_port(host)[0]):
            self._is_plain = False

    def __repr__(self) -> str:
        return f"Endpoint({self.url_now() or self.host})"

    def url_now(self) -> str | None:
        """Return `SCHEME://HOST[:PORT]`, None as long as the host would have to be asked."""
        if self._is_plain is None:
            return None
        return f"{'http' if self._is_plain else 'https'}://{self._authority}"

    def url(self) -> str:
        """Return `SCHEME://HOST[:PORT]`; blocks for the first answer of a loopback host.

        Raises:
            Unreachable: the host had to be asked, and could not be; it is asked again next time.
        """
        with self._lock:
            if self._is_plain is None:
                self._is_plain = not _speaks_tls(*host_and_port(self.host))
            return f"{'http' if self._is_plain else 'https'}://{self._authority}"

    def locate(self, base: str, target: str) -> str:
        """Return the absolute URL of a request.

        A mirror is told by `ns=` which registry is meant (distribution-spec main; containerd
        docs/hosts.md).

        Args:
            base: what `url` returned.
            target: a path that begins with `/v2`, or an absolute URL.
        """
        url = target
        if target.startswith("/"):
            url = f"{base}{self._root}{target.removeprefix(API_ROOT)}"
        if not self._namespace or _NAMESPACE.search(url):
            return url
        return f"{url}{'&' if '?' in url else '?'}ns={quote(self._namespace, safe=':')}"

    def owns(self, url: str) -> bool:
        """Tell whether an absolute URL is of this host and port, by either scheme.

        Raises:
            RegistryFailure: it is no http(s) URL.
        """
        scheme, name, port = origin(url)
        return (name, port) == origin(f"{scheme}://{self._authority}")[1:]

    @property
    def is_mirror(self) -> bool:
        """Whether it stands in for another registry."""
        return bool(self._namespace)

    @property
    def is_trusted(self) -> bool:
        """Whether nobody can change bytes on the way: TLS, or this machine."""
        return self._is_plain is False or self.is_loopback

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine."""
        return is_loopback(host_and_port(self.host)[0])


def _speaks_tls(name: str, port: int | None) -> bool:
    """Tell whether a server answers a TLS greeting with TLS.

    The greeting is followed by the end of our side: a TLS server has all it needs to answer, and
    a plain one sees a request that will never be complete and answers or hangs up at once, so
    that neither lets us wait.
    """
    where = f"{name}:{port or 443}"
    ports = [port] if port is not None else [443, 80]
    for number in ports:
        try:
            with socket.create_connection((name, number), timeout=_PROBE_SECONDS) as connection:
                return _greet(connection, name)
        except TimeoutError as error:
            raise TimedOut(f"{where}: no answer in time") from error
        except OSError as error:
            if number == ports[-1]:
                raise unreachable(error, where) from error
    return False


def _greet(connection: socket.socket, name: str) -> bool:
    # Nothing is said to this server but hello: its certificate does not matter yet.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    greeting = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        greeting.do_handshake()
    try:
        connection.sendall(outgoing.read())
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1) in _TLS_RECORDS
    except TimeoutError:
        raise
    except OSError:  # it hung up on the greeting (a reset, or shutdown's ENOTCONN after one)
        return False
