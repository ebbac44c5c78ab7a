import io
import os
import random
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orasfs.errors import ContentRefused, InvalidContent
from orasfs.tree import tar
from orasfs.tree.layerindex import Extent, MemberKind
from orasfs.tree.tar import TarScanner
from tests.support.tars import scan, shown

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def _info(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def _tar(
    *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, end: bool = True
) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as archive:
        for info, content in members:
            info.size = len(content) if info.isreg() else info.size
            archive.addfile(info, io.BytesIO(content))
        size = archive.offset
    return output.getvalue() if end else output.getvalue()[:size]


def _block(name: bytes = b"f", kind: bytes = b"0", size: bytes = b"0", **fields: bytes) -> bytes:
    """Return a header block, with a right checksum unless given."""
    block = bytearray(512)
    layout = {"mode": 100, "mtime": 136, "checksum": 148, "target": 157, "magic": 257}
    layout |= {"prefix": 345, "sparse": 386, "extended": 482, "real": 483, "trailer": 508}
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    for field, value in fields.items():
        block[layout[field] : layout[field] + len(value)] = value
    if "checksum" not in fields:
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    data = b""
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length += 1
        data += str(length).encode() + body
    return _block(b"pax", kind, b"%o" % len(data)) + data + bytes(-len(data) % 512)


_PARTS = st.text("ab. é", min_size=1, max_size=3).filter(lambda part: part not in (".", ".."))
_LONG = st.sampled_from(["L" * 90, "M" * 120, "é" * 100])
_PATHS = st.lists(st.one_of(_PARTS, _LONG), min_size=1, max_size=3).map("/".join)
_KINDS = st.sampled_from(["file", "file", "directory", "symlink", "fifo"])
_TREES = st.dictionaries(
    _PATHS, st.tuples(_KINDS, st.binary(max_size=1500), st.integers(0, 2**33)), max_size=6
)


@settings(max_examples=150)
@given(_TREES, st.sampled_from(sorted(FORMATS)), st.integers(1, 1500))
def test_scan_agrees_with_the_standard_library(
    tree: dict[str, tuple[str, bytes, int]], form: str, chunk_size: int
) -> None:
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    for path, (kind, content, mtime) in tree.items():
        types = {
            "directory": tarfile.DIRTYPE,
            "symlink": tarfile.SYMTYPE,
            "fifo": tarfile.FIFOTYPE,
        }
        info = _info(
            path, types.get(kind, tarfile.REGTYPE), "T" * 110 if kind == "symlink" else ""
        )
        info.mtime = mtime
        members.append((info, content if kind == "file" else b""))
    try:
        archive = _tar(*members, form=FORMATS[form])
    except ValueError:
        return  # ustar cannot hold every name
    scanned = shown(archive, chunk_size)
    problems = scan(archive).problems
    with tarfile.open(fileobj=io.BytesIO(archive)) as reference:
        for info in reference:
            if info.isfifo() or any(repr(info.name)[1:-1] in problem for problem in problems):
                continue
            member = scanned.get(info.name.rstrip("/"))
            if member is None or (member.kind == MemberKind.DIRECTORY) != info.isdir():
                assert _is_replaced(info.name, tree)
                continue
            assert member.mtime_ns == int(info.mtime) * 1_000_000_000
            assert member.mode == info.mode
            if info.issym():
                assert member.target == info.linkname
            if info.isreg():
                extracted = reference.extractfile(info)
                assert extracted is not None
                assert member.content == extracted.read()


def _is_replaced(name: str, tree: dict[str, tuple[str, bytes, int]]) -> bool:
    """Tell whether another member's path runs through this one."""
    return any(other.startswith(name + "/") or name.startswith(other + "/") for other in tree)


@pytest.mark.parametrize("chunk_size", [1, 511, 512, 513, 100_000])
def test_chunk_boundaries_do_not_matter(chunk_size: int) -> None:
    long = "a/" + "n" * 200
    archive = _tar((_info(long), b"x" * 700), (_info("b"), b""))
    assert set(shown(archive, chunk_size)) == {"a", long, "b"}
    assert shown(archive, chunk_size)[long].content == b"x" * 700


def test_empty_input_is_an_empty_archive() -> None:
    assert shown(b"") == {}


def test_end_without_zero_blocks_is_an_end() -> None:
    assert set(shown(_tar((_info("a"), b"x"), end=False))) == {"a"}


def test_end_after_one_zero_block_is_an_end() -> None:
    assert set(shown(_block(b"a") + bytes(512))) == {"a"}


def test_what_follows_the_end_is_ignored_and_counts_as_tar() -> None:
    index = scan(_block(b"a") + bytes(1024) + b"anything")
    assert index.tar_size == 512 + 1024 + 8


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"x" * 512, "no number as checksum in the header at offset 0"),
        (_block(checksum=b"0000001\0"), "wrong checksum"),
        (_block()[:-1], "truncated at offset 511"),
        (_block(size=b"10"), "truncated at offset 512"),
        (_block(size=b"10") + bytes(511), "truncated at offset 1023"),
        (_block() + bytes(512) + _block(), "data behind a zero block, at offset 1024"),
        (_block(size=b"\xff" * 12), "impossible size in the header at offset 0"),
        (_block(size=b"\x80" + b"\x7f" * 11), "impossible size in the header at offset 0"),
        (_block(size=b"12z"), "no number as size"),
        (_block(size=b"-1"), "no number as size"),
        (_block(size=b"1 1"), "no number as size"),
        (_block(mode=b"9"), "no number as mode"),
        (_block(kind=b"x", size=b"4") + b"junk" + bytes(508) + _block(), "damaged extended"),
        (_pax((b"size", b"-1")) + _block(), "no number in the extended header"),
        (_pax((b"size", b"9" * 19)) + _block(), "no number in the extended header"),
        (_pax((b"mtime", b"soon")) + _block(), "no time in the extended header"),
        (_pax((b"path", b"x")), "truncated at offset 1024"),
        (_block(kind=b"L", size=b"2") + b"x\0" + bytes(510), "truncated at offset 1024"),
    ],
)
def test_what_is_no_tar_is_invalid_and_says_where(archive: bytes, message: str) -> None:
    with pytest.raises(InvalidContent) as caught:
        scan(archive)
    assert message in str(caught.value)


def test_extended_header_over_a_mebibyte_is_refused() -> None:
    with pytest.raises(ContentRefused, match="over 1 MiB"):
        scan(_block(kind=b"L", size=b"%o" % ((1 << 20) + 1)))


def test_signed_checksum_of_old_tars_is_accepted() -> None:
    block = bytearray(_block(b"caf\xe9 \xff"))
    block[148:156] = b"        "
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed
    assert len(shown(bytes(block))) == 1


def test_v7_has_neither_prefix_nor_directories_but_by_their_slash() -> None:
    fields = {"magic": bytes(8), "prefix": b"ignored"}
    archive = _block(b"d/", b"\0", **fields) + _block(b"d/f", b"\0", **fields)
    assert {path: member.kind for path, member in shown(archive).items()} == {
        "d": MemberKind.DIRECTORY,
        "d/f": MemberKind.FILE,
    }


def test_prefix_counts_in_ustar_and_star_but_not_in_gnu() -> None:
    assert "p/f" in shown(_block(prefix=b"p"))
    star = _block(prefix=b"p".ljust(131, b"\0") + b"00000000000 00000000000 ", trailer=b"tar\0")
    assert "p/f" in shown(star)
    assert set(shown(_block(prefix=b"p", magic=b"ustar  \0"))) == {"f"}


def test_negative_and_huge_base_256_times_are_read_or_clamped() -> None:
    past = _block(mtime=b"\xff" * 12)
    assert shown(past)["f"].mtime_ns == -1_000_000_000
    future = _block(mtime=b"\x80" + b"\x7f" * 11)
    assert shown(future)["f"].mtime_ns == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "mtime_ns"),
    [
        (b"1709210096.123456789", 1709210096123456789),
        (b"1709210096.1234567899", 1709210096123456789),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"7.", 7_000_000_000),
        (b"9" * 19, 2**63 - 1),
    ],
)
def test_pax_time_is_exact(text: bytes, mtime_ns: int) -> None:
    assert shown(_pax((b"mtime", text)) + _block())["f"].mtime_ns == mtime_ns


def test_pax_path_target_and_size_override_the_header() -> None:
    archive = _pax((b"path", b"real"), (b"size", b"3")) + _block() + b"abc" + bytes(509)
    assert shown(archive)["real"].content == b"abc"
    archive = _pax((b"linkpath", b"there")) + _block(kind=b"2", target=b"here")
    assert shown(archive)["f"].target == "there"


def test_global_header_counts_for_all_and_local_overrides_or_deletes_it() -> None:
    archive = (
        _pax((b"mtime", b"5"), (b"comment", b"by git archive"), kind=b"g")
        + _block(b"a")
        + _pax((b"mtime", b"6"))
        + _block(b"b")
        + _pax((b"mtime", b""))
        + _block(b"c", mtime=b"7")
    )
    seconds = {path: member.mtime_ns // 10**9 for path, member in shown(archive).items()}
    assert seconds == {"a": 5, "b": 6, "c": 7}


def test_gnu_long_name_and_target_are_used_once() -> None:
    archive = _tar(
        (_info("n" * 200, tarfile.SYMTYPE, "t" * 200), b""),
        (_info("next"), b""),
        form=tarfile.GNU_FORMAT,
    )
    members = shown(archive)
    assert set(members) == {"n" * 200, "next"}
    assert members["n" * 200].target == "t" * 200


@pytest.mark.parametrize("kind", [b"3", b"4", b"6"])
def test_devices_and_pipes_are_left_out_without_a_problem(kind: bytes) -> None:
    archive = _block(b"dev", kind, b"100") + _block(b"f")
    assert set(shown(archive)) == {"f"}
    assert scan(archive).problems == ()


def test_device_of_a_harmful_name_is_a_problem() -> None:
    assert scan(_block(b"/dev/sda", b"4")).problems == ("absolute path '/dev/sda'",)


def test_member_of_unknown_type_is_skipped_with_its_data() -> None:
    archive = _block(b"vol", b"V", b"1") + b"x" * 512 + _block(b"f")
    assert set(shown(archive)) == {"f"}


def test_links_and_directories_have_no_data_whatever_their_size() -> None:
    archive = _block(b"a") + b"".join(
        _block(name, kind, b"1000", target=b"a")
        for name, kind in ((b"d", b"5"), (b"l", b"2"), (b"h", b"1"))
    )
    assert set(shown(archive)) == {"a", "d", "l", "h"}


def test_hard_link_is_the_earlier_file() -> None:
    archive = _tar((_info("d/a"), b"content"), (_info("b", tarfile.LNKTYPE, "./d/a"), b""))
    members = shown(archive)
    assert members["b"] == members["d/a"]
    assert members["b"].link_count == 2


def test_absolute_and_parent_members_are_problems_and_left_out() -> None:
    archive = _block(b"/etc/passwd") + _block(b"../x") + _block(b"./a/../ok")
    assert set(shown(archive)) == {"ok"}
    assert scan(archive).problems == (
        "absolute path '/etc/passwd'",
        "leaves the directory: '../x'",
    )


def test_old_gnu_sparse_with_extensions() -> None:
    pairs = [(4096 * number, 1) for number in range(30)]

    def entries(some: list[tuple[int, int]]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % pair for pair in some)

    extension = entries(pairs[4:25]).ljust(504, b"\0") + b"\1" + bytes(7)
    last = entries(pairs[25:]).ljust(512, b"\0")
    header = _block(
        b"s",
        b"S",
        b"%o" % 30,
        sparse=entries(pairs[:4]),
        extended=b"\1",
        real=b"%011o\0" % 200_000,
    )
    content = shown(header + extension + last + b"d" * 30 + bytes(482) + _block(b"f"))["s"].content
    expected = bytearray(200_000)
    for offset, _ in pairs:
        expected[offset] = ord("d")
    assert content == expected


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 10), (5, 10)],
        [(10, 5), (0, 5)],
        [(95, 10)],
        [(0, 50)],
    ],
)
def test_impossible_sparse_map_is_invalid(pairs: list[tuple[int, int]]) -> None:
    """Overlapping, out of order, behind the end, and more than is stored."""
    text = b",".join(b"%d,%d" % pair for pair in pairs)
    archive = _pax((b"GNU.sparse.map", text), (b"GNU.sparse.size", b"100"))
    with pytest.raises(InvalidContent, match="sparse map"):
        scan(archive + _block(size=b"24") + bytes(512))


@pytest.mark.parametrize(
    "data",
    [b"x\n", b"2\n0\n", b"1" * 30, b"-1\n", b"1\n0\n9999999999999999999\n"],
)
def test_damaged_sparse_map_of_format_1_0_is_invalid(data: bytes) -> None:
    archive = _pax(
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")
    )
    with pytest.raises(InvalidContent):
        scan(archive + _block(size=b"1000") + data.ljust(512, b"\0"))
    with pytest.raises(InvalidContent, match="missing sparse map"):
        scan(archive + _block())


def test_sparse_map_that_is_longer_than_the_data_is_invalid() -> None:
    archive = _pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
    with pytest.raises(InvalidContent, match="truncated sparse map"):
        scan(archive + _block(size=b"10") + b"1000\n" + b"1\n" * 253 + b"1")


@pytest.mark.parametrize(
    "record",
    [(b"GNU.sparse.map", b"1,2,3"), (b"GNU.sparse.offset", b"1"), (b"GNU.sparse.map", b"1,x")],
)
def test_half_a_sparse_map_is_invalid(record: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidContent):
        scan(_pax(record, (b"GNU.sparse.size", b"9")) + _block())


def test_adjacent_segments_are_one_extent() -> None:
    archive = _pax((b"GNU.sparse.map", b"10,2,12,3,15,0"), (b"GNU.sparse.size", b"20"))
    index = scan(archive + _block(size=b"5") + b"abcde" + bytes(507))
    assert index.extents(1) == (Extent(10, 1536, 5),)


def test_old_sparse_map_of_too_many_segments_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_SEGMENTS", 30)
    entries = b"".join(b"%011o\0%011o\0" % (number * 4096, 1) for number in range(21))
    header = _block(b"s", b"S", b"1", extended=b"\1", real=b"%011o\0" % (1 << 30))
    with pytest.raises(ContentRefused, match="over 30 segments in 's'"):
        scan(header + 2 * (entries.ljust(504, b"\0") + b"\1" + bytes(7)))


def test_directory_of_an_incremental_archive_has_its_listing_skipped() -> None:
    archive = _block(b"d", b"D", b"3") + b"Yf\0".ljust(512, b"\0") + _block(b"d/f")
    assert set(shown(archive)) == {"d", "d/f"}


def test_sparse_map_of_too_many_segments_is_refused() -> None:
    archive = _pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
    with pytest.raises(ContentRefused, match="segments in a sparse file"):
        scan(archive + _block(size=b"1000") + b"250001\n".ljust(512, b"\0"))


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
    ids="-".join,
)
@pytest.mark.parametrize("chunk_size", [100, 1 << 20])
def test_sparse_files_of_gnu_tar(tmp_path: Path, options: list[str], chunk_size: int) -> None:
    path = tmp_path / "holes"
    with path.open("wb") as file:
        for number in range(40):
            file.seek(number * 65_536)
            file.write(bytes([number + 1]) * 4096)
        file.truncate(40 * 65_536 + 5)
    command = ["tar", "-C", str(tmp_path), "-S", *options, "-cf", "-", "holes"]
    archive = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    assert len(archive) < 1_000_000
    assert shown(archive, chunk_size)["holes"].content == path.read_bytes()
    assert shown(archive)["holes"].mtime_ns // 10**9 == path.stat().st_mtime_ns // 10**9


def test_gnu_tar_of_a_real_directory(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / ("n" * 150)).write_bytes(b"long")
    (tree / "link").symlink_to("sub")
    (tree / "hard").write_bytes(b"h")
    os.link(tree / "hard", tree / "sub" / "hard")
    for form in ("v7", "ustar", "gnu", "posix"):
        command = ["tar", "-C", str(tmp_path), f"--format={form}", "-cf", "-", "tree"]
        process = subprocess.run(command, check=False, capture_output=True, timeout=30)
        members = shown(process.stdout)
        assert members["tree/link"].target == "sub"
        assert members["tree/hard"].link_count == 2
        long_name = f"tree/sub/{'n' * 150}"
        assert (long_name in members) == (form in ("gnu", "posix"))


def test_mutated_archives_raise_nothing_but_invalid_content() -> None:
    source = random.Random(11)  # noqa: S311 - a repeatable fuzz, no secret
    sparse = _pax(
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"99")
    )
    sparse += _block(b"sparse", size=b"2000") + b"2\n0\n5\n90\n5\n".ljust(1024, b"\0")
    members = [
        (_info("d", tarfile.DIRTYPE), b""),
        (_info("d/" + "n" * 120), b"content" * 100),
        (_info("d/l", tarfile.SYMTYPE, "t" * 120), b""),
        (_info("h", tarfile.LNKTYPE, "d/l"), b""),
        (_info("é"), b"x"),
    ]
    seeds = [_tar(*members, form=FORMATS[form]) for form in ("gnu", "pax")]
    seeds.append(_pax((b"mtime", b"1.5"), kind=b"g") + sparse + _block(b"end"))
    refused = 0
    for seed in seeds:
        for _ in range(2000):
            try:
                shown(_mutated(seed, source), source.choice([100, 1 << 20]))
            except InvalidContent:
                refused += 1
    assert refused > 1000


def _mutated(seed: bytes, source: random.Random) -> bytes:
    """Change bytes or cut; then mend the checksums of half of them, to come further."""
    archive = bytearray(seed)
    for _ in range(source.randint(1, 3)):
        archive[source.randrange(len(archive))] = source.choice([0, 32, 47, 48, 55, 120, 128, 255])
    if source.random() < 0.1:
        del archive[source.randrange(len(archive)) :]
    if source.random() < 0.5:
        for start in range(0, len(archive) - 511, 512):
            if archive[start + 257 : start + 262] == b"ustar":
                archive[start + 148 : start + 156] = b"        "
                total = sum(archive[start : start + 512])
                archive[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(archive)


def test_gigabyte_of_zeros_in_one_member_takes_constant_memory() -> None:
    scanner = TarScanner()
    mebibyte = bytes(1 << 20)
    tracemalloc.start()
    scanner.feed(_block(size=b"%o" % (1 << 30)))
    for _ in range(1024):
        scanner.feed(mebibyte)
    built = scanner.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(built) < 1000
    assert peak < 1 << 16


def test_repr_tells_how_far_it_is() -> None:
    scanner = TarScanner()
    scanner.feed(_block())
    assert repr(scanner) == "TarScanner(offset=512, phase=MEMBERS)"
