"""A registry that is left alone: a commit waits for it to be asked, and no longer."""

import pytest
import trio
from trio.testing import MockClock

from orasfs.errors import ConnectionRefused, TimedOut, Unreachable
from orasfs.staging.insisting import INSIST_SECONDS, insist


class Work:
    """Fails as told, then is done."""

    def __init__(self, *failures: Unreachable) -> None:
        self.failures = list(failures)
        self.times = 0

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        self.times += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def left_alone(seconds: float) -> ConnectionRefused:
    error = ConnectionRefused("not asked again yet")
    error.left_alone_seconds = seconds
    return error


async def test_who_is_left_alone_is_asked_again_in_time(autojump_clock: MockClock) -> None:
    work = Work(left_alone(15.0), left_alone(0.05))
    assert await insist(work) == "done"
    assert work.times == 3
    assert trio.current_time() == pytest.approx(15.05, abs=0.01)


async def test_who_was_asked_and_does_not_answer_is_not_asked_again(
    autojump_clock: MockClock,
) -> None:
    work = Work(left_alone(1.0), TimedOut("no answer in time"))
    with pytest.raises(TimedOut):
        await insist(work)
    assert work.times == 2


async def test_nobody_waits_for_ever(autojump_clock: MockClock) -> None:
    work = Work(*[left_alone(15.0) for _ in range(10)])
    with pytest.raises(ConnectionRefused):
        await insist(work)
    assert trio.current_time() <= INSIST_SECONDS + 0.01
    assert work.times == 3
