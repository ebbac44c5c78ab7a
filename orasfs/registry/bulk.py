"""The bulk path: blobs by urllib3, blocking, in worker threads.

Owns connections and redirects of one registry's blobs; `orasfs.registry.stream` owns what happens
when one breaks. httpx on trio moves half as much over plain HTTP and a fifth over TLS, which is
why blobs do not go the control path. Every method may be called from any thread.
"""

import logging
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from orasfs.errors import RegistryFailure
from orasfs.registry import route
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.stream import ResumingStream, Span, read_answer

logger = logging.getLogger(__name__)

_CONNECTIONS_KEPT = 8
_HOSTS_KEPT = 8  # the registry and the storage that it redirects to


class BulkTransport:
    """Opens streams of blobs of one registry.

    Args:
        endpoint: where the registry is.
        settings: deadlines, retries and trust.
        wait: waits for an event (a stream being closed) or so many seconds between attempts.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: RegistrySettings,
        *,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._wait = wait
        self._clock = clock
        self._lock = threading.Lock()
        self._managers: dict[tuple[bool, str | None], urllib3.PoolManager] = {}
        self._streams: weakref.WeakSet[ResumingStream] = weakref.WeakSet()
        self._was_led_astray = False
        self._timeout = urllib3.Timeout(
            connect=settings.connect_seconds, read=settings.read_seconds
        )

    def __repr__(self) -> str:
        return f"BulkTransport({self._endpoint.host})"

    @property
    def is_trusted(self) -> bool:
        """Whether nobody can change bytes on the way.

        It turns false for good when a registry sends us on to a place of which that is not true.
        """
        return self._endpoint.is_trusted and not self._was_led_astray

    def open_stream(
        self, path: str, subject: str, size: int, start: int = 0, stop: int | None = None
    ) -> ResumingStream:
        """Open bytes [start, stop) of the blob of `size` bytes at `path`.

        The whole blob ends one byte behind `size` at most, so that whoever verifies it sees that
        it is too long. See `BlobStreamer.open_stream`.
        """
        stop = size if stop is None else min(stop, size)
        stream = ResumingStream(
            lambda range_header: self._get(path, subject, range_header),
            Span(subject=subject, size=size, start=start, stop=stop),
            self._settings.retry,
            wait=self._wait,
            clock=self._clock,
        )
        with self._lock:
            self._streams.add(stream)
        stream.open()
        return stream

    def close(self) -> None:
        """Close all streams and connections. Harmless twice."""
        with self._lock:
            streams, managers = list(self._streams), list(self._managers.values())
            self._managers.clear()
        for stream in streams:
            stream.close()
        for manager in managers:
            manager.clear()

    def _get(self, path: str, subject: str, range_header: str) -> urllib3.BaseHTTPResponse:
        """Send one request, follow its redirects; return the answer with its body unread.

        Redirects are followed anew each time: what they lead to is often signed for minutes only.
        """
        base = self._endpoint.url()
        url = base + path
        headers = route.request_headers(self._settings.user_agent, range_header=range_header)
        hops = 0
        while True:
            response = self._exchange(url, headers, subject)
            if response.status not in route.REDIRECTS:
                return response
            read_answer(response)
            target = route.redirect_target(url, response.headers.get("location", ""), hops)
            headers = route.headers_for_hop(headers, url, target)
            self._watch_trust(target)
            url, hops = target, hops + 1

    def _exchange(
        self, url: str, headers: dict[str, str], subject: str
    ) -> urllib3.BaseHTTPResponse:
        started = self._clock()
        try:
            response = self._manager_for(url).request(
                "GET",
                url,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._timeout,
            )
        except FOREIGN as error:
            raise unreachable(error, subject) from error
        logger.debug(
            "request method=GET url=%s range=%s status=%d ms=%.0f",
            route.without_query(url),
            headers.get("Range", "-"),
            response.status,
            (self._clock() - started) * 1000,
        )
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise RegistryFailure(f"{subject}: the blob comes compressed, which nobody asked for")
        return response

    def _watch_trust(self, target: str) -> None:
        if self._endpoint.is_trusted and not self._was_led_astray and not route.is_trusted(target):
            self._was_led_astray = True
            logger.warning(
                "blobs come over plain http host=%s redirected_to=%s",
                self._endpoint.host,
                route.origin(target)[1],
            )

    def _manager_for(self, url: str) -> urllib3.PoolManager:
        key = (url.startswith("https:"), route.proxy_for(url))
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._new_manager(*key)
            return self._managers[key]

    def _new_manager(self, is_tls: bool, proxy: str | None) -> urllib3.PoolManager:  # noqa: FBT001 - a key
        # Reading the certificate store takes longer than a request; plain HTTP does without.
        needs_context = is_tls or (proxy or "").startswith("https:")
        context = self._settings.ssl_context
        if context is None and needs_context:
            context = ssl.create_default_context()
        if proxy is None:
            return urllib3.PoolManager(
                num_pools=_HOSTS_KEPT, maxsize=_CONNECTIONS_KEPT, ssl_context=context
            )
        parts = urlsplit(proxy)
        user, _, address = parts.netloc.rpartition("@")
        headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if user else None
        return urllib3.ProxyManager(
            urlunsplit((parts.scheme, address, "", "", "")),
            num_pools=_HOSTS_KEPT,
            maxsize=_CONNECTIONS_KEPT,
            proxy_headers=headers,
            ssl_context=context,
        )
