"""Slots: so many at a time, for who waits in a thread."""

import threading

import pytest

from orasfs.errors import Aborted
from orasfs.registry.slots import Slots


def never() -> bool:
    return False


def test_no_more_are_held_than_there_are() -> None:
    slots = Slots(3)
    running, most = 0, 0
    lock = threading.Lock()
    full = threading.Event()

    def work() -> None:
        nonlocal running, most
        with slots.held(never, "x"):
            with lock:
                running += 1
                most = max(most, running)
                if running == 3:
                    full.set()
            full.wait(5)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 3


def test_who_waits_can_be_cancelled_or_give_up() -> None:
    slots = Slots(1)
    assert slots.take(never, 0)
    assert not slots.take(never, 0)
    assert not slots.take(lambda: True, 1000)
    with pytest.raises(Aborted, match="x: cancelled"), slots.held(lambda: True, "x"):
        pass
    slots.give()
    assert slots.take(never, 0)


def test_a_failure_inside_gives_the_slot_back() -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.held(never, "x"):
        raise ZeroDivisionError
    assert slots.take(never, 0)


def test_who_waits_is_woken_when_one_is_given_back() -> None:
    slots = Slots(1)
    assert slots.take(never, 0)
    taken = threading.Event()

    def wait() -> None:
        if slots.take(never, 30):
            taken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    slots.give()
    assert taken.wait(10)
    thread.join(5)
