import pytest
import trio
from trio.testing import MockClock

from orasfs.aio import telling
from orasfs.errors import NotFound, TimedOut
from orasfs.vfs.waiting import Patience


async def test_work_that_takes_longer_goes_on_for_the_next_try(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    patience = Patience(nursery, 10.0)
    runs = []

    async def work() -> str:
        runs.append(1)
        await trio.sleep(15)
        return "done"

    with pytest.raises(TimedOut, match="10 s"):
        await patience.shared("key", work)
    assert await patience.shared("key", work) == "done"
    assert len(runs) == 1


async def test_a_failure_is_raised_to_everyone_who_waits(nursery: trio.Nursery) -> None:
    patience = Patience(nursery, 10.0)

    async def work() -> str:
        await trio.lowlevel.checkpoint()
        raise NotFound("nothing")

    for _ in range(2):
        with pytest.raises(NotFound, match="nothing"):
            await patience.shared("key", work)


async def test_what_nobody_waits_for_any_more_is_abandoned(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    patience = Patience(nursery, 10.0)
    abandoned: list[str] = []

    async def work(seconds: float) -> str:
        await trio.sleep(seconds)
        return f"after {seconds}"

    assert await patience.owned(lambda: work(5.0), abandoned.append) == "after 5.0"
    with pytest.raises(TimedOut):
        await patience.owned(lambda: work(20.0), abandoned.append)
    assert abandoned == []
    await trio.sleep(15)
    assert abandoned == ["after 20.0"]


async def test_what_comes_as_its_caller_is_cancelled_is_abandoned(nursery: trio.Nursery) -> None:
    """An interrupted open must not leave an open file behind."""
    patience = Patience(nursery, 10.0)
    abandoned: list[str] = []

    async def work() -> str:
        await trio.lowlevel.checkpoint()
        scope.cancel()
        return "just then"

    with trio.CancelScope() as scope:
        await patience.owned(work, abandoned.append)
    assert scope.cancelled_caught
    assert abandoned == ["just then"]


async def test_work_that_comes_nearer_is_waited_for_however_long_it_takes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    patience = Patience(nursery, 10.0)
    steps = 0

    async def work() -> str:
        nonlocal steps
        with telling(lambda: steps):
            for _ in range(100):
                await trio.sleep(8)
                steps += 1
        return "done"

    assert await patience.shared("key", work) == "done"
    assert steps == 100


async def test_work_that_stops_is_given_up_no_later_than_the_deadline_after_its_last_step(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    patience = Patience(nursery, 10.0)
    last_step = 0.0

    async def work() -> None:
        nonlocal last_step
        with telling(lambda: last_step):
            for _ in range(20):
                await trio.sleep(7.3)
                last_step = trio.current_time()
            await trio.sleep_forever()

    with pytest.raises(TimedOut, match="nothing more within 10 s"):
        await patience.shared("key", work)
    assert 9 <= trio.current_time() - last_step <= 10


async def test_progress_of_other_work_is_none_of_this(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    patience = Patience(nursery, 10.0)

    async def progressing() -> None:
        with telling(trio.current_time):
            await trio.sleep(60)

    nursery.start_soon(patience.shared, "other", progressing)
    began = trio.current_time()
    with pytest.raises(TimedOut, match="no answer within 10 s"):
        await patience.shared("key", trio.sleep_forever)
    assert trio.current_time() - began == pytest.approx(10)
