"""The loop over requests, with a socket for the kernel."""

import errno
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from orasfs.fuse.device import server as module
from orasfs.fuse.device import signals, wire
from orasfs.fuse.device.channel import Channel
from orasfs.fuse.device.server import GRACE_SECONDS, SIGNAL_SECONDS, Server
from orasfs.fuse.device.session import make_server
from orasfs.fuse.device.wire import Opcode
from orasfs.fuse.notifier import SessionNotifier
from orasfs.vfs.operations import ROOT_INO, Entry, Fh, Ino
from tests.conftest import ExpectLog
from tests.fakes.operations import GIVEN, PLAIN, SLOW_LOOKUP_SECONDS, FakeOperations
from tests.support.fusemessages import init, message

PLAIN_INO, GIVEN_INO = Ino(2), Ino(5)


class Kernel:
    """The other end of the channel."""

    def __init__(self) -> None:
        ours, self._socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.channel = Channel(ours.detach())
        self.operations = FakeOperations()
        self.server: Server = make_server(self.channel, self.operations, SessionNotifier())
        self.stop = trio.Event()

    def ask(self, opcode: int, body: bytes = b"", *, ino: int = ROOT_INO, unique: int = 8) -> None:
        self._socket.send(message(opcode, body, ino=ino, unique=unique))

    def send(self, raw: bytes | memoryview) -> None:
        self._socket.send(raw)

    async def answers(self) -> list[tuple[int, int, bytes]]:
        """Return what has been answered: the errno, the request's number, the body."""
        await trio.testing.wait_all_tasks_blocked()
        found: list[tuple[int, int, bytes]] = []
        while True:
            try:
                raw = self._socket.recv(1 << 20)
            except BlockingIOError:
                return found
            length, number, unique = wire.OUT_HEADER.unpack_from(raw)
            assert length == len(raw)
            found.append((-number, unique, raw[wire.OUT_HEADER.size :]))

    def leave(self) -> None:
        self._socket.close()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve while the block runs; it must have ended the session."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.run, self.stop)
            yield


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    found = Kernel()
    yield found
    found.leave()
    found.channel.close()


def entry_ino(body: bytes) -> int:
    return int(wire.ENTRY_OUT.unpack_from(body)[0])


async def test_the_first_answer_agrees_on_what_is_used(kernel: Kernel) -> None:
    async with kernel.served():
        kernel.send(init())
        await kernel.server.initialized.wait()
        [(number, _, body)] = await kernel.answers()
        assert (number, wire.INIT_OUT.unpack(body)[:2]) == (0, (7, 45))
        kernel.leave()


async def test_requests_are_answered_by_their_numbers(kernel: Kernel) -> None:
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"plain\0", unique=2)
        kernel.ask(Opcode.STATFS, unique=4)
        kernel.ask(Opcode.LOOKUP, b"raise-NotFound\0", unique=6)
        found = {unique: (number, body) for number, unique, body in await kernel.answers()}
        assert (found[2][0], entry_ino(found[2][1])) == (0, PLAIN_INO)
        assert len(found[4][1]) == wire.STATFS_OUT.size
        assert found[6] == (errno.ENOENT, b"")
        kernel.leave()


async def test_what_is_at_hand_needs_no_task(kernel: Kernel) -> None:
    async with kernel.served():
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=PLAIN_INO)
        [(_, _, body)] = await kernel.answers()
        fh, _, _ = wire.OPEN_OUT.unpack(body)
        kernel.ask(Opcode.READ, wire.READ_IN.pack(fh, 2, 100, 0, 0, 0, 0))
        assert await kernel.answers() == [(0, 8, PLAIN[2:])]
        kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(fh, 0, 0, 0))
        assert await kernel.answers() == [(0, 8, b"")]
        assert not kernel.operations.open_handles
        kernel.leave()


async def test_a_small_file_is_given_before_its_open_is_answered_if_nobody_reads_it(
    kernel: Kernel,
) -> None:
    async with kernel.served():
        for unique in (2, 4):
            kernel.ask(
                Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=GIVEN_INO, unique=unique
            )
        given, *opened = await kernel.answers()
        head = wire.STORE_OUT.pack(GIVEN_INO, 0, len(GIVEN), 0)
        assert given == (-wire.Notification.STORE, 0, head + GIVEN)
        assert {unique for _, unique, _ in opened} == {2, 4}
        kernel.leave()


@pytest.fixture
async def opened(kernel: Kernel) -> AsyncIterator[int]:
    """The handle of a file that has been opened, while the kernel is served."""
    async with kernel.served():
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=PLAIN_INO)
        [(_, _, body)] = await kernel.answers()
        yield int(wire.OPEN_OUT.unpack(body)[0])
        kernel.leave()


async def test_who_waits_is_answered_before_a_close(kernel: Kernel, opened: int) -> None:
    kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(opened, 0, 0, 0), unique=2)
    kernel.ask(Opcode.STATFS, unique=4)
    kernel.ask(Opcode.READ, wire.READ_IN.pack(opened, 2, 100, 0, 0, 0, 0), unique=6)
    answers = [(number, unique) for number, unique, _ in await kernel.answers()]
    assert answers == [(0, 4), (0, 6), (0, 2)]
    assert not kernel.operations.open_handles


async def test_what_waits_or_changes_something_comes_after_the_closes_before_it(
    kernel: Kernel, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[Fh, Ino]] = []

    async def mkdir(*_: object) -> Entry:
        found.append(dict(kernel.operations.open_handles))
        return Entry(None, 0.0, 0.0)

    monkeypatch.setattr(kernel.operations, "mkdir", mkdir)
    kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(opened, 0, 0, 0), unique=2)
    kernel.ask(Opcode.MKDIR, wire.MKDIR_IN.pack(0o755, 0) + b"new\0", unique=4)
    assert [unique for _, unique, _ in await kernel.answers()] == [2, 4]
    assert found == [{}]


async def test_closes_are_not_put_off_for_ever(
    kernel: Kernel, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    released: list[Fh] = []
    monkeypatch.setattr(kernel.operations, "release", released.append)
    monkeypatch.setattr(kernel.operations, "backing_fd", lambda _fh: None)
    for number in range(3):
        kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(opened, 0, 0, 0), unique=2 + number)
    kernel.ask(Opcode.STATFS, unique=9)
    assert [unique for _, unique, _ in await kernel.answers()] == [2, 3, 4, 9]
    assert released == [opened] * 3


async def test_a_close_that_was_put_off_is_done_at_the_end(kernel: Kernel) -> None:
    async with kernel.served():
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=PLAIN_INO)
        [(_, _, body)] = await kernel.answers()
        fh, _, _ = wire.OPEN_OUT.unpack(body)
        kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(fh, 0, 0, 0))
        kernel.stop.set()
    assert not kernel.operations.open_handles


async def test_a_failing_close_is_eio_and_the_next_request_is_served(
    kernel: Kernel, opened: int, expect_log: ExpectLog
) -> None:
    kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(4711, 0, 0, 0), unique=2)
    kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(opened, 0, 0, 0), unique=4)
    answers = [(number, unique) for number, unique, _ in await kernel.answers()]
    assert answers == [(errno.EIO, 2), (0, 4)]
    expect_log(logging.ERROR, "^release failed")


async def test_the_file_that_is_likely_opened_next_is_given_after_an_open(kernel: Kernel) -> None:
    kernel.operations.followers = {PLAIN_INO: GIVEN_INO}
    async with kernel.served():
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=PLAIN_INO)
        opened, given = await kernel.answers()
        assert opened[:2] == (0, 8)
        head = wire.STORE_OUT.pack(GIVEN_INO, 0, len(GIVEN), 0)
        assert given == (-wire.Notification.STORE, 0, head + GIVEN)
        kernel.leave()


async def test_a_file_that_is_open_is_not_given_since_it_may_be_read(kernel: Kernel) -> None:
    kernel.operations.followers = {PLAIN_INO: GIVEN_INO}
    async with kernel.served():
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=GIVEN_INO)
        await kernel.answers()
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=PLAIN_INO, unique=2)
        assert [unique for _, unique, _ in await kernel.answers()] == [2]
        kernel.leave()


async def test_what_cannot_be_given_is_in_the_log_and_harms_nobody(
    kernel: Kernel, expect_log: ExpectLog
) -> None:
    kernel.operations.followers = {PLAIN_INO: Ino(4711)}
    async with kernel.served():
        kernel.ask(Opcode.OPEN, wire.OPEN_IN.pack(os.O_RDONLY, 0), ino=PLAIN_INO)
        assert [(n, unique) for n, unique, _ in await kernel.answers()] == [(0, 8)]
        kernel.leave()
    expect_log(logging.ERROR, "^after open failed")


@pytest.mark.parametrize(
    "opcode", [Opcode.FLUSH, Opcode.OPENDIR, Opcode.LSEEK, Opcode.FALLOCATE, 4711]
)
async def test_an_operation_that_is_not_offered_is_enosys(kernel: Kernel, opcode: int) -> None:
    async with kernel.served():
        kernel.ask(opcode, bytes(64))
        assert await kernel.answers() == [(errno.ENOSYS, 8, b"")]
        kernel.leave()


async def test_a_request_that_is_cut_off_is_refused_and_the_next_is_served(
    kernel: Kernel, expect_log: ExpectLog
) -> None:
    async with kernel.served():
        kernel.ask(Opcode.READ, bytes(10))
        kernel.send(b"nonsense")
        kernel.ask(Opcode.STATFS, unique=10)
        answers = await kernel.answers()
        assert [(number, unique) for number, unique, _ in answers] == [
            (errno.EINVAL, 8),
            (0, 10),
        ]
        kernel.leave()
    expect_log(logging.ERROR, "not understood: a request of 8 bytes")


async def test_a_bug_is_eio_with_a_traceback_and_the_next_request_is_served(
    kernel: Kernel, expect_log: ExpectLog
) -> None:
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"raise-bug\0")
        kernel.ask(Opcode.READ, wire.READ_IN.pack(99, 0, 1, 0, 0, 0, 0), unique=10)
        answers = await kernel.answers()
        assert sorted(answers) == [(errno.EIO, 8, b""), (errno.EIO, 10, b"")]
        kernel.leave()
    expect_log(logging.ERROR, "^read failed")
    expect_log(logging.ERROR, "^lookup failed")


async def test_references_are_given_back_by_forget(kernel: Kernel) -> None:
    async with kernel.served():
        for _ in range(3):
            kernel.ask(Opcode.LOOKUP, b"plain\0")
        await kernel.answers()
        assert kernel.operations.lookups[PLAIN_INO] == 3
        kernel.ask(Opcode.FORGET, wire.FORGET_IN.pack(1), ino=PLAIN_INO)
        batch = wire.BATCH_FORGET_IN.pack(1, 0) + wire.FORGET_ONE.pack(PLAIN_INO, 2)
        kernel.ask(Opcode.BATCH_FORGET, batch)
        assert await kernel.answers() == []
        assert kernel.operations.lookups[PLAIN_INO] == 0
        kernel.leave()


@pytest.mark.parametrize("opcode", [Opcode.LOOKUP, Opcode.OPEN])
async def test_what_nobody_takes_is_taken_back(
    kernel: Kernel, opcode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel.channel, "reply", lambda _unique, _body: False)
    body = b"plain\0" if opcode == Opcode.LOOKUP else wire.OPEN_IN.pack(0, 0)
    async with kernel.served():
        kernel.ask(opcode, body, ino=ROOT_INO if opcode == Opcode.LOOKUP else PLAIN_INO)
        await kernel.answers()
        assert kernel.operations.lookups.get(PLAIN_INO, 0) == 0
        assert not kernel.operations.open_handles
        kernel.leave()


async def interrupted(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, status: list[bool]
) -> list[tuple[int, int, bytes]]:
    """Interrupt a lookup that never ends; `status` is what looks at its thread tell, in turn."""

    def wants_to_end(thread: int) -> bool:
        assert thread == 77
        return status.pop(0)

    monkeypatch.setattr(signals, "wants_to_end", wants_to_end)
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"hang-lookup\0")
        assert await kernel.answers() == []
        kernel.ask(Opcode.INTERRUPT, wire.INTERRUPT_IN.pack(8), unique=9)
        await trio.sleep(4 * SIGNAL_SECONDS)
        answers = await kernel.answers()
        kernel.leave()
    return answers


async def test_a_thread_that_is_to_end_is_let_go(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    assert await interrupted(kernel, monkeypatch, [True]) == [(errno.EINTR, 8, b"")]


async def test_a_thread_that_was_disturbed_is_looked_at_again(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    found = await interrupted(kernel, monkeypatch, [False, False, True])
    assert found == [(errno.EINTR, 8, b"")]


async def test_a_thread_that_was_only_disturbed_gets_its_answer(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(signals, "wants_to_end", lambda _thread: False)
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"slow-lookup\0")
        kernel.ask(Opcode.INTERRUPT, wire.INTERRUPT_IN.pack(8), unique=9)
        await trio.sleep(2 * SLOW_LOOKUP_SECONDS)
        [(number, unique, _)] = await kernel.answers()
        assert (number, unique) == (0, 8)
        kernel.leave()


async def test_a_change_is_not_interrupted(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(signals, "wants_to_end", lambda _thread: True)

    async def mkdir(*_: object) -> Entry:
        await trio.sleep(1)
        return Entry(None, 0.0, 0.0)

    monkeypatch.setattr(kernel.operations, "mkdir", mkdir)
    async with kernel.served():
        kernel.ask(Opcode.MKDIR, wire.MKDIR_IN.pack(0o755, 0) + b"new\0")
        await kernel.answers()
        kernel.ask(Opcode.INTERRUPT, wire.INTERRUPT_IN.pack(8), unique=9)
        await trio.sleep(0.5)
        assert await kernel.answers() == []
        kernel.stop.set()
    [(number, _, _)] = await kernel.answers()
    assert number == 0


async def test_who_is_told_to_stop_lets_requests_under_way_end(
    kernel: Kernel, autojump_clock: trio.testing.MockClock
) -> None:
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"slow-lookup\0")
        await trio.testing.wait_all_tasks_blocked()
        kernel.stop.set()
    assert trio.current_time() == SLOW_LOOKUP_SECONDS
    [(number, _, _)] = await kernel.answers()
    assert number == 0


async def test_who_is_told_to_stop_waits_for_nothing_for_ever(
    kernel: Kernel, autojump_clock: trio.testing.MockClock, expect_log: ExpectLog
) -> None:
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"hang-lookup\0")
        await trio.testing.wait_all_tasks_blocked()
        kernel.stop.set()
    assert trio.current_time() == GRACE_SECONDS
    expect_log(logging.WARNING, "requests still under way are given up")


async def test_the_end_of_the_mount_ends_what_is_under_way(kernel: Kernel) -> None:
    async with kernel.served():
        kernel.ask(Opcode.LOOKUP, b"hang-lookup\0")
        await trio.testing.wait_all_tasks_blocked()
        kernel.leave()


async def test_many_requests_at_once_leave_others_their_turn(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    for number in range(7):
        kernel.ask(Opcode.STATFS, unique=number + 1)
    async with kernel.served():
        assert [unique for _, unique, _ in await kernel.answers()] == list(range(1, 8))
        kernel.leave()


def test_the_signals_that_end_are_those_of_a_terminal_and_of_a_service() -> None:
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= signals._ENDING
