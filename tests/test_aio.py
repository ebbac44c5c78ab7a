"""SingleFlight: one call for a key, whatever its waiters do."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orasfs.aio import LOCAL_WORK_SECONDS, LocalWork, SingleFlight, telling
from orasfs.errors import Aborted, NotFound, RegistryFailure


class Work:
    """A call that waits for a gate, and counts how often it ran."""

    def __init__(self, outcome: str | Exception) -> None:
        self.calls = 0
        self.gate = trio.Event()
        self._outcome = outcome

    async def __call__(self) -> str:
        self.calls += 1
        await self.gate.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def test_waiters_for_one_key_share_one_call(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    work = Work("content")
    results: list[str] = []

    async def ask() -> None:
        results.append(await flights.run("key", work))

    async with trio.open_nursery() as askers:
        for _ in range(20):
            askers.start_soon(ask)
        await wait_all_tasks_blocked()
        assert flights.is_flying("key")
        work.gate.set()
    assert results == ["content"] * 20
    assert work.calls == 1
    assert not flights.is_flying("key")


async def test_keys_do_not_wait_for_each_other(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    slow, quick = Work("slow"), Work("quick")
    quick.gate.set()
    async with trio.open_nursery() as askers:
        askers.start_soon(flights.run, "slow", slow)
        await wait_all_tasks_blocked()
        assert await flights.run("quick", quick) == "quick"
        slow.gate.set()


async def test_a_cancelled_waiter_leaves_the_call_to_the_others(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    work = Work("content")
    results: list[str] = []
    leaving = trio.CancelScope()

    async def leave() -> None:
        with leaving:
            await flights.run("key", work)

    async def stay() -> None:
        results.append(await flights.run("key", work))

    async with trio.open_nursery() as askers:
        askers.start_soon(leave)
        await wait_all_tasks_blocked()
        askers.start_soon(stay)
        await wait_all_tasks_blocked()
        leaving.cancel()
        await wait_all_tasks_blocked()
        assert flights.is_flying("key")
        work.gate.set()
    assert leaving.cancelled_caught
    assert results == ["content"]
    assert work.calls == 1


async def test_the_call_goes_on_after_its_last_waiter_left(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    work = Work("content")
    with trio.CancelScope() as scope:
        scope.cancel()
        await flights.run("key", work)
    await wait_all_tasks_blocked()
    assert work.calls == 1
    work.gate.set()
    assert await flights.run("key", work) == "content"
    assert work.calls == 1


async def test_each_waiter_gets_its_own_copy_of_the_error(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    original = RegistryFailure("the registry is ill", status=503, code="UNAVAILABLE")
    work = Work(original)
    raised: list[RegistryFailure] = []

    async def ask() -> None:
        with pytest.raises(RegistryFailure, match="ill") as caught:
            await flights.run("key", work)
        raised.append(caught.value)

    async with trio.open_nursery() as askers:
        askers.start_soon(ask)
        askers.start_soon(ask)
        await wait_all_tasks_blocked()
        work.gate.set()
    first, second = raised
    assert first is not second
    assert original not in raised
    assert (first.status, first.code) == (503, "UNAVAILABLE")
    assert first.__cause__ is original


async def test_a_key_is_free_again_after_a_failure(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    failing, working = Work(NotFound("no such tag")), Work("content")
    failing.gate.set()
    working.gate.set()
    with pytest.raises(NotFound):
        await flights.run("key", failing)
    assert await flights.run("key", working) == "content"


async def test_a_result_is_not_remembered(nursery: trio.Nursery) -> None:
    flights = SingleFlight[str](nursery)
    work = Work("content")
    work.gate.set()
    await flights.run("key", work)
    await flights.run("key", work)
    assert work.calls == 2


async def test_a_call_that_starts_another_for_its_own_key_sees_itself_flying(
    nursery: trio.Nursery,
) -> None:
    flights = SingleFlight[bool](nursery)

    async def look() -> bool:
        await trio.lowlevel.checkpoint()
        return flights.is_flying("key")

    assert await flights.run("key", look)


async def test_waiters_end_when_the_nursery_of_the_work_is_cancelled() -> None:
    ended: list[bool] = []

    async def ask(flights: SingleFlight[str]) -> None:
        try:
            await flights.run("key", Work("never"))
        finally:
            ended.append(True)

    async with trio.open_nursery() as nursery:
        flights = SingleFlight[str](nursery)
        nursery.start_soon(ask, flights)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == [True]


async def test_a_shielded_waiter_outlives_no_flight_that_was_cancelled() -> None:
    ended: list[str] = []

    async def wait(flights: SingleFlight[int]) -> None:
        with trio.CancelScope(shield=True):
            try:
                await flights.run("key", sleep)
            except Aborted:
                ended.append("aborted")

    async def sleep() -> int:
        await trio.sleep(1000)
        return 1  # pragma: no cover - it is cancelled

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, SingleFlight[int](nursery))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert ended == ["aborted"]


async def test_progress_is_heard_through_calls_that_wait_for_calls(nursery: trio.Nursery) -> None:
    """Also by one that has joined work which others have begun."""
    outer, inner = SingleFlight[str](nursery), SingleFlight[str](nursery)
    gate = trio.Event()
    steps = 0

    async def work() -> str:
        with telling(lambda: steps):
            await gate.wait()
        return "content"

    async def ask() -> str:
        return await inner.run("inner", work)

    flights = [outer.join(key, ask) for key in ("first", "second")]
    await wait_all_tasks_blocked()
    before = [flight.progress() for flight in flights]
    assert [flight.progress() for flight in flights] == before
    steps += 1
    assert all(flight.progress() != seen for flight, seen in zip(flights, before, strict=True))
    gate.set()
    assert [await flight.result() for flight in flights] == ["content"] * 2
    assert [flight.progress() for flight in flights] == [(), ()]


async def test_progress_of_a_task_that_the_work_begins_is_that_of_the_work(
    nursery: trio.Nursery,
) -> None:
    flights = SingleFlight[None](nursery)

    async def part(number: int) -> None:
        with telling(lambda: number):
            await trio.sleep_forever()

    async def work() -> None:
        async with trio.open_nursery() as parts:
            parts.start_soon(part, 7)

    flight = flights.join("key", work)
    await wait_all_tasks_blocked()
    assert flight.progress() == (7,)


async def test_telling_outside_of_any_call_is_heard_by_nobody() -> None:
    with telling(lambda: pytest.fail("nobody asks")):
        await trio.lowlevel.checkpoint()


async def test_local_work_is_progress_for_so_long_only(autojump_clock: MockClock) -> None:
    work = LocalWork()
    seen = [work()]
    for _ in range(3):
        await trio.sleep(LOCAL_WORK_SECONDS / 2)
        seen.append(work())
    assert len(set(seen)) == 3
    assert seen[2] == seen[3]
