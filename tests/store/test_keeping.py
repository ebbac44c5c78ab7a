"""What is kept beside its readers, and who waits for it."""

import logging
import threading
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orasfs.errors import OrasfsError, StorageFailure, StorageFull
from orasfs.oci.digest import Digest
from orasfs.store.packed.keeping import Keeping

DIGEST = Digest.of(b"content")
GATE_SECONDS = 20.0


def keeping_in(nursery: trio.Nursery, threads: int = 4) -> Keeping:
    return Keeping(nursery, trio.CapacityLimiter(threads))


async def test_who_waits_does_so_until_all_is_kept(nursery: trio.Nursery) -> None:
    keeping = keeping_in(nursery)
    gates = [threading.Event() for _ in range(3)]
    kept: list[int] = []

    def keep(number: int) -> None:
        assert gates[number].wait(GATE_SECONDS)
        kept.append(number)

    for number in range(3):
        keeping.keep(DIGEST, partial(keep, number))
    idle = trio.Event()

    async def wait() -> None:
        await keeping.wait_idle()
        idle.set()

    with trio.fail_after(GATE_SECONDS):
        nursery.start_soon(wait)
        for gate in (gates[1], gates[0]):
            await wait_all_tasks_blocked()
            assert not idle.is_set()
            gate.set()
        await wait_all_tasks_blocked()
        assert not idle.is_set()
        gates[2].set()
        await idle.wait()
    assert sorted(kept) == [0, 1, 2]


async def test_nothing_is_waited_for_where_there_is_nothing(nursery: trio.Nursery) -> None:
    keeping = keeping_in(nursery)
    with trio.fail_after(GATE_SECONDS):
        await keeping.wait_idle()
        keeping.keep(DIGEST, lambda: None)
        await keeping.wait_idle()
        await keeping.wait_idle()


@pytest.mark.parametrize("error", [StorageFull("full"), StorageFailure("broken")])
async def test_refusal_of_the_disk_is_told_in_the_log_only(
    nursery: trio.Nursery, error: OrasfsError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orasfs.store.packed.keeping")
    keeping = keeping_in(nursery)

    def refuse() -> None:
        raise error

    with trio.fail_after(GATE_SECONDS):
        keeping.keep(DIGEST, refuse)
        await keeping.wait_idle()
    assert f"not kept: digest={DIGEST} reason={error}" in caplog.text


async def test_end_of_the_nursery_ends_the_waiting() -> None:
    gate = threading.Event()

    def hang() -> None:
        gate.wait(GATE_SECONDS)

    try:
        with trio.fail_after(GATE_SECONDS):
            async with trio.open_nursery() as nursery:
                keeping = keeping_in(nursery)
                keeping.keep(DIGEST, hang)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            await keeping.wait_idle()
    finally:
        gate.set()
