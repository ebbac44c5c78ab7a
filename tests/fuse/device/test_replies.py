"""Answers have the layout of the kernel's structures."""

import stat
import struct

import pytest

from orasfs.fuse.answers import BLOCK_SIZE
from orasfs.fuse.device import replies, wire
from orasfs.fuse.device.replies import Encoder
from orasfs.vfs.operations import (
    FOREVER_SECONDS,
    Attr,
    DirectoryEntry,
    Entry,
    FilesystemStatus,
    Ino,
)

ENCODER = Encoder(uid=1000, gid=1001)
ATTR = Attr(Ino(7), stat.S_IFREG | 0o644, 1000, 1_700_000_000_123_456_789, 2)

# Of include/uapi/linux/fuse.h.
SIZES = {
    wire.IN_HEADER: 40, wire.OUT_HEADER: 16, wire.ATTR: 88, wire.ENTRY_OUT: 40, wire.ATTR_OUT: 16,
    wire.OPEN_OUT: 16, wire.WRITE_OUT: 8, wire.STATFS_OUT: 80, wire.DIRENT: 24, wire.INIT_OUT: 64,
    wire.SETATTR_IN: 88, wire.READ_IN: 40, wire.WRITE_IN: 40, wire.RELEASE_IN: 24,
    wire.INVAL_INODE_OUT: 24, wire.INVAL_ENTRY_OUT: 16, wire.BACKING_MAP: 16, wire.FSYNC_IN: 16,
}  # fmt: skip


@pytest.mark.parametrize(("layout", "size"), SIZES.items())
def test_a_structure_is_as_long_as_the_kernel_s(layout: struct.Struct, size: int) -> None:
    assert layout.size == size


def test_the_numbers_of_the_ioctls_are_the_kernel_s() -> None:
    assert wire.IOC_BACKING_OPEN == 0x4010E501
    assert wire.IOC_BACKING_CLOSE == 0x4004E502


def test_attributes_are_packed_with_their_owner() -> None:
    fields = wire.ATTR.unpack(ENCODER.attr(ATTR))
    seconds, ns = 1_700_000_000, 123_456_789
    assert fields[:6] == (7, 1000, 2, seconds, seconds, seconds)
    assert fields[6:] == (ns, ns, ns, ATTR.mode, 2, 1000, 1001, 0, BLOCK_SIZE, 0)


def test_a_time_before_the_epoch_is_a_negative_number_of_seconds() -> None:
    fields = wire.ATTR.unpack(ENCODER.attr(Attr(Ino(7), 0, 0, -1)))
    assert (fields[4], fields[7]) == ((1 << 64) - 1, 999_999_999)


def test_an_entry_says_how_long_it_holds() -> None:
    packed = ENCODER.entry(Entry(ATTR, FOREVER_SECONDS, 1.5))
    fields = wire.ENTRY_OUT.unpack_from(packed)
    assert fields == (7, 0, int(FOREVER_SECONDS), 1, 0, 500_000_000)
    assert packed[wire.ENTRY_OUT.size :] == ENCODER.attr(ATTR)


def test_a_name_that_is_absent_is_inode_0() -> None:
    packed = ENCODER.entry(Entry(None, 2.0, 9.0))
    assert wire.ENTRY_OUT.unpack_from(packed) == (0, 0, 2, 0, 0, 0)
    assert len(packed) == 128


def listed(*names: str) -> list[DirectoryEntry]:
    return [
        DirectoryEntry(name, Entry(ATTR, 1.0, 1.0), place + 1) for place, name in enumerate(names)
    ]


def test_a_listing_takes_as_many_entries_as_there_is_room_for() -> None:
    entries = listed("a", "12345678", "c")  # 32 bytes each
    whole, counted = ENCODER.listing(entries, 40, 96, is_plus=False)
    assert (len(whole), counted) == (96, [])
    assert wire.DIRENT.unpack_from(whole, 32) == (7, 42, 8, stat.S_IFREG >> 12)
    assert whole[56:64] == b"12345678"
    assert ENCODER.listing(entries, 40, 95, is_plus=False)[0] == whole[:64]
    assert ENCODER.listing(entries, 40, 31, is_plus=False)[0] == b""


def test_entries_with_attributes_count_as_lookups_if_they_fit() -> None:
    packed, counted = ENCODER.listing(listed("a", "b", "c"), 0, 2 * (128 + 32) + 100, is_plus=True)
    assert counted == [7, 7]
    assert packed[:128] == ENCODER.entry(Entry(ATTR, 1.0, 1.0))


@pytest.mark.parametrize("is_plus", [True, False])
def test_members_are_packed_as_other_entries_are(*, is_plus: bool) -> None:
    names = [b"a", b"12345678", b"ccc", b"last one"]
    rows = [
        (name, Ino(9 + place), stat.S_IFREG | 0o640, place * 1000, place - 1_500_000_000, place)
        for place, name in enumerate(names)
    ]
    entries = [
        DirectoryEntry(
            name.decode(),
            Entry(Attr(ino, mode, size, mtime, links), FOREVER_SECONDS, FOREVER_SECONDS),
            5 + place,
        )
        for place, (name, ino, mode, size, mtime, links) in enumerate(rows)
    ]
    for size in (4096, 400, 300, 100, 70, 1):
        packed, inos = ENCODER.members(rows, 14, size, is_plus=is_plus)
        expected, counted = ENCODER.listing(entries, 10, size, is_plus=is_plus)
        assert packed == expected
        assert not is_plus or inos == counted


def test_an_entry_that_is_gone_is_left_out() -> None:
    gone = DirectoryEntry("gone", Entry(None, 0.0, 0.0), 1)
    assert ENCODER.listing([gone], 0, 1000, is_plus=True) == (b"", [])


def dirents(packed: bytes, empty: int) -> list[tuple[int, int, bytes]]:
    """Return inode, position and name of entries that have `empty` zero bytes before them."""
    found = []
    while packed:
        assert packed[:empty] == bytes(empty)
        ino, position, length, kind = wire.DIRENT.unpack_from(packed, empty)
        assert kind == stat.S_IFDIR >> 12
        start = empty + wire.DIRENT.size
        found.append((ino, position, packed[start : start + length]))
        packed = packed[start + (length + 7 & ~7) :]
    return found


@pytest.mark.parametrize(("is_plus", "empty"), [(True, 128), (False, 0)])
def test_dots_are_the_first_two_positions_of_a_listing(*, is_plus: bool, empty: int) -> None:
    listing = 3 << 32
    both = [(7, listing + 1, b"."), (replies.UNKNOWN_INO, listing + 2, b"..")]
    for at in range(4):
        packed = ENCODER.dots(Ino(7), listing + at, is_plus=is_plus)
        assert dirents(packed, empty) == both[at:]


def test_statfs_has_the_kernel_s_order() -> None:
    packed = replies.statfs(FilesystemStatus(4096, 10, 5, 4, 100, 90))
    assert struct.unpack("=5Q3I", packed[:52]) == (10, 5, 4, 100, 90, 4096, 255, 4096)


def test_names_of_notifications_end_with_a_zero_byte() -> None:
    assert replies.invalidate_entry(3, b"ab") == struct.pack("=QII", 3, 2, 0) + b"ab\0"
    assert replies.invalidate_inode(3) == struct.pack("=Qqq", 3, 0, 0)


def test_the_three_times_are_told_apart() -> None:
    attr = Attr(Ino(7), 0, 0, 2_000_000_002, 1, 1_000_000_001, 3_000_000_003)
    fields = wire.ATTR.unpack(ENCODER.attr(attr))
    assert fields[3:9] == (1, 2, 3, 1, 2, 3)
