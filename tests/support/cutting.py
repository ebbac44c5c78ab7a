"""A TCP proxy that cuts a connection after so many bytes from the client: a network that fails.

with CuttingProxy(registry.port) as proxy:
    proxy.cut_after(1_000_000)
    client(proxy.host)
"""

import socket
import struct
import threading
from types import TracebackType
from typing import Self

_PIECE_BYTES = 64 * 1024
_JOIN_SECONDS = 10


class CuttingProxy:
    """Forwards to 127.0.0.1:`upstream_port`; resets connections that carry too much.

    Attributes:
        cuts: connections that were cut.
        sent_bytes: what clients sent that was forwarded.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._budgets: list[int] = []
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.cuts = 0
        self.sent_bytes = 0

    @property
    def host(self) -> str:
        """`HOST:PORT`."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, *budgets: int) -> None:
        """Cut as many connections, each once it has carried so many bytes from the client."""
        with self._lock:
            self._budgets += budgets

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            _shut(one)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        for one in self._sockets:
            one.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]  # callables of this class
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self._upstream_port))
            self._sockets += [client, upstream]
            self._start(self._forward, client, upstream)
            self._start(self._return, upstream, client)

    def _forward(self, client: socket.socket, upstream: socket.socket) -> None:
        carried = 0
        try:
            while piece := client.recv(_PIECE_BYTES):
                carried += len(piece)
                upstream.sendall(piece)
                with self._lock:
                    self.sent_bytes += len(piece)
                    is_over = bool(self._budgets) and carried > self._budgets[0]
                    if is_over:
                        del self._budgets[0]
                        self.cuts += 1
                if is_over:
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    _shut(upstream)
                    # Closed, not shut: after a FIN a client that sends would never notice.
                    client.close()
                    return
        except OSError:
            pass
        _shut(upstream)

    def _return(self, upstream: socket.socket, client: socket.socket) -> None:
        try:
            while piece := upstream.recv(_PIECE_BYTES):
                client.sendall(piece)
        except OSError:
            pass
        _shut(client)


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
