"""A link between the registry and whoever reads: shaped, and counted.

Owns the proxy's process (`scripts.benchmarks.linkproxy`), which is another one than that which
measures, so that neither waits for the other.
"""

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.processes import ProgramFailed
from scripts.benchmarks.shaping import Shape

_ROOT = Path(__file__).resolve().parent.parent.parent
_ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has passed a link: connections, bytes each way with headers, and requests' lines."""

    connections: int
    bytes_up: int
    bytes_down: int
    requests: tuple[str, ...]

    @property
    def mebibytes(self) -> float:
        """What came from the registry."""
        return self.bytes_down / 2**20


class Link:
    """A way to the registry at 127.0.0.1:`upstream_port`; `host` is its near end."""

    def __init__(self, upstream_port: int, shape: Shape) -> None:
        numbers = (
            upstream_port,
            shape.delay_seconds,
            shape.bytes_per_second,
            shape.connection_bytes_per_second,
        )
        self.shape = shape
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.linkproxy", *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            start_new_session=True,
            bufsize=0,
        )
        self.host = f"127.0.0.1:{self._answer()}"

    def take(self) -> Traffic:
        """Return what has passed since the last time."""
        if self._process.stdin is None or self._process.poll() is not None:
            raise ProgramFailed("the link is down")
        self._process.stdin.write(b"?")
        found = json.loads(self._answer())
        requests = tuple(found.pop("requests"))
        return Traffic(**found, requests=requests)

    def close(self) -> None:
        """End it. Harmless twice."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> str:
        """Read a line.

        Raises:
            ProgramFailed: none came in time, or it has ended.
        """
        out = self._process.stdout
        words = b""
        while out is not None and not words.endswith(b"\n"):
            is_there, _, _ = select.select([out], [], [], _ANSWER_SECONDS)
            piece = out.read(65536) if is_there else b""
            if not piece:
                break
            words += piece
        if not words.endswith(b"\n"):
            self.close()
            raise ProgramFailed("the link does not answer")
        return words.decode().strip()
