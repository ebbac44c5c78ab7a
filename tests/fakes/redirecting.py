"""A registry that keeps its blobs elsewhere: it signs addresses of another port, for a while.

with SigningStorage(seconds=2) as storage, RedirectingRegistry(storage, users={…}) as registry:
    …
    assert storage.secrets_seen == []
"""

import itertools
import threading
import time
from urllib.parse import parse_qs, urlsplit

from tests.fakes.guarded import GuardedRegistry
from tests.fakes.registry import cut
from tests.support.loopback import Exchange, LoopbackServer

# What object storage has a use for; all else that a client sends may be a secret.
_HARMLESS = {"host", "user-agent", "accept", "accept-encoding", "range", "connection"}
SIGNATURE = "c2lnbmF0dXJl-5b1d"


class SigningStorage(LoopbackServer):
    """Serves blobs to signed addresses, slowly, and hangs up when the address expires.

    Attributes:
        seconds: for which an address holds.
        rate: bytes a second, of each answer; 0 is no limit.
        served: ranges that were answered.
        refused: requests that came too late, or without a signature.
        secrets_seen: headers that should not have come here.
    """

    def __init__(self, *, seconds: float, rate: int = 0, status: int = 403) -> None:
        super().__init__()
        self.seconds = seconds
        self.rate = rate
        self.status = status
        self.served: list[str] = []
        self.refused = 0
        self.secrets_seen: list[str] = []
        self._blobs: dict[str, bytes] = {}
        self._ends: dict[str, float] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def sign(self, digest: str, content: bytes) -> str:
        """Return an address of a blob that holds from now on for `seconds`."""
        signature = f"{SIGNATURE}-{next(self._numbers)}"
        with self._lock:
            self._blobs[digest] = content
            self._ends[signature] = time.monotonic() + self.seconds
        return f"http://{self.host}/bucket/{digest}?X-Signature={signature}"

    def respond(self, exchange: Exchange) -> None:
        """Serve a blob as long as its address holds."""
        parts = urlsplit(exchange.path)
        signature = parse_qs(parts.query).get("X-Signature", [""])[0]
        strangers = [name for name in exchange.headers if name.lower() not in _HARMLESS]
        with self._lock:
            self.secrets_seen += strangers
            end = self._ends.get(signature, 0.0)
        if time.monotonic() >= end:
            self.refused += 1
            exchange.answer(self.status, {}, b"<Error><Code>AccessDenied</Code></Error>")
            return
        wanted = exchange.headers.get("Range", "")
        status, headers, body = cut(200, {}, self._blobs[parts.path.split("/")[-1]], wanted)
        self.served.append(wanted)
        exchange.send_head(status, headers | {"Content-Length": str(len(body))})
        self._pour(exchange, body, end)

    def _pour(self, exchange: Exchange, body: bytes, end: float) -> None:
        """Send as fast as allowed; the end of the address is the end of the connection."""
        piece = max(self.rate // 20, 1) if self.rate else len(body)
        for start in range(0, len(body), piece):
            if time.monotonic() >= end:
                exchange.hang_up()
                return
            exchange.wfile.write(body[start : start + piece])
            if self.rate:
                self.stopping.wait(1 / 20)


class RedirectingRegistry(GuardedRegistry):
    """Wants Basic, and redirects each request for a blob to a newly signed address."""

    def __init__(self, storage: SigningStorage, users: dict[str, str]) -> None:
        super().__init__(users=users)
        self.storage = storage

    def _blob(self, name: str, digest: str) -> tuple[int, dict[str, str], bytes]:
        status, headers, content = super()._blob(name, digest)
        if status != 200:
            return status, headers, content
        return 307, {"Location": self.storage.sign(digest, content)}, b""
