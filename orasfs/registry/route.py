"""Where a request may go: origins, redirects, proxies, and which headers go along.

Owns every decision that protects credentials and unverified bytes on the way; both HTTP paths ask
here. Pure: it reads the environment's proxy variables and nothing else.

INVARIANT: `Authorization` never reaches another origin than the one it was made for
(distribution-spec main, "MUST NOT forward Authorization across hosts").
"""

import contextlib
import ipaddress
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from orasfs.errors import InvalidInput, RegistryFailure

# (host in lower case, port) -> (address, port, or 0 for the same)
Addresses = Mapping[tuple[str, int], tuple[str, int]]

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEFAULT_PORTS = {"http": 80, "https": 443}
# All else may be a secret: users put tokens into headers of their own.
_HARMLESS = frozenset({"user-agent", "accept", "accept-encoding", "range"})


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an absolute http(s) URL (RFC 6454 section 4).

    Raises:
        RegistryFailure: it is no such URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RegistryFailure(f"the registry named an address that is none: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise RegistryFailure("the registry named an address that is neither http nor https")
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]


def is_loopback(hostname: str) -> bool:
    """Tell whether a host name (no port; IPv6 with or without brackets) is this machine."""
    name = hostname.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_trusted(url: str) -> bool:
    """Tell whether nobody can change bytes on the way: TLS, or this machine."""
    scheme, hostname, _ = origin(url)
    return scheme == "https" or is_loopback(hostname)


def without_query(url: str) -> str:
    """Return the URL as it may be logged: signatures are in queries, passwords before the host."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def redirect_target(url: str, location: str, hops: int) -> str:
    """Return the absolute URL that a redirect leads to.

    Args:
        url: of the request that was redirected.
        location: the Location header, "" where it is missing.
        hops: redirects that this request has followed already.

    Raises:
        RegistryFailure: there are too many, or the target is not http(s).
    """
    if hops >= MAX_REDIRECTS:
        raise RegistryFailure(f"{without_query(url)}: more than {MAX_REDIRECTS} redirects")
    if not location:
        raise RegistryFailure(f"{without_query(url)}: a redirect that does not say where to")
    try:
        target = urljoin(url, location).partition("#")[0]
    except ValueError as error:
        raise RegistryFailure(f"{without_query(url)}: a redirect to no address") from error
    origin(target)
    return target


def headers_for_hop(headers: Mapping[str, str], source: str, target: str) -> dict[str, str]:
    """Return the headers that may follow a redirect from `source` to `target`."""
    if origin(source) == origin(target):
        return dict(headers)
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}


def is_expired(source: str, target: str, status: int) -> bool:
    """Tell whether an answer may mean that the address redirected to holds no longer.

    Signed addresses hold for minutes, and registries keep them longer than that. S3 says 403 then,
    others 400 and 401; whether it is so, only another address can tell.
    """
    return status in (400, 401, 403) and origin(source) != origin(target)


@dataclass(frozen=True, slots=True)
class Dial:
    """Where a request is really sent, by `--resolve`.

    Attributes:
        url: with the address in place of the host.
        authority: the Host header to send, "" where nothing was replaced.
        hostname: the name that TLS asks for and verifies, "" likewise.
    """

    url: str
    authority: str = ""
    hostname: str = ""


def dial(url: str, addresses: Addresses) -> Dial:
    """Return where a URL's host and port are to be reached."""
    if not addresses:
        return Dial(url)
    scheme, hostname, port = origin(url)
    found = addresses.get((hostname.lower(), port))
    if found is None:
        return Dial(url)
    address, address_port = found
    literal = f"[{address}]" if ":" in address else address
    parts = urlsplit(url)
    replaced = urlunsplit(
        (scheme, f"{literal}:{address_port or port}", parts.path, parts.query, "")
    )
    return Dial(replaced, parts.netloc.rpartition("@")[2], hostname)


def request_headers(user_agent: str, accept: str = "", range_header: str = "") -> dict[str, str]:
    """Return the headers of a request to the registry: the one place that adds any.

    Bodies are asked for as they are: a digest is of the bytes before any transfer compression.
    """
    headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
    if accept:
        headers["Accept"] = accept
    if range_header:
        headers["Range"] = range_header
    return headers


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; never one for loopback.

    NO_PROXY may name hosts, domains with all below them, addresses and networks (CIDR), each with
    a port or without, as for the reference client.

    Raises:
        InvalidInput: it is not an http(s) proxy.
    """
    scheme, hostname, port = origin(url)
    if is_loopback(hostname):
        return None
    proxies = urllib.request.getproxies()
    name = f"{scheme}_proxy" if proxies.get(scheme) else "all_proxy"
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or _is_excepted(hostname, port, proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    kind = urlsplit(proxy).scheme
    if kind not in _DEFAULT_PORTS:
        raise InvalidInput(
            f"{name}: a proxy by {kind[:20]}:// cannot be used, only one by http:// or https://; "
            f"name such a one, or {hostname} in no_proxy"
        )
    return proxy


def _is_excepted(hostname: str, port: int, no_proxy: str) -> bool:
    """Tell whether NO_PROXY names a host."""
    if urllib.request.proxy_bypass(f"{hostname}:{port}"):
        return True
    try:
        address = ipaddress.ip_address(hostname)
        return any(address in network for network in _networks(no_proxy))
    except ValueError:
        return False


def _networks(no_proxy: str) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for entry in no_proxy.split(","):
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_network(entry.strip().strip("[]"), strict=False)
