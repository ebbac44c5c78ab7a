"""The tar against Go's archive/tar, which wrote the digests below, and against `tarfile`."""

import hashlib
import io
import tarfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidInput
from orasfs.staging.tarwriter import (
    Entry,
    EntryType,
    FilePiece,
    header,
    piece_size,
    round_mtime,
    tar_pieces,
)
from orasfs.staging.tree import (
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSpecial,
    StagedSymlink,
    walk,
)

LEAP_DAY = 1_709_210_096  # 2024-02-29 12:34:56 UTC
SECOND = 1_000_000_000


def _file(path: bytes, size: int = 0, mtime_ns: int = LEAP_DAY * SECOND) -> Entry:
    return Entry(path, EntryType.FILE, 0o644, round_mtime(mtime_ns), size)


def _link(path: bytes, target: bytes) -> Entry:
    return Entry(path, EntryType.SYMLINK, 0o777, LEAP_DAY, target=target)


GO_HEADERS = {
    "plain": _file(b"docs/readme.md", 22),
    "directory": Entry(b"docs", EntryType.DIRECTORY, 0o755, LEAP_DAY),
    "setuid": Entry(b"bin/su", EntryType.FILE, 0o4755, LEAP_DAY, 9),
    "sticky directory": Entry(b"tmp", EntryType.DIRECTORY, 0o1777, LEAP_DAY),
    "symlink": _link(b"docs/link.md", b"readme.md"),
    "100 bytes": _file(b"a" * 100),
    "101 bytes without a slash": _file(b"a" * 101),
    "101 bytes split": _file(b"d/" + b"a" * 99),
    "155 bytes before the slash": _file(b"a" * 155 + b"/f"),
    "156 bytes before the slash": _file(b"a" * 156 + b"/f"),
    "255 bytes": _file(b"a" * 155 + b"/" + b"b" * 99),
    "256 bytes, the most a split holds": _file(b"a" * 155 + b"/" + b"b" * 100),
    "257 bytes": _file(b"a" * 155 + b"/" + b"b" * 101),
    "cut where a slash would end the field": _file(b"a" * 99 + b"/" + b"b" * 101),
    "cut where slashes come from dropped letters": _file(b"a" * 98 + "/é/".encode() + b"b" * 99),
    "record whose length grows by its own digits": _file(b"a" * 989),
    "not ASCII": _file("docs/café & <name>.txt".encode(), 8),
    "not UTF-8": _file(b"docs/\xff\xfe"),
    "long target": _link(b"docs/l", b"t" * 101),
    "target not ASCII, long path that could be split": _link(
        b"d" * 60 + b"/" + b"l" * 60, "é".encode()
    ),
    "8 GiB less a byte": _file(b"big", 8**11 - 1),
    "8 GiB": _file(b"big", 8**11),
    "1 TiB, long path that could be split": _file(b"d" * 60 + b"/" + b"l" * 60, 1 << 40),
    "half a second": _file(b"f", mtime_ns=LEAP_DAY * SECOND + SECOND // 2),
    "less than half a second": _file(b"f", mtime_ns=LEAP_DAY * SECOND + SECOND // 2 - 1),
    "seven tenths": _file(b"f", mtime_ns=LEAP_DAY * SECOND + 700_000_000),
    "the epoch": _file(b"f", mtime_ns=0),
    "half a second before the epoch": _file(b"f", mtime_ns=-SECOND // 2),
    "before the epoch": _file(b"f", mtime_ns=-1_500_000_001),
    "the year 2242": _file(b"f", mtime_ns=8**11 * SECOND),
}
GO_DIGESTS: Mapping[str, str] = {
    "plain": "1ad1ec232f2a43d66f8e003b942b2f1c",
    "directory": "99a0ad278a90a0da9c29469674c1e4f3",
    "setuid": "2631409ae7df02da62f923b64a9834ac",
    "sticky directory": "bea5508dc54c25a9a5f4df2fb016201a",
    "symlink": "5dfffa024dd91b98d3abb8ef4378b32f",
    "100 bytes": "999c11fc2d57a75126c28671e9278b22",
    "101 bytes without a slash": "9a9aa4006b1fd6f3e9e7b54c7e98f646",
    "101 bytes split": "dc2cce0114138d84c181b3726e9aa412",
    "155 bytes before the slash": "e50aaf4790cbe2446849e9610a059b4c",
    "156 bytes before the slash": "0770db4f2d548bf952f4b1dda71642b9",
    "255 bytes": "06072c617a524005822c63e22563ed2c",
    "256 bytes, the most a split holds": "0fc50bd05c514369c27601b2e986b34d",
    "257 bytes": "8e02df8808aba402b5b746e8e7e2a1c7",
    "cut where a slash would end the field": "c8bc2e9af1f5f30313e01b0dc8da038e",
    "cut where slashes come from dropped letters": "ba05275a8f7a5e54c519ee9edf3f17e0",
    "record whose length grows by its own digits": "788756ff40d8fad985e8248fa40b3796",
    "not ASCII": "8bbc62e9828619401aebbc823ac5c673",
    "not UTF-8": "73819ff76ef0139d74f15c19b707a6e6",
    "long target": "63f433f96145f3837829587202bf9753",
    "target not ASCII, long path that could be split": "b32ab16e44c93384d8e3acde85451258",
    "8 GiB less a byte": "52f08889453903d1789318061191d9ce",
    "8 GiB": "e9403752743d62ca8e0078d832c19386",
    "1 TiB, long path that could be split": "d258633cddedd683b2cf6040f90f1be0",
    "half a second": "196f93ad002e7881ead13b5c55cf2f49",
    "less than half a second": "322b48e1728034f5ef0721576407358b",
    "seven tenths": "196f93ad002e7881ead13b5c55cf2f49",
    "the epoch": "1c623727ffd09a059319fb1a9d54e20e",
    "half a second before the epoch": "1c623727ffd09a059319fb1a9d54e20e",
    "before the epoch": "5cd4c1339383a23087b6e6416b7fdc04",
    "the year 2242": "3c9f5b4263e1040dbc226ae6879facf5",
}


@pytest.mark.parametrize("case", GO_HEADERS)
def test_header_is_the_one_go_writes(case: str) -> None:
    assert hashlib.sha256(header(GO_HEADERS[case])).hexdigest()[:32] == GO_DIGESTS[case]


@pytest.mark.parametrize("case", GO_HEADERS)
def test_header_reads_back(case: str) -> None:
    entry = GO_HEADERS[case]
    with tarfile.open(
        fileobj=io.BytesIO(header(entry) + bytes(1024)),
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        read = archive.next()
    assert read is not None
    assert read.name.encode("utf-8", "surrogateescape") == entry.path
    assert read.linkname.encode("utf-8", "surrogateescape") == entry.target
    assert (read.size, read.mode) == (entry.size, entry.mode)
    assert read.mtime == entry.mtime_seconds
    assert (read.uid, read.gid, read.uname, read.gname) == (0, 0, "", "")


@pytest.mark.parametrize(
    ("mtime_ns", "seconds"),
    [(0, 0), (499_999_999, 0), (500_000_000, 1), (-500_000_000, 0), (-500_000_001, -1)],
)
def test_mtime_is_rounded_to_the_nearest_second_and_halves_up(mtime_ns: int, seconds: int) -> None:
    assert round_mtime(mtime_ns) == seconds


def test_mtime_is_clamped_only_when_it_is_later() -> None:
    assert round_mtime(5 * SECOND, 3 * SECOND) == 3
    assert round_mtime(2 * SECOND, 3 * SECOND) == 2


def test_path_over_a_mebibyte_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too long for a tar"):
        header(_file(b"a/" * (1 << 19) + b"f"))


def test_special_file_is_refused_by_name() -> None:
    tree = StagedDirectory({"pipe": StagedSpecial("FIFO")})
    with pytest.raises(InvalidInput, match=r"'docs/pipe' is a FIFO.*remove it"):
        list(tar_pieces("docs", tree))


def test_entries_come_as_a_walk_that_sorts_in_each_directory() -> None:
    empty = StagedFile(0, 0)
    tree = StagedDirectory(
        {"b": empty, "a.txt": empty, "a": StagedDirectory({"z": empty, "é": empty}), "B": empty}
    )
    assert [path for path, _ in walk("d", tree)] == [
        "d", "d/B", "d/a", "d/a/z", "d/a/é", "d/a.txt", "d/b",
    ]  # fmt: skip


def test_content_is_a_reference_followed_by_padding() -> None:
    pieces = list(tar_pieces("d", StagedDirectory({"f": StagedFile("key", 513)})))
    assert pieces[2:] == [FilePiece("key", 513, "d/f"), bytes(511), bytes(1024)]
    assert sum(map(piece_size, pieces)) == 512 + 512 + 1024 + 1024


_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60
).filter(lambda name: name not in {".", ".."})
_MTIMES = st.integers(-(2**40), 2**61)
_FILES = st.builds(
    lambda content, mode, mtime_ns: StagedFile(content, len(content), mode, mtime_ns),
    st.binary(max_size=1100),
    st.integers(0, 0o7777),
    _MTIMES,
)
_SYMLINKS = st.builds(StagedSymlink, _NAMES, _MTIMES)


def _directories(entries: st.SearchStrategy[StagedNode]) -> st.SearchStrategy[StagedDirectory]:
    return st.builds(
        StagedDirectory,
        st.dictionaries(_NAMES, entries, max_size=5),
        st.integers(0, 0o7777),
        _MTIMES,
    )


_TREES = _directories(
    st.recursive(_FILES | _SYMLINKS, lambda inner: inner | _directories(inner), max_leaves=20)
)


def _tar(tree: StagedDirectory) -> bytes:
    """Return the tar of a tree in which the keys of contents are the bytes themselves."""
    parts = []
    for piece in tar_pieces("top", tree):
        content = piece if isinstance(piece, bytes) else piece.content
        assert isinstance(content, bytes)
        parts.append(content)
    return b"".join(parts)


def _expected(path: str, node: StagedNode) -> tuple[object, ...]:
    match node:
        case StagedFile():
            return (path, "file", node.mode, round_mtime(node.mtime_ns), node.content)
        case StagedSymlink():
            return (path, "symlink", 0o777, round_mtime(node.mtime_ns), node.target)
        case StagedDirectory():
            return (path, "directory", node.mode, round_mtime(node.mtime_ns), None)
        case StagedSpecial():
            raise AssertionError


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[object, ...]:
    common = (member.mode, member.mtime)
    if member.issym():
        return (member.name, "symlink", *common, member.linkname)
    if member.isdir():
        return (member.name, "directory", *common, None)
    content = archive.extractfile(member)
    assert content is not None
    return (member.name, "file", *common, content.read())


@given(_TREES)
def test_any_tree_reads_back(tree: StagedDirectory) -> None:
    with tarfile.open(fileobj=io.BytesIO(_tar(tree)), encoding="utf-8") as archive:
        members = [_read(archive, member) for member in archive]
    assert members == [_expected(path, node) for path, node in walk("top", tree)]


@given(_TREES)
def test_same_tree_filled_in_another_order_gives_the_same_bytes(tree: StagedDirectory) -> None:
    def turned(node: StagedNode) -> StagedNode:
        if not isinstance(node, StagedDirectory):
            return node
        entries = {name: turned(entry) for name, entry in list(node.entries.items())[::-1]}
        return StagedDirectory(entries, node.mode, node.mtime_ns)

    other = turned(tree)
    assert isinstance(other, StagedDirectory)
    assert _tar(tree) == _tar(other)
