"""A TCP proxy that is a link of a given shape, in a process of its own.

Run as a module: `linkproxy UPSTREAM_PORT DELAY RATE CONNECTION_RATE`, in seconds and in bytes a
second. Its first line of output is its port. Each byte that it is given is answered with a line of
JSON, with what has passed since the last one. It ends with its input, and so with whoever started
it.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from scripts.benchmarks.shaping import Line, Pipe, Shape

_REQUEST = re.compile(rb"(?:^|\r\n\r\n)([A-Z]+ [^ \r\n]+) HTTP/1\.")
_OPEN_PIECE_BYTES = 1024 * 1024
_QUEUED_PIECES = 1024
_BACKLOG = 128
# How long before its turn a piece may be taken: a loop that wakes up late must not idle the link.
_AHEAD_SECONDS = 0.01


@dataclass(slots=True)
class Passed:
    """What has passed: `bytes_down` went to the client, headers included."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    requests: list[str] = field(default_factory=list)

    def take(self) -> str:
        """Return it as a line of JSON, and begin anew."""
        names = ("connections", "bytes_up", "bytes_down", "requests")
        words = json.dumps({name: getattr(self, name) for name in names})
        self.connections = self.bytes_up = self.bytes_down = 0
        self.requests = []
        return words

    def goes_up(self, piece: bytes | bytearray) -> None:
        """Count what a client sends."""
        self.bytes_up += len(piece)
        self.requests += [found.decode(errors="replace") for found in _REQUEST.findall(piece)]

    def goes_down(self, piece: bytes | bytearray) -> None:
        """Count what a client gets."""
        self.bytes_down += len(piece)


class LinkProxy:
    """Forwards each connection to a loopback port over a link of that shape."""

    def __init__(self, upstream_port: int, shape: Shape) -> None:
        self._upstream_port = upstream_port
        self._shape = shape
        self._up = Pipe(shape.bytes_per_second)
        self._down = Pipe(shape.bytes_per_second)
        self.passed = Passed()

    async def serve(self, client: trio.abc.Stream) -> None:
        """Carry one connection until both sides have ended it."""
        self.passed.connections += 1
        try:
            await trio.sleep(self._shape.delay_seconds)  # the handshake
            upstream = await trio.open_tcp_stream("127.0.0.1", self._upstream_port)
            async with client, upstream, trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, client, upstream, self._up, self.passed.goes_up)
                await self._carry(upstream, client, self._down, self.passed.goes_down)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # who hangs up, hangs up; the other side is closed

    async def _carry(
        self,
        source: trio.abc.ReceiveStream,
        sink: trio.abc.SendStream,
        pipe: Pipe,
        count: Callable[[bytes | bytearray], None],
    ) -> None:
        """Carry one direction of a connection to its end."""
        if self._shape.is_open:
            while piece := await source.receive_some(_OPEN_PIECE_BYTES):
                count(piece)
                await sink.send_all(piece)
            return
        line = Line(self._shape, pipe)
        send, receive = trio.open_memory_channel[tuple[float, bytes | bytearray]](_QUEUED_PIECES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_deliver, receive, sink, line)
            async with send:
                while piece := await self._take(source, line):
                    count(piece)
                    left, arrived = line.send(trio.current_time(), len(piece))
                    await send.send((arrived, piece))
                    if left - trio.current_time() > _AHEAD_SECONDS:
                        await trio.sleep_until(left - _AHEAD_SECONDS)

    async def _take(self, source: trio.abc.ReceiveStream, line: Line) -> bytes | bytearray:
        """Take what there is, once there is room for some of it."""
        while (room := line.room(trio.current_time())) <= 0:  # noqa: ASYNC110 - time is the event
            await trio.sleep(max(0.0, line.wait_seconds(trio.current_time())))
        return await source.receive_some(room)


async def _deliver(
    receive: trio.MemoryReceiveChannel[tuple[float, bytes | bytearray]],
    sink: trio.abc.SendStream,
    line: Line,
) -> None:
    async with receive:
        async for arrived, piece in receive:
            await trio.sleep_until(arrived)
            await sink.send_all(piece)
            line.deliver(trio.current_time(), len(piece))


async def main(upstream_port: int, shape: Shape) -> None:
    proxy = LinkProxy(upstream_port, shape)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=_BACKLOG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        print(listener.socket.getsockname()[1], flush=True)
        standard_input = trio.lowlevel.FdStream(0)
        while await standard_input.receive_some(1):  # one byte is one question
            print(proxy.passed.take(), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), Shape(*map(float, sys.argv[2:5])))
