"""Answers the kernel until there is nobody left to answer.

Owns the loop over requests, who waits for what, interrupts, and the one place of this transport
that catches everything.

INVARIANT: each request is answered exactly once, or the connection has ended. Failures of handlers
end no loop.
INVARIANT: requests are begun in the order in which the kernel sent them; but those for which
nobody waits (a close) may begin after others, which they are done before if those wait or change
anything.
"""

import errno
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from orasfs.errors import InvalidInput, MountFailed
from orasfs.fuse.answers import errno_for
from orasfs.fuse.device import parsing, signals
from orasfs.fuse.device.channel import Channel, SessionEnded
from orasfs.fuse.device.handlers import Answer, ReadHandlers
from orasfs.fuse.device.negotiation import Agreement, negotiate
from orasfs.fuse.device.parsing import Body
from orasfs.fuse.device.requests import Header
from orasfs.fuse.device.routes import Late, Route, Waiting
from orasfs.fuse.device.wire import Opcode

logger = logging.getLogger(__name__)

GRACE_SECONDS = 3.0  # what requests under way get to end by themselves when we stop
BATCH = 64  # requests that are begun before others get a turn
SIGNAL_SECONDS = 0.25  # between two looks at a thread that was disturbed, and not told to end


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A request that may be interrupted."""

    scope: trio.CancelScope
    thread: int


class Server:
    """Serves one mount.

    Args:
        channel: to the kernel.
        handlers: forget what the kernel forgets.
        routes: answer everything else.
        wants_passthrough: whether to ask the kernel for it.

    Attributes:
        initialized: set once the kernel's first request has been answered.
    """

    def __init__(
        self,
        channel: Channel,
        handlers: ReadHandlers,
        routes: Mapping[int, Route],
        *,
        wants_passthrough: bool,
    ) -> None:
        self._channel = channel
        self._handlers = handlers
        self._routes = routes
        self._wants_passthrough = wants_passthrough
        self._waiters: dict[int, _Waiter] = {}
        self._spare: deque[Callable[[], None]] = deque()
        self._under_way = 0
        self._idle = trio.Event()
        self.agreement: Agreement | None = None
        self.initialized = trio.Event()

    async def run(self, stop: trio.Event) -> None:
        """Answer until the mount is gone, or `stop` is set and what is under way has ended."""
        async with trio.open_nursery() as nursery:
            try:
                async with trio.open_nursery() as reading:
                    reading.start_soon(self._cancel_on, stop, reading.cancel_scope)
                    await self._read(nursery)
            except* SessionEnded as ended:
                self._catch_up()
                logger.info("the kernel has ended the session: %s", ended.exceptions[0])
            else:
                self._catch_up()
                await self._let_end()
            nursery.cancel_scope.cancel()

    @staticmethod
    async def _cancel_on(stop: trio.Event, scope: trio.CancelScope) -> None:
        await stop.wait()
        scope.cancel()

    async def _let_end(self) -> None:
        """Wait for the requests under way, but not for ever."""
        if self._under_way:
            self._idle = trio.Event()
            with trio.move_on_after(GRACE_SECONDS):
                await self._idle.wait()
                return
            logger.warning("requests still under way are given up after_seconds=%s", GRACE_SECONDS)

    async def _read(self, nursery: trio.Nursery) -> None:
        while True:
            if self._spare:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._channel.fd)
            for _ in range(BATCH):
                message = self._channel.receive()
                if message is not None:
                    self._begin(message, nursery)
                    if len(self._spare) > BATCH:
                        self._catch_up()
                elif self._spare:
                    self._spare.popleft()()
                else:
                    break

    def _catch_up(self) -> None:
        """Do all that has been put off."""
        while self._spare:
            self._spare.popleft()()

    def _begin(self, message: memoryview, nursery: trio.Nursery) -> None:
        """Answer a request, or leave it to a task of its own."""
        try:
            header, body = parsing.split(message)
        except InvalidInput as error:
            logger.error("not understood: %s", error)  # noqa: TRY400 - in short
            return
        try:
            route = self._routes.get(header.opcode)
            if route is None:
                self._answer_other(header, body, nursery)
                return
            answer = route(header, body)
            if isinstance(answer, Answer):
                self._answer(header, answer)
            elif isinstance(answer, Late):
                self._spare.append(partial(self._finish_late, header, answer))
            else:
                self._catch_up()
                self._under_way += 1
                nursery.start_soon(self._finish, header, answer)
        except MountFailed:
            raise
        except Exception as error:  # noqa: BLE001 - logged, and told to who waits
            self._fail(header, error)

    def _finish_late(self, header: Header, late: Late) -> None:
        """Answer a request that nobody waits for."""
        try:
            self._answer(header, late.work())
        except Exception as error:  # noqa: BLE001 - logged
            self._fail(header, error)

    def _fail(self, header: Header, error: Exception) -> None:
        """Answer with an errno for what is being handled."""
        number = errno_for(error, _name_of(header.opcode), (header.ino,))
        self._channel.fail(header.unique, number)

    async def _finish(self, header: Header, waiting: Waiting) -> None:
        """Answer a request that waits; with EINTR if it is interrupted."""
        with trio.CancelScope() as scope:
            if waiting.may_interrupt:
                self._waiters[header.unique] = _Waiter(scope, header.pid)
            try:
                self._answer(header, await waiting.work())
                self._catch_up()
            except Exception as error:  # noqa: BLE001 - logged, and told to who waits
                self._fail(header, error)
            finally:
                self._waiters.pop(header.unique, None)
                self._under_way -= 1
                if not self._under_way:
                    self._idle.set()
        if scope.cancelled_caught:
            self._channel.fail(header.unique, errno.EINTR)

    def _answer(self, header: Header, answer: Answer) -> None:
        is_taken = self._channel.reply(header.unique, answer.body)
        if not is_taken and answer.take_back is not None:
            answer.take_back()
        elif answer.later is not None:
            self._spare.append(partial(self._do_later, header, answer.later))

    @staticmethod
    def _do_later(header: Header, work: Callable[[], None]) -> None:
        """Do what may be of use; what goes wrong is in the log, and nothing else."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - logged
            errno_for(error, f"after {_name_of(header.opcode)}", (header.ino,))

    def _answer_other(self, header: Header, body: Body, nursery: trio.Nursery) -> None:
        """Do what is about the session itself, or the kernel wants no answer to."""
        match header.opcode:
            case Opcode.FORGET:
                self._handlers.forget(parsing.parse_forget(header, body))
            case Opcode.BATCH_FORGET:
                self._handlers.forget(parsing.parse_batch_forget(header, body))
            case Opcode.INTERRUPT:
                self._interrupt(parsing.parse_interrupt(header, body), nursery)
            case Opcode.INIT:
                self._initialize(header, body)
            case Opcode.DESTROY:
                self._answer(header, Answer())
            case _:
                self._channel.fail(header.unique, errno.ENOSYS)

    def _initialize(self, header: Header, body: Body) -> None:
        request = parsing.parse_init(header, body)
        self.agreement = negotiate(request, wants_passthrough=self._wants_passthrough)
        self._answer(header, Answer(self.agreement.reply))
        self.initialized.set()

    def _interrupt(self, unique: int, nursery: trio.Nursery) -> None:
        """End a request whose thread is to end; one that is answered already needs nothing."""
        waiter = self._waiters.get(unique)
        if waiter is not None:
            nursery.start_soon(self._watch, unique, waiter)

    async def _watch(self, unique: int, waiter: _Waiter) -> None:
        """Wait until a thread that was disturbed is told to end; the kernel says that but once."""
        while self._waiters.get(unique) is waiter:
            if not waiter.thread or signals.wants_to_end(waiter.thread):
                waiter.scope.cancel()
                return
            await trio.sleep(SIGNAL_SECONDS)


def _name_of(opcode: int) -> str:
    try:
        return Opcode(opcode).name.lower()
    except ValueError:
        return f"operation {opcode}"
