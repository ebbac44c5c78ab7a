"""A proxy that tunnels by CONNECT, to whom it knows; all hosts are 127.0.0.1."""

import base64
import select
import socket

from tests.support.loopback import Exchange, LoopbackServer

_PIECE_BYTES = 64 * 1024


class ConnectProxy(LoopbackServer):
    """Tunnels to one port of this machine, whatever host is asked for.

    Attributes:
        targets: `HOST:PORT` of each CONNECT that was let through.
        refusals: how many were not.
    """

    def __init__(self, upstream_port: int, user: str, password: str) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._expected = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self.targets: list[str] = []
        self.refusals = 0

    def respond(self, exchange: Exchange) -> None:
        """Tunnel, or refuse."""
        given = exchange.headers.get("Proxy-Authorization", "")
        if exchange.command != "CONNECT" or given != self._expected:
            self.refusals += 1
            exchange.answer(407, {"Proxy-Authenticate": 'Basic realm="proxy"'})
            return
        self.targets.append(exchange.path)
        exchange.close_connection = True
        with socket.create_connection(("127.0.0.1", self._upstream_port)) as upstream:
            exchange.send_head(200, {})
            exchange.wfile.flush()
            self._pump(exchange.connection, upstream)

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([one, other], [], [])
            for source in ready:
                piece = source.recv(_PIECE_BYTES)
                if not piece:
                    return
                (other if source is one else one).sendall(piece)
