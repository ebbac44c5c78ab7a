"""Connections of the blocking path: urllib3's pools, by the settings of one registry.

Owns which proxy and which trust a URL gets. Every method may be called from any thread.

INVARIANT: the registry's own context, with whatever client certificate is in it, is for the
registry's own origin; every other host gets the foreign one.
"""

import base64
import threading
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from orasfs.registry import route
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.lanes import Lane, context_for, lane_of, proxy_context_for
from orasfs.registry.settings import RegistrySettings

Body = bytes | Iterable[bytes] | None

_CONNECTIONS_KEPT = 8
_HOSTS_KEPT = 8  # the registry, its token service, and the storage that it redirects to


class Pools:
    """Connections to a registry and to wherever it sends us."""

    def __init__(self, endpoint: Endpoint, settings: RegistrySettings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._lock = threading.Lock()
        self._managers: dict[tuple[Lane, str], urllib3.PoolManager] = {}
        self.timeout = urllib3.Timeout(
            connect=settings.connect_seconds, read=settings.read_seconds
        )

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body = None,
        timeout: urllib3.Timeout | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return its answer with the body unread; follow and repeat nothing.

        Raises:
            urllib3.exceptions.HTTPError: and what else `orasfs.registry.faults.FOREIGN` names.
        """
        dial = route.dial(url, self._settings.addresses)
        return self._manager_for(url, dial.hostname).request(
            method,
            dial.url,
            body=body,
            headers={**headers, "Host": dial.authority} if dial.authority else dict(headers),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=timeout or self.timeout,
        )

    def _manager_for(self, url: str, hostname: str) -> urllib3.PoolManager:
        key = (lane_of(url, self._endpoint), hostname)
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._new_manager(*key)
            return self._managers[key]

    def clear(self) -> None:
        """Close all connections that are idle. Harmless twice."""
        with self._lock:
            managers = list(self._managers.values())
            self._managers.clear()
        for manager in managers:
            manager.clear()

    def _new_manager(self, lane: Lane, hostname: str) -> urllib3.PoolManager:
        """Return what sends requests; to an address, if TLS is to see another host name."""
        context = context_for(lane, self._settings)
        proxy = lane.proxy
        if proxy is None:
            return urllib3.PoolManager(
                num_pools=_HOSTS_KEPT,
                maxsize=_CONNECTIONS_KEPT,
                ssl_context=context,
                # Not assert_hostname: it has urllib3 turn the check off in the context, which the
                # control path has too.
                server_hostname=hostname if hostname and lane.is_tls else None,
            )
        parts = urlsplit(proxy)
        user, _, address = parts.netloc.rpartition("@")
        # Not urllib3.make_headers, which knows no more than Latin-1.
        credential = base64.b64encode(unquote(user).encode()).decode()
        headers = {"Proxy-Authorization": f"Basic {credential}"} if user else None
        return urllib3.ProxyManager(
            urlunsplit((parts.scheme, address, "", "", "")),
            num_pools=_HOSTS_KEPT,
            maxsize=_CONNECTIONS_KEPT,
            proxy_headers=headers,
            proxy_ssl_context=proxy_context_for(lane, self._settings),
            ssl_context=context,
        )
