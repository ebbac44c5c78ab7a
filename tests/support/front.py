"""A counting reverse proxy before a real registry, which answers some paths itself.

with Front(registry.port) as front:
    front.override(r"^/v2/_catalog", status=401)
    front.override(r"/tags/list", body=b'{"name": "x", "tags": []}')
    mount(front.host)
    assert front.count("HEAD", r"/manifests/") == 0
"""

import http.client
import re
from dataclasses import dataclass, field

from tests.support.counting import CountingServer
from tests.support.loopback import Exchange

_PIECE_BYTES = 256 * 1024
_UPSTREAM_SECONDS = 60
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})


@dataclass(frozen=True)
class Override:
    """An answer given instead of the registry's, to requests whose path matches."""

    path: str
    method: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Front(CountingServer):
    """Forwards to 127.0.0.1:`upstream_port`.

    Attributes:
        bytes_sent: bodies of answers, in bytes.
        bytes_received: bodies of requests, in bytes.
    """

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self.upstream_port = upstream_port
        self.bytes_sent = 0
        self.bytes_received = 0
        self._overrides: list[Override] = []

    def override(
        self,
        path: str,
        *,
        method: str = "",
        status: int = 200,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Override:
        """Answer requests whose path and query match the regular expression; the latest wins."""
        rule = Override(path, method, status, headers or {}, body)
        with self._lock:
            self._overrides.insert(0, rule)
        return rule

    def clear(self) -> None:
        """Forget all overrides."""
        with self._lock:
            self._overrides.clear()

    def forget_requests(self) -> None:
        """Count from zero again."""
        super().forget_requests()
        with self._lock:
            self.bytes_sent = 0
            self.bytes_received = 0

    def respond(self, exchange: Exchange) -> None:
        """Answer by an override or by the registry."""
        with self._lock:
            self.note(exchange)
            rules = list(self._overrides)
        for rule in rules:
            if rule.method in ("", exchange.command) and re.search(rule.path, exchange.path):
                headers = {"Content-Type": "application/json"} | rule.headers
                exchange.read_body()  # or it would be taken for the next request
                exchange.answer(rule.status, headers, rule.body)
                return
        self._forward(exchange)

    def _forward(self, exchange: Exchange) -> None:
        body = exchange.read_body()
        with self._lock:
            self.bytes_received += len(body)
        headers = {
            # Joined: docker-registry asks with one Accept header for each type.
            name: ", ".join(exchange.headers.get_all(name, []))
            for name in exchange.headers
            if name.lower() not in _HOP_BY_HOP
        }
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self.upstream_port, timeout=_UPSTREAM_SECONDS
        )
        try:
            upstream.request(exchange.command, exchange.path, body or None, headers)
            response = upstream.getresponse()
        except OSError:
            upstream.close()
            exchange.answer(502, {"Content-Type": "text/plain"}, b"the registry is away")
            return
        try:
            self._relay(exchange, response)
        finally:
            upstream.close()

    def _relay(self, exchange: Exchange, response: http.client.HTTPResponse) -> None:
        fields = {
            name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP
        }
        if response.chunked or "Content-Length" not in fields:
            # A body of unknown length ends with the connection.
            fields["Connection"] = "close"
            exchange.close_connection = True
        exchange.send_head(response.status, fields)
        if exchange.command == "HEAD":
            return
        while piece := response.read1(_PIECE_BYTES):
            with self._lock:  # before: who has read the piece may look at the count
                self.bytes_sent += len(piece)
            exchange.wfile.write(piece)
