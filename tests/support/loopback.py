"""An HTTP server on loopback in plain threads: the base of the fake registry and of the front.

Usable from any test, trio or not. Stopping it ends open connections too, as a process that dies
does, and starting it again takes the same port.
"""

import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

STOP_SECONDS = 10


class Exchange(http.server.BaseHTTPRequestHandler):
    """One connection; `do_…` hand each request to the server's `respond`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        """Send a whole answer; a body to HEAD is measured and not sent."""
        fields = {"Content-Length": str(len(body))} | (headers or {})
        self.send_head(status, fields)
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and headers only."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    @property
    def body_length(self) -> int | None:
        """The number of bytes of the request's body; None if it comes as a stream of chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return None
        return int(self.headers.get("Content-Length", "0"))

    def read_body(self, most: int | None = None) -> bytes:
        """Read the request's body, or the first bytes of it."""
        length = self.body_length
        if length is not None:
            return self.rfile.read(length if most is None else min(length, most))
        body = b""
        while most is None or len(body) < most:
            size = int(self.rfile.readline().partition(b";")[0] or b"0", 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return body[:most]

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection after this answer; by RST instead of FIN if asked."""
        self.wfile.flush()
        self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.server.resets.add(id(self.request))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def _respond(self) -> None:
        self.server.respond(self)

    do_CONNECT = do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _respond  # noqa: N815 - its names


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, respond: Callable[[Exchange], None]) -> None:
        self.respond = respond
        self.connections: dict[int, socket.socket] = {}
        self.resets: set[int] = set()
        self.accepted = 0
        self.errors: list[BaseException] = []
        self.tls: ssl.SSLContext | None = None
        super().__init__(("127.0.0.1", port), Exchange)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            # The handshake happens at the first read, in the connection's own thread.
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self.connections[id(connection)] = connection
        self.accepted += 1
        return connection, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base's signature
        self.connections.pop(id(request), None)
        if id(request) in self.resets:
            self.resets.discard(id(request))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep what went wrong in a handler; clients may hang up as they like."""
        import sys  # noqa: PLC0415 - used for this one call

        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


class LoopbackServer:
    """Serves `respond` on a port of 127.0.0.1; a context manager.

    Leaving it raises what went wrong in a handler, if anything did.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()

    @property
    def host(self) -> str:
        """`HOST:PORT`, as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections_made(self) -> int:
        """How many connections there were since it was started."""
        return self._server.accepted if self._server is not None else 0

    def respond(self, exchange: Exchange) -> None:
        """Answer one request."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; the second time on the same port as the first."""
        self.stopping.clear()
        server = _Server(self.port, self.respond)
        server.tls = self._tls
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end all connections. Harmless twice."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        self.stopping.set()
        server.shutdown()
        server.server_close()
        for connection in list(server.connections.values()):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._thread.join(STOP_SECONDS)
        if server.errors:
            raise server.errors[0]
