"""A server that knows what it was asked."""

import re
import ssl
import threading

from tests.support.loopback import Exchange, LoopbackServer


class CountingServer(LoopbackServer):
    """A server that lists the requests it gets; `respond` is to `note` each.

    Attributes:
        requests: (method, path with query) of every request, in order.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()  # around all that is counted

    def note(self, exchange: Exchange) -> None:
        """List a request; the caller holds the lock."""
        self.requests.append((exchange.command, exchange.path))

    def count(self, method: str = "", path: str = "") -> int:
        """Return how many requests there were of a method, with a path that matches."""
        with self._lock:
            return sum(
                method in ("", found) and re.search(path, target) is not None
                for found, target in self.requests
            )

    def forget_requests(self) -> None:
        """Count from zero again."""
        with self._lock:
            self.requests.clear()
