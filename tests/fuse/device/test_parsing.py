"""Each request is parsed to what it says, and none is read past its end."""

import contextlib
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidInput
from orasfs.fuse.device import parsing, requests, wire
from orasfs.fuse.device.parsing import Body
from orasfs.fuse.device.requests import Header
from orasfs.fuse.device.wire import Opcode
from orasfs.staging.changes import AttrChanges
from orasfs.vfs.operations import Fh, Ino
from tests.support.fusemessages import init, message

INO = Ino(5)
CASES: list[tuple[Callable[[Header, Body], object], bytes, object]] = [
    (parsing.parse_forget, wire.FORGET_IN.pack(3), requests.Forget(((INO, 3),))),
    (
        parsing.parse_batch_forget,
        wire.BATCH_FORGET_IN.pack(2, 0) + wire.FORGET_ONE.pack(7, 1) + wire.FORGET_ONE.pack(8, 2),
        requests.Forget(((Ino(7), 1), (Ino(8), 2))),
    ),
    (parsing.parse_of, b"", requests.Of(INO)),
    (parsing.parse_named, b"caf\xe9\0", requests.Named(INO, b"caf\xe9")),
    (
        parsing.parse_mknod,
        wire.MKNOD_IN.pack(0o100640, 0, 0o22, 0) + b"n\0",
        requests.Make(INO, b"n", 0o100640),
    ),
    (
        parsing.parse_mkdir,
        wire.MKDIR_IN.pack(0o755, 0o22) + b"n\0",
        requests.Make(INO, b"n", 0o755),
    ),
    (
        parsing.parse_create,
        wire.CREATE_IN.pack(os.O_RDWR, 0o100644, 0o22, 0) + b"n\0",
        requests.Make(INO, b"n", 0o100644, os.O_RDWR),
    ),
    (parsing.parse_symlink, b"n\0a/b\0", requests.Symlink(INO, b"n", b"a/b")),
    (parsing.parse_link, wire.LINK_IN.pack(9) + b"n\0", requests.Link(Ino(9), INO, b"n")),
    (
        parsing.parse_rename,
        wire.RENAME_IN.pack(9) + b"a\0b\0",
        requests.Rename(INO, b"a", Ino(9), b"b", 0),
    ),
    (
        parsing.parse_rename2,
        wire.RENAME2_IN.pack(9, 1, 0) + b"a\0b\0",
        requests.Rename(INO, b"a", Ino(9), b"b", 1),
    ),
    (parsing.parse_open, wire.OPEN_IN.pack(os.O_RDONLY, 0), requests.Open(INO, 0)),
    (parsing.parse_handle, wire.RELEASE_IN.pack(4, 0, 0, 0), requests.Handle(Fh(4))),
    (
        parsing.parse_read,
        wire.READ_IN.pack(4, 1 << 40, 4096, 0, 0, 0, 0),
        requests.Read(Fh(4), 1 << 40, 4096),
    ),
    (
        parsing.parse_write,
        wire.WRITE_IN.pack(4, 10, 5, 0, 0, 0, 0) + b"bytes",
        requests.Write(Fh(4), 10, b"bytes"),
    ),
    (parsing.parse_sync, wire.FSYNC_IN.pack(4, 1, 0), requests.Sync(Fh(4), data_only=True)),
    (parsing.parse_sync, wire.FSYNC_IN.pack(4, 0, 0), requests.Sync(Fh(4), data_only=False)),
    (
        parsing.parse_fsyncdir,
        wire.FSYNC_IN.pack(0, 1, 0),
        requests.SyncDirectory(INO, data_only=True),
    ),
    (
        parsing.parse_fsyncdir,
        wire.FSYNC_IN.pack(0, 0, 0),
        requests.SyncDirectory(INO, data_only=False),
    ),
    (
        parsing.parse_readdir,
        wire.READ_IN.pack(0, 3 << 32 | 7, 4096, 0, 0, 0, 0),
        requests.List(INO, 3 << 32 | 7, 4096, is_plus=False),
    ),
    (
        parsing.parse_readdirplus,
        wire.READ_IN.pack(0, 7, 4096, 0, 0, 0, 0),
        requests.List(INO, 7, 4096, is_plus=True),
    ),
    (
        parsing.parse_getxattr,
        wire.GETXATTR_IN.pack(100, 0) + b"user.x\0",
        requests.GetXattr(INO, b"user.x", 100),
    ),
    (
        parsing.parse_listxattr,
        wire.GETXATTR_IN.pack(100, 0),
        requests.GetXattr(INO, b"", 100),
    ),
    (parsing.parse_removexattr, b"user.x\0", requests.GetXattr(INO, b"user.x", 0)),
    (
        parsing.parse_setxattr,
        wire.SETXATTR_IN.pack(3, os.XATTR_CREATE) + b"user.x\0a\0b",
        requests.SetXattr(INO, b"user.x", b"a\0b", os.XATTR_CREATE),
    ),
    (parsing.parse_interrupt, wire.INTERRUPT_IN.pack(12), 12),
]


@pytest.mark.parametrize(("parse", "body", "expected"), CASES)
def test_a_request_says_what_is_asked(
    parse: Callable[[Header, Body], object], body: bytes, expected: object
) -> None:
    assert parse(*parsing.split(message(Opcode.READ, body))) == expected


@pytest.mark.parametrize(("parse", "body"), [(parse, body) for parse, body, _ in CASES if body])
def test_a_request_that_is_cut_off_is_refused(
    parse: Callable[[Header, Body], object], body: bytes
) -> None:
    for end in range(len(body)):
        with pytest.raises(InvalidInput):
            parse(*parsing.split(message(Opcode.READ, body[:end])))


def setattr_body(valid: int, **fields: int) -> bytes:
    names = ("size", "lock_owner", "atime", "mtime", "ctime")
    times = ("atime_ns", "mtime_ns", "ctime_ns", "mode", "unused", "uid", "gid", "unused5")
    values = [fields.get(name, 0) for name in names]
    return wire.SETATTR_IN.pack(
        valid, 0, fields.get("fh", 0), *values, *(fields.get(name, 0) for name in times)
    )


def parse_setattr(body: bytes) -> requests.SetAttr:
    return parsing.parse_setattr(*parsing.split(message(Opcode.SETATTR, body)))


def test_only_what_is_valid_is_changed() -> None:
    V = wire.Valid  # noqa: N806 - short
    assert parse_setattr(setattr_body(0, mode=0o600, size=3, fh=9)) == requests.SetAttr(
        INO, AttrChanges(), None
    )
    assert parse_setattr(setattr_body(V.MODE | V.FH, mode=0o600, size=3, fh=9)) == (
        requests.SetAttr(INO, AttrChanges(mode=0o600), Fh(9))
    )
    assert parse_setattr(setattr_body(V.SIZE, size=3)).changes == AttrChanges(size=3)


def test_times_are_nanoseconds_and_may_be_before_the_epoch() -> None:
    body = setattr_body(
        wire.Valid.ATIME | wire.Valid.MTIME,
        atime=2, atime_ns=5, mtime=(1 << 64) - 2, mtime_ns=999_999_999,
    )  # fmt: skip
    assert parse_setattr(body).changes == AttrChanges(
        atime_ns=2_000_000_005, mtime_ns=-1_000_000_001
    )


@pytest.mark.parametrize(
    ("flags", "may_change"),
    [(os.O_RDONLY, False), (os.O_WRONLY, True), (os.O_RDWR, True), (os.O_TRUNC, True)],
)
def test_only_opening_to_read_changes_nothing(flags: int, *, may_change: bool) -> None:
    assert requests.Open(INO, flags).may_change is may_change


def test_the_kernel_offers_64_flags_if_it_says_so() -> None:
    found = parsing.parse_init(*parsing.split(init()))
    assert wire.Init.PASSTHROUGH in found.flags
    without = parsing.parse_init(*parsing.split(init(0xFFFFFFFF & ~wire.Init.INIT_EXT)))
    assert wire.Init.PASSTHROUGH not in without.flags
    assert (found.major, found.minor, found.max_readahead) == (7, 45, 131072)


def test_a_header_says_who_asks_about_what() -> None:
    header, _ = parsing.split(message(Opcode.LOOKUP, b"n\0"))
    assert header == Header(Opcode.LOOKUP, unique=8, ino=INO, pid=77)


def test_extensions_are_not_taken_for_the_request() -> None:
    raw = wire.IN_HEADER.pack(56, Opcode.LOOKUP, 8, 5, 0, 0, 77, 1, 0) + b"name-no\0" + bytes(8)
    _, body = parsing.split(memoryview(raw))
    assert body.name() == b"name-no"
    with pytest.raises(InvalidInput):
        body.content(1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(39),
        wire.IN_HEADER.pack(41, 1, 8, 5, 0, 0, 0, 0, 0),
        wire.IN_HEADER.pack(40, 1, 8, 5, 0, 0, 0, 1, 0),
    ],
)
def test_what_is_no_whole_request_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        parsing.split(memoryview(raw))


@given(st.binary(max_size=200), st.sampled_from([parse for parse, _, _ in CASES]))
def test_no_bytes_do_more_than_be_refused(
    body: bytes, parse: Callable[[Header, Body], object]
) -> None:
    with contextlib.suppress(InvalidInput):
        parse(*parsing.split(message(Opcode.READ, body)))
