"""The bulk path: blobs by urllib3, blocking, in worker threads.

Owns connections and redirects of one registry's blobs; `orasfs.registry.stream` and
`orasfs.registry.upload` own what happens when one breaks. httpx on trio moves half as much over
plain HTTP and a fifth over TLS, which is why blobs do not go the control path. Every method may be
called from any thread.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import urllib3

from orasfs.errors import Aborted, RegistryFailure, TimedOut
from orasfs.registry import route
from orasfs.registry.auth import Authorizer
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.faults import FOREIGN, unreachable
from orasfs.registry.pools import Pools
from orasfs.registry.protocol import Answer, error_of, storage_refusal
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.stream import RangeHabit, ResumingStream, Span, read_answer
from orasfs.registry.tokenservice import new_authorizer
from orasfs.registry.traffic import Traffic
from orasfs.registry.upload import BlobUpload, Habits
from orasfs.registry.uploadjob import GrowingJob, UploadRequest, WholeJob

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2  # how often a wait looks whether it was given up


class BulkTransport:
    """Opens streams of blobs of one registry, and sends blobs to it.

    Args:
        endpoint: where the registry is.
        settings: deadlines, retries and trust.
        authorizer: answers what the registry wants to know of who asks; by default, nobody.
        pools: connections, where they are shared.
        traffic: what is shared with the other HTTP path.
        wait: waits for an event (a stream being closed) or so many seconds between attempts.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: RegistrySettings,
        *,
        authorizer: Authorizer | None = None,
        pools: Pools | None = None,
        traffic: Traffic | None = None,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._pools = pools or Pools(endpoint, settings)
        self._authorizer = authorizer or new_authorizer(endpoint, settings, self._pools)
        self._traffic = traffic or Traffic(endpoint.host, settings, clock=clock)
        self._wait = wait
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[ResumingStream] = weakref.WeakSet()
        self._was_led_astray = False
        self._closed = threading.Event()
        self._habits = Habits()
        self._ranges = RangeHabit(lasts=endpoint.is_mirror)

    def __repr__(self) -> str:
        return f"BulkTransport({self._endpoint.host})"

    @property
    def is_trusted(self) -> bool:
        """Whether nobody can change bytes on the way.

        It turns false for good when a registry sends us on to a place of which that is not true.
        """
        is_verified = self._settings.verifies_tls or self._endpoint.is_loopback
        return self._endpoint.is_trusted and is_verified and not self._was_led_astray

    def open_stream(
        self, path: str, subject: str, size: int, start: int = 0, stop: int | None = None
    ) -> ResumingStream:
        """Open bytes [start, stop) of the blob of `size` bytes at `path`.

        The whole blob ends one byte behind `size` at most, so that whoever verifies it sees that
        it is too long. See `BlobStreamer.open_stream`.
        """
        stop = size if stop is None else min(stop, size)
        if not self._traffic.downloads.take(self._closed.is_set, self._settings.total_seconds):
            raise TimedOut(f"{subject}: too many other downloads from this registry")
        stream = ResumingStream(
            lambda range_header: self._get(path, subject, range_header),
            Span(subject=subject, size=size, start=start, stop=stop),
            self._settings.retry,
            wait=self._wait,
            clock=self._clock,
            pause=lambda: self._traffic.pause_seconds,
            habit=self._ranges,
            on_closed=self._traffic.downloads.give,
        )
        with self._lock:
            self._streams.add(stream)
        try:
            stream.open()
        except BaseException:
            stream.close()
            raise
        return stream

    def upload(self, job: WholeJob | GrowingJob) -> None:
        """Send a blob. See `BlobPusher.push_blob`; closing ends it as cancelling does."""

        def is_cancelled() -> bool:
            return self._closed.is_set() or job.is_cancelled()

        work = BlobUpload(
            lambda request: self._send(request, job.repository, is_cancelled),
            replace(job, is_cancelled=is_cancelled),
            self._settings.retry,
            self._habits,
            sleep=lambda seconds: self._wait(self._closed, seconds),
            clock=self._clock,
        )
        if job.is_growing:  # waits for whoever writes it, and so holds no slot
            work.run()
            return
        with self._traffic.uploads.held(is_cancelled, job.subject):
            work.run()

    def close(self) -> None:
        """Close all streams and connections. Harmless twice."""
        self._closed.set()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._pools.clear()

    def _get(self, path: str, subject: str, range_header: str) -> urllib3.BaseHTTPResponse:
        """Send one request, follow its redirects; return the answer with its body unread.

        Redirects are followed anew each time: what they lead to is often signed for minutes only.
        """
        url = self._endpoint.locate(self._endpoint.url(), path)
        headers = route.request_headers(self._settings.user_agent, range_header=range_header)
        headers |= dict(self._settings.headers)
        attempt = self._authorizer.attempt("GET", url)
        may_have_expired = True
        while True:
            response, place = self._follow(url, headers | attempt.headers, subject)
            if route.is_expired(url, place, response.status):
                words = read_answer(response)
                if may_have_expired:
                    may_have_expired = False
                    continue
                raise storage_refusal(words, place, subject)
            if response.status != 401 or route.origin(place) != route.origin(url):
                return response
            answer = read_answer(response)
            if not attempt.renews(answer.headers.get("www-authenticate", "")):
                raise error_of(replace(answer, refusal=attempt.refusal), subject)

    def _follow(
        self, url: str, headers: dict[str, str], subject: str
    ) -> tuple[urllib3.BaseHTTPResponse, str]:
        """Send a request on to wherever it is redirected; return the answer and its URL."""
        hops = 0
        while True:
            response = self._exchange(url, headers, subject)
            if response.status not in route.REDIRECTS:
                return response, url
            read_answer(response)
            target = route.redirect_target(url, response.headers.get("location", ""), hops)
            headers = route.headers_for_hop(headers, url, target)
            self._watch_trust(target)
            url, hops = target, hops + 1

    def _send(
        self, request: UploadRequest, repository: str, is_cancelled: Callable[[], bool]
    ) -> Answer:
        """Send one request of an upload; whoever wants it elsewhere is not followed."""
        is_path = request.target.startswith("/")
        base = self._endpoint.url()
        url = base + request.target if is_path else request.target
        if route.origin(url) != route.origin(base):  # no credentials leave to another host
            raise RegistryFailure(f"{request.subject}: the upload's address is of another host")
        self._sit_out_pause(request.subject, is_cancelled)
        attempt = self._authorizer.attempt(request.method, url, repository)
        while True:
            answer = self._send_once(request, url, attempt.headers)
            if answer.status != 401:
                return answer
            if not attempt.renews(answer.headers.get("www-authenticate", "")):
                return replace(answer, refusal=attempt.refusal)

    def _sit_out_pause(self, subject: str, is_cancelled: Callable[[], bool]) -> None:
        """Send nothing for as long as the registry wants that; what was given up does not wait."""
        seconds = self._traffic.pause_seconds
        while seconds > 0:
            if is_cancelled():
                raise Aborted(f"{subject}: given up while the registry wanted no requests")
            self._wait(self._closed, min(seconds, _POLL_SECONDS))
            seconds -= _POLL_SECONDS

    def _send_once(
        self, request: UploadRequest, url: str, authorization: dict[str, str]
    ) -> Answer:
        headers = route.request_headers(self._settings.user_agent)
        headers |= dict(self._settings.headers) | authorization
        if request.method not in ("GET", "HEAD"):
            headers |= request.headers
            if request.length is not None:  # or else it goes with Transfer-Encoding: chunked
                headers["Content-Length"] = str(request.length)
        try:
            response = self._request(request.method, url, headers, request)
        except FOREIGN as error:
            raise unreachable(error, request.subject) from error
        return replace(read_answer(response), url=url)

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        upload: UploadRequest | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request; the foreign exceptions are the caller's."""
        started = self._clock()
        response = self._send_watched(method, url, headers, upload)
        logger.debug(
            "request method=%s url=%s range=%s status=%d ms=%.0f",
            method,
            route.without_query(url),
            headers.get("Range", headers.get("Content-Range", "-")),
            response.status,
            (self._clock() - started) * 1000,
        )
        return response

    def _send_watched(
        self, method: str, url: str, headers: dict[str, str], upload: UploadRequest | None
    ) -> urllib3.BaseHTTPResponse:
        """Send one request; the registry's circuit hears of the outcome, and may forbid it."""
        is_own = self._endpoint.owns(url)
        with self._traffic.watched(self._endpoint.host) if is_own else nullcontext():
            body = upload.open_pieces() if upload is not None and upload.length != 0 else None
            response = self._pools.request(method, url, headers, body, self._timeout_of(upload))
        if is_own:
            self._traffic.answered(response.status, response.headers)
        return response

    def _timeout_of(self, upload: UploadRequest | None) -> urllib3.Timeout:
        if upload is None or (upload.length == 0 and not upload.is_final):
            return self._pools.timeout
        read = self._settings.commit_seconds if upload.is_final else self._settings.read_seconds
        # While a body is sent, each piece of it has what urllib3 calls the time for connecting.
        return urllib3.Timeout(connect=self._settings.read_seconds, read=read)

    def _exchange(
        self, url: str, headers: dict[str, str], subject: str
    ) -> urllib3.BaseHTTPResponse:
        try:
            response = self._request("GET", url, headers)
        except FOREIGN as error:
            raise unreachable(error, subject) from error
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
