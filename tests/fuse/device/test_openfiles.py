"""The kernel's rule on how files of one inode may be open together, kept by us."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import Busy
from orasfs.fuse.device.openfiles import OpenFiles
from orasfs.fuse.device.wire import Opened
from orasfs.vfs.operations import Fh, Ino, OpenFile
from tests.conftest import ExpectLog

INO = Ino(5)


class FakeRegistry:
    """Numbers registrations; refuses them all if told to."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.open: dict[int, int] = {}
        self._next = 1
        self._refuses = refuses

    def open_backing(self, fd: int) -> int:
        if self._refuses:
            raise OSError(40, "Too many levels")
        number, self._next = self._next, self._next + 1
        self.open[number] = fd
        return number

    def close_backing(self, backing_id: int) -> None:
        del self.open[backing_id]


def file(number: int, *, direct_io: bool = False) -> OpenFile:
    return OpenFile(Fh(number), keep_cache=True, direct_io=direct_io)


def test_a_file_with_a_backing_file_is_passed_through_and_registered_once() -> None:
    registry = FakeRegistry()
    files = OpenFiles(registry)
    assert files.add(INO, file(1), 30) == (Opened.PASSTHROUGH, 1)
    assert files.add(INO, file(2), 31) == (Opened.PASSTHROUGH, 1)
    assert files.remove(Fh(1)) is None
    assert registry.open == {1: 30}
    assert files.remove(Fh(2)) is None
    assert registry.open == {}
    assert files.add(INO, file(3), 30) == (Opened.PASSTHROUGH, 2)


def test_an_inode_is_alone_as_long_as_one_file_is_open_in_the_kernels_cache() -> None:
    files = OpenFiles(FakeRegistry())
    assert not files.is_alone(INO)
    files.add(INO, file(1), None)
    assert files.is_alone(INO)
    files.add(INO, file(2), None)
    assert not files.is_alone(INO)
    files.remove(Fh(1))
    assert files.is_alone(INO)
    files.remove(Fh(2))
    files.add(INO, file(3, direct_io=True), None)
    assert not files.is_alone(INO)
    files.add(INO, file(4), 30)
    assert not files.is_alone(INO)


def test_while_one_is_cached_all_are_and_the_last_one_is_told() -> None:
    files = OpenFiles(FakeRegistry())
    assert files.add(INO, file(1), None) == (Opened.KEEP_CACHE, 0)
    assert files.add(INO, file(2), 30) == (Opened.KEEP_CACHE, 0)
    assert files.remove(Fh(1)) is None
    assert files.remove(Fh(2)) == INO
    assert files.add(INO, file(3), 30)[0] is Opened.PASSTHROUGH


def test_what_has_no_backing_file_any_more_is_read_from_us_and_not_written() -> None:
    """While others have it passed through, the kernel takes no other answer."""
    registry = FakeRegistry()
    files = OpenFiles(registry)
    files.add(INO, file(1), 30)
    assert files.add(INO, file(2), None) == (Opened.PASSTHROUGH | Opened.DIRECT_IO, 1)
    with pytest.raises(Busy):
        files.check_writable(INO)
    files.remove(Fh(1))
    assert registry.open
    files.remove(Fh(2))
    assert not registry.open
    files.check_writable(INO)
    assert files.add(INO, file(3), None)[0] is Opened.KEEP_CACHE
    files.check_writable(INO)


def test_what_is_read_past_the_cache_counts_for_nothing() -> None:
    files = OpenFiles(FakeRegistry())
    assert files.add(INO, file(1, direct_io=True), None) == (Opened.DIRECT_IO, 0)
    assert files.remove(Fh(1)) is None


def test_without_a_registry_all_are_cached() -> None:
    files = OpenFiles(None)
    assert files.add(INO, file(1), 30) == (Opened.KEEP_CACHE, 0)
    assert not files.may_pass


def test_a_kernel_that_refuses_is_asked_once(expect_log: ExpectLog) -> None:
    files = OpenFiles(FakeRegistry(refuses=True))
    assert files.add(INO, file(1), 30) == (Opened.KEEP_CACHE, 0)
    expect_log(logging.WARNING, "files are not passed through: .*Too many levels")
    assert files.add(Ino(6), file(2), 30) == (Opened.KEEP_CACHE, 0)
    assert not files.may_pass


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.booleans()), max_size=40))
def test_no_inode_is_ever_both_cached_and_passed_through(
    steps: list[tuple[bool, int, bool]],
) -> None:
    registry = FakeRegistry()
    files = OpenFiles(registry)
    modes: dict[Fh, Opened] = {}
    number = 0
    for opens, which, has_backing in steps:
        if opens:
            number += 1
            mode, _ = files.add(INO, file(number), 30 if has_backing else None)
            modes[Fh(number)] = mode & Opened.PASSTHROUGH
        elif modes:
            fh = sorted(modes)[which % len(modes)]
            files.remove(fh)
            del modes[fh]
        assert len(set(modes.values())) <= 1
        assert bool(registry.open) == (Opened.PASSTHROUGH in modes.values())
