"""The faults of a network over real sockets: what tests/fakes/wire.py has in memory.

with FaultyRegistry(tls) as registry:
    registry.plan = lambda method, path, number: Fault(reset_after=1000)
"""

import ssl
from collections import Counter
from collections.abc import Callable

from tests.fakes import registry
from tests.fakes.pushable import PushableRegistry
from tests.fakes.wire import NO_FAULT, Fault

_FLIPPED = bytes(octet ^ 1 for octet in range(256))


class FaultyRegistry(PushableRegistry):
    """A registry each of whose answers may fail.

    Attributes:
        plan: tells the fault of a request, by its method, path and number for that path from 0;
            faults below HTTP are brought about by `refuse` and `speak`.
        refusal: status and body that manifests are refused with; None for none.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self.plan: Callable[[str, str, int], Fault] = lambda *_: NO_FAULT
        self.refusal: tuple[int, bytes] | None = None
        self._asked: Counter[str] = Counter()

    def refuse(self) -> None:
        """Refuse connections from now on."""
        self.stop()

    def speak(self, tls: ssl.SSLContext) -> None:
        """Be restarted on the same port with another certificate."""
        self.stop()
        self._tls = tls
        self.start()

    def forget_asked(self) -> None:
        """Number requests from 0 again."""
        with self._lock:
            self._asked.clear()

    def size_of(self, path: str) -> int:
        """Return the size of the content at a path."""
        return len(self._content(path)[2])

    def _take_fault(self, method: str, path: str) -> registry.Fault:
        with self._lock:
            number = self._asked[path]
            self._asked[path] += 1
        if method == "PUT" and "/manifests/" in path and self.refusal is not None:
            return registry.Fault("", status=self.refusal[0], body=self.refusal[1])
        fault = self.plan(method, path, number)
        return registry.Fault(
            "",
            status=fault.status,
            headers=dict(fault.headers),
            truncate_after=fault.truncate_after
            if fault.reset_after is None
            else fault.reset_after,
            reset=fault.reset_after is not None,
            stall_after=fault.stall_after,
            ignore_range=fault.ignores_range,
            short_length=-1 if fault.short_by else None,
            replace=self._content(path)[2].translate(_FLIPPED) if fault.is_wrong else None,
        )
