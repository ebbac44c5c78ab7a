"""The link of the benchmark: what is shaped, what is counted, and that nothing is lost on it."""

import contextlib
import http.client
import json

import pytest
import trio
import trio.testing

from scripts.benchmarks.case import Better, Comparison, Gauge
from scripts.benchmarks.link import Link
from scripts.benchmarks.linkproxy import LinkProxy, Passed
from scripts.benchmarks.plot import Bar, bars
from scripts.benchmarks.processes import ProgramFailed
from scripts.benchmarks.runner import CaseResult, Ratio
from scripts.benchmarks.shaping import Line, Pipe, Shape
from tests.support.loopback import Exchange, LoopbackServer

MIB = 1024 * 1024


def carried(shape: Shape, size: int, lines: int = 1) -> float:
    """Return the seconds that so many bytes take, on each of so many lines that share a link."""
    pipe = Pipe(shape.bytes_per_second)
    each = [Line(shape, pipe) for _ in range(lines)]
    left = [size] * lines
    now = end = 0.0
    under_way: list[tuple[float, int, int]] = []
    while any(left) or under_way:
        for number, line in enumerate(each):
            while left[number] and (room := min(line.room(now), left[number])) > 0:
                _, arrived = line.send(now, room)
                under_way.append((arrived, number, room))
                left[number] -= room
        now += 0.001
        for arrived, number, count in [each for each in under_way if each[0] <= now]:
            each[number].deliver(arrived, count)
            end = max(end, arrived)
        under_way = [each for each in under_way if each[0] > now]
    return end


def test_a_line_passes_bytes_after_half_the_round_trip() -> None:
    assert carried(Shape(delay_seconds=0.1), 1000) == pytest.approx(0.05)


def test_a_link_has_its_bandwidth_however_many_share_it() -> None:
    shape = Shape(bytes_per_second=3e6)
    assert carried(shape, 3_000_000) == pytest.approx(1, rel=0.01)
    assert carried(shape, 1_000_000, lines=3) == pytest.approx(1, rel=0.01)


def test_several_connections_bring_more_than_one_where_each_has_a_limit() -> None:
    shape = Shape(0.1, 100e6, 10e6)
    alone = carried(shape, 20_000_000)
    together = carried(shape, 5_000_000, lines=4)
    assert alone > 2
    assert together < alone / 2


def test_a_connection_over_a_long_way_begins_slowly() -> None:
    shape = Shape(0.1, 100e6)
    assert carried(shape, 14_000) < 0.1, "the first window needs no answer"
    assert 0.3 < carried(shape, 150_000) < 0.6
    assert carried(shape, MIB) > 0.5


def test_a_shape_says_what_it_is() -> None:
    assert str(Shape(0.1, 100e6, 10e6)) == "100 ms, 100 MB/s, 10 MB/s a connection"
    assert Shape().is_open
    assert not Shape(delay_seconds=1).is_open


def test_requests_are_counted_by_their_lines() -> None:
    passed = Passed()
    passed.goes_up(b"HEAD /v2/a HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/b?n=1 HTTP/1.1\r\n\r\n")
    passed.goes_up(b"HTTP/1.1 is no request\r\n\r\n")
    passed.goes_down(b"answer")
    told = json.loads(passed.take())
    assert told["requests"] == ["HEAD /v2/a", "GET /v2/b?n=1"]
    assert told["bytes_down"] == 6
    assert json.loads(passed.take())["requests"] == []


async def test_a_connection_takes_a_round_trip_to_open_and_loses_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 4096

    async def upstream(
        host: str, port: int
    ) -> trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]:
        ours, theirs = trio.testing.memory_stream_pair()

        async def answer() -> None:
            while (await theirs.receive_some()) != b"!":
                pass
            await theirs.send_all(content)
            await theirs.send_eof()

        nursery.start_soon(answer)
        return ours

    monkeypatch.setattr(trio, "open_tcp_stream", upstream)
    proxy = LinkProxy(1, Shape(1.0, 1e6))
    client, server = trio.testing.memory_stream_pair()
    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.serve, server)
        await client.send_all(b"!")
        started = trio.current_time()
        got += await client.receive_some()
        assert trio.current_time() - started >= 2
        with contextlib.suppress(trio.BrokenResourceError):
            while piece := await client.receive_some():
                got += piece
        assert trio.current_time() - started >= 3, "a mebibyte at a megabyte a second"
        await client.aclose()
    assert got == content
    assert (proxy.passed.connections, proxy.passed.bytes_down) == (1, len(content))


class _Hello(LoopbackServer):
    def respond(self, exchange: Exchange) -> None:
        exchange.answer(200, {}, b"hello" * 100_000)


def test_the_process_counts_what_passes_and_ends_with_its_owner() -> None:
    with _Hello() as server:
        link = Link(server.port, Shape(0.01, 50e6))
        try:
            connection = http.client.HTTPConnection(link.host, timeout=20)
            connection.request("GET", "/v2/")
            assert connection.getresponse().read() == b"hello" * 100_000
            connection.close()
            traffic = link.take()
        finally:
            link.close()
        assert traffic.requests == ("GET /v2/",)
        assert traffic.connections == 1
        assert 500_000 < traffic.bytes_down < 501_000
        assert 0.4 < traffic.mebibytes < 0.6
        with pytest.raises(ProgramFailed, match="the link is down"):
            link.take()


def test_a_bar_says_how_much_of_its_target_is_used_up() -> None:
    ratios = (
        Ratio(Comparison("a", "b", Better.LOWER_TIME, 1.5), 3.0, 3.0),
        Ratio(Comparison("a", "c", Better.HIGHER_SPEED, 0.9), 1.8, 1.8),
        Ratio(Comparison("a", "d", Better.LOWER_TIME), 1.0, 1.0),
    )
    gauges = (Gauge("memory", 75, "MiB", 150), Gauge("connections", 3, ""))
    result = CaseResult("case", "title", 1, "MiB", (), ratios, gauges)
    assert bars([result]) == [
        Bar("case: a / b", 2.0),
        Bar("case: a / c", 0.5),
        Bar("case: memory", 0.5),
    ]
