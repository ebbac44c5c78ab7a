"""A front before a real registry that fails, from one request of a repository on, in a given way.

It stays so until it is healed: a client that tries again must meet the fault again.
"""

import re
import threading
from collections import Counter
from dataclasses import dataclass

from tests.support.front import Front
from tests.support.loopback import Exchange

KINDS = ("reset", "401", "429", "500", "503")
STALLED = "stalled"
_REPOSITORY = re.compile(r"/v2/(?P<name>.+)/(?:blobs|manifests|tags|referrers)/")
_DIGEST = re.compile(r"digest=(?P<digest>[^&]+)")


@dataclass(frozen=True)
class Fault:
    """From which request of a repository on, counted from zero, and what happens to it."""

    first: int
    kind: str


class FailingFront(Front):
    """Forwards, but for repositories that have a fault.

    Attributes:
        faults: by the name of the repository.
        counts: requests of each repository.
        uploads: how often each blob was brought to the registry, by repository and digest.
    """

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self.faults: dict[str, Fault] = {}
        self.counts: Counter[str] = Counter()
        self.uploads: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()

    def heal(self) -> None:
        """Fail no more."""
        self.faults = {}

    def respond(self, exchange: Exchange) -> None:
        """Fail or forward."""
        found = _REPOSITORY.match(exchange.path)
        if found is None:
            super().respond(exchange)
            return
        name = found["name"]
        with self._counting:
            number = self.counts[name]
            self.counts[name] += 1
        fault = self.faults.get(name)
        if fault is not None and number >= fault.first:
            self._fail(exchange, fault.kind)
            return
        digest = _DIGEST.search(exchange.path)
        if exchange.command == "PUT" and digest is not None:
            with self._counting:
                self.uploads[name, digest["digest"]] += 1
        super().respond(exchange)

    def _fail(self, exchange: Exchange, kind: str) -> None:
        length = exchange.body_length
        if kind == STALLED:
            exchange.close_connection = True
            self.stopping.wait()
        elif kind == "reset":
            exchange.read_body(1024 if length is None else length // 2)
            exchange.hang_up(reset=True)
        else:
            exchange.read_body()
            headers = {"Content-Type": "application/json", "Retry-After": "1"}
            exchange.answer(int(kind), headers, b'{"errors": []}')


class RefusingFront(Front):
    """Forwards so many requests, and then nothing listens any more until it is started again.

    Attributes:
        number: requests since `refuse_from` was said.
    """

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self.number = 0
        self._first: int | None = None
        self._counting = threading.Lock()

    def refuse_from(self, first: int | None) -> None:
        """Say which request is the first that is refused, counted from zero; None is none."""
        self.number, self._first = 0, first
        if first == 0:
            self.stop()

    def respond(self, exchange: Exchange) -> None:
        """Forward, and after the last one stop listening."""
        with self._counting:
            self.number += 1
            is_last = self.number == self._first
        super().respond(exchange)
        if is_last:
            exchange.wfile.flush()
            self.stop()
