"""A registry behind a network that fails to order, in memory, below both HTTP paths.

Nothing waits: what takes time on a network takes it on a clock of the wire's own (bulk path), or
on trio's (control path, to be run with `autojump_clock`).

wire = Wire()
wire.put(path, content)
wire.plan = lambda request: Fault(reset_after=1000)
"""

import io
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import trio
import urllib3

from orasfs.registry.endpoint import Endpoint
from orasfs.registry.pools import Body, Pools
from orasfs.registry.settings import RegistrySettings

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        is_refused: nobody listens.
        has_wrong_certificate: TLS fails.
        stall_after: bytes of the body after which nothing comes; -1 stalls the headers.
        reset_after: bytes of the body after which the connection is reset.
        truncate_after: the same, by an orderly end.
        short_by: bytes that body and Content-Length are short of.
        status: answered instead, with `headers`.
        is_wrong: the bytes are others, as many.
        ignores_range: the whole is answered.
    """

    is_refused: bool = False
    has_wrong_certificate: bool = False
    stall_after: int | None = None
    reset_after: int | None = None
    truncate_after: int | None = None
    short_by: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    is_wrong: bool = False
    ignores_range: bool = False


NO_FAULT = Fault()


@dataclass(frozen=True)
class Content:
    """What is at a path."""

    body: bytes
    headers: Mapping[str, str]


class Wire:
    """The network, and the registry at its end.

    Attributes:
        plan: tells the fault of a request, by its method, path and number from 0.
        requests: (method, path) in order.
        now: seconds, of the bulk path.
    """

    def __init__(self) -> None:
        self.plan: Callable[[str, str, int], Fault] = lambda *_: NO_FAULT
        self.requests: list[tuple[str, str]] = []
        self.now = 0.0
        self._contents: dict[str, Content] = {}
        self._lock = threading.Lock()

    def put(self, path: str, body: bytes, **headers: str) -> None:
        """Put content at a path; underscores of header names are hyphens."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self._contents[path] = Content(body, fields)

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.now += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event as `threading.Event.wait` does, in no time."""
        self.pass_time(seconds)
        return event.is_set()

    def ask(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> tuple[Fault, int, dict[str, str], bytes]:
        """Return the fault of a request, and status, headers and body of its answer.

        Raises:
            ConnectionRefusedError, ssl.SSLCertVerificationError: it did not get there.
        """
        path = "/" + url.split("/", 3)[3]
        with self._lock:
            number = len(self.requests)
            self.requests.append((method, path))
            fault = self.plan(method, path, number)
        if fault.is_refused:
            raise ConnectionRefusedError(111, "Connection refused")
        if fault.has_wrong_certificate:
            raise ssl.SSLCertVerificationError(1, "certificate verify failed")
        if fault.status:
            return fault, fault.status, {**fault.headers, "Content-Length": "0"}, b""
        found = self._contents.get(path)
        if found is None:
            return fault, 404, {"Content-Length": "0"}, b""
        status, fields, body = self._answer(fault, found, headers.get("Range", ""))
        return fault, status, fields | {"Content-Length": str(len(body))}, body

    @staticmethod
    def _answer(fault: Fault, found: Content, wanted: str) -> tuple[int, dict[str, str], bytes]:
        whole = bytes(octet ^ 1 for octet in found.body) if fault.is_wrong else found.body
        status, fields, body = 200, dict(found.headers), whole
        match = _RANGE.fullmatch(wanted)
        if match is not None and not fault.ignores_range:
            first, last = int(match[1]), min(int(match[2]), len(whole) - 1)
            fields["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
            status, body = 206, whole[first : last + 1]
        return status, fields, body[: len(body) - min(fault.short_by, len(body))]


class WirePools(Pools):
    """The bulk path's connections, over the wire."""

    def __init__(self, wire: Wire, endpoint: Endpoint, settings: RegistrySettings) -> None:
        super().__init__(endpoint, settings)
        self._wire = wire
        self._read_seconds = settings.read_seconds

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body = None,
        timeout: urllib3.Timeout | None = None,
    ) -> urllib3.BaseHTTPResponse:
        fault, status, fields, answer = self._wire.ask(method, url, headers)
        if fault.stall_after == -1:
            self._stall()
        stream = _Stream(answer, fault, self._stall)
        return _Response(
            body=io.BufferedReader(stream),
            status=status,
            headers=fields,
            preload_content=False,
            decode_content=False,
            enforce_content_length=True,
            request_method=method,
        )

    def _stall(self) -> None:
        self._wire.pass_time(self._read_seconds)
        raise TimeoutError("timed out")


class _Response(urllib3.HTTPResponse):
    """One that nobody polls: it has no socket."""

    @property
    def closed(self) -> bool:
        return True


class _Stream(io.RawIOBase):
    """A body that comes as the network lets it."""

    def __init__(self, body: bytes, fault: Fault, stall: Callable[[], None]) -> None:
        super().__init__()
        self._body = body
        self._fault = fault
        self._stall = stall
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what it is given
        fault = self._fault
        limits = (fault.reset_after, fault.truncate_after, fault.stall_after)
        end = min([len(self._body), *(limit for limit in limits if limit is not None)])
        piece = self._body[self._position : min(end, self._position + len(buffer))]
        if not piece and end < len(self._body):
            if fault.reset_after == end:
                raise ConnectionResetError(104, "Connection reset by peer")
            if fault.stall_after == end:
                self._stall()
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


class WireTransport(httpx.AsyncBaseTransport):
    """The control path's connections, over the wire; on trio's clock."""

    def __init__(self, wire: Wire, settings: RegistrySettings) -> None:
        self._wire = wire
        self._read_seconds = settings.read_seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            fault, status, fields, body = self._wire.ask(
                request.method, str(request.url), request.headers
            )
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        if fault.stall_after == -1:
            await trio.sleep(self._read_seconds)
            raise httpx.ReadTimeout("timed out")
        if request.method == "HEAD":
            return httpx.Response(status, headers=fields, stream=_Pieces(b"", NO_FAULT, 0.0))
        return httpx.Response(
            status, headers=fields, stream=_Pieces(body, fault, self._read_seconds)
        )


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, body: bytes, fault: Fault, read_seconds: float) -> None:
        self._body = body
        self._fault = fault
        self._read_seconds = read_seconds
        self._is_over = False

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        self._is_over = True
        fault = self._fault
        limits = (fault.reset_after, fault.truncate_after, fault.stall_after)
        end = min([len(self._body), *(limit for limit in limits if limit is not None)])
        if end < len(self._body):
            if fault.stall_after == end:
                await trio.sleep(self._read_seconds)
                raise httpx.ReadTimeout("timed out")
            raise httpx.ReadError("reset") if fault.reset_after == end else _ended_early()
        return self._body

    async def aclose(self) -> None:
        """Nothing is open."""


def _ended_early() -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError("peer closed connection without sending complete message")
