"""Published indexes: the same for the same layer, and refused wherever a tar would be."""

import hashlib
import io
import os
import struct
import sys
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orasfs.errors import InvalidContent
from orasfs.oci.digest import Digest
from orasfs.staging.layerblob import Compression
from orasfs.tree import publishedindex
from orasfs.tree.filedigests import DIGEST_BYTES, FileDigests, FileHashes
from orasfs.tree.layerindex import RECORD, LayerIndex
from orasfs.tree.publishedindex import Published, decode, encode, fingerprint
from orasfs.tree.tar import TarScanner
from tests.support.archives import Add, directory, file, files, link, tar_of
from tests.support.published import (
    FILES,
    Parts,
    changed,
    described,
    hashed,
    indexed,
    packed,
    published,
    vouching,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOB = packed()
LAYER = described(BLOB)
TAR_AT, PLACE_AT, SIZE_AT, MTIME_AT, FIRST_AT, COUNT_AT, LINKS_AT, MODE_AT, KIND_AT = range(9)
FLAGS_AT = 9


@pytest.mark.parametrize("compression", list(Compression))
def test_what_is_published_tells_all_of_a_layer_but_digests_of_blobs(
    compression: Compression,
) -> None:
    blob = packed(compression)
    index, _ = indexed(blob)
    found = decode(published(blob), described(blob), "docs")
    for path, content in FILES.items():
        ordinal = found.index.locate(path)
        assert ordinal == LayerIndex(index).locate(path)
        assert ordinal is not None
        assert found.index.member(ordinal).size == len(content)
    assert found.chunks.size == found.index.tar_size
    assert [found.index.blob(number).hex for number in range(found.index.blobs)] == ["0" * 64]
    assert found.fingerprint == fingerprint(index)


def test_same_layer_gives_the_same_bytes_whatever_is_known_of_its_blobs() -> None:
    index, table = indexed(BLOB)
    parts = Parts.of(index)
    parts.blobs = bytearray(b"\1" * len(parts.blobs))
    assert encode(parts.to_bytes(), table, LAYER, "docs") == encode(index, table, LAYER, "docs")
    assert fingerprint(parts.to_bytes()) == fingerprint(index)


def _ordinal(found: Published, path: str) -> int:
    ordinal = found.index.locate(path)
    assert ordinal is not None
    return ordinal


def test_digests_of_files_are_told_by_an_index_that_the_layer_names() -> None:
    made = published(BLOB)
    found = decode(made, vouching(LAYER, made), "docs")
    assert found.digests is not None
    for path, content in FILES.items():
        wanted = hashlib.sha256(content).digest()
        assert found.digests.find(_ordinal(found, path)) == wanted
    for path in ("docs", "docs/link"):
        assert found.digests.find(_ordinal(found, path)) is None
    assert found.fingerprint == decode(published(BLOB, b""), LAYER, "docs").fingerprint


def test_digests_of_files_are_not_told_by_an_index_that_the_layer_does_not_name() -> None:
    made = published(BLOB)
    for layer in (LAYER, vouching(LAYER, made + b"x")):
        assert decode(made, layer, "docs").digests is None


def test_index_may_have_no_digests_of_files() -> None:
    made = published(BLOB, b"")
    found = decode(made, vouching(LAYER, made), "docs")
    assert found.digests is None
    assert found.index.locate("docs/small") is not None


def test_digests_are_left_out_where_they_make_an_index_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = published(BLOB, b"")
    monkeypatch.setattr(publishedindex, "MAX_BYTES", len(zstd.decompress(bare)))
    assert published(BLOB) == bare


def _sparse_file(archive: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("docs/sparse")
    member.size = 3
    member.pax_headers = {"GNU.sparse.map": "2,3", "GNU.sparse.size": "9"}
    archive.addfile(member, io.BytesIO(b"xyz"))


def test_files_without_bytes_and_sparse_ones_have_no_digest() -> None:
    large = file("docs/z", os.urandom(1_500_000))
    adds = (directory("docs"), file("docs/a", b""), _sparse_file, file("docs/b", b"b"), large)
    tar = tar_of(*adds)
    blob = packed(tar=tar)
    made = published(blob)
    found = decode(made, vouching(described(blob), made), "docs")
    assert found.digests is not None
    digests = [found.digests.find(_ordinal(found, f"docs/{name}")) for name in ("a", "sparse")]
    assert digests == [None, None]
    wanted = hashlib.sha256(b"b").digest()
    assert found.digests.find(_ordinal(found, "docs/b")) == wanted
    wrong = changed(blob, digests=b"\1" * (4 * DIGEST_BYTES))
    with pytest.raises(InvalidContent, match="a digest of file"):
        decode(wrong, described(blob), "docs")


@pytest.mark.parametrize("count", [-32, -1, 1, 32])
def test_digests_that_are_not_as_many_as_files_are_refused(count: int) -> None:
    size = len(hashed(BLOB)[2]) + count
    with pytest.raises(InvalidContent, match="not as many digests"):
        decode(changed(BLOB, digests=bytes(size)), LAYER, "docs")


@given(st.lists(st.integers(0, 1_200_000), max_size=6), st.integers(1, 70_000))
@settings(max_examples=25)
def test_each_file_has_its_own_digest_however_its_bytes_come(sizes: list[int], step: int) -> None:
    """Small and large files are counted apart from one another."""
    content = {f"docs/{number}": bytes([number + 1]) * size for number, size in enumerate(sizes)}
    tar, hashes = tar_of(directory("docs"), *files(content)), FileHashes()
    scanner = TarScanner(hashes)
    for start in range(0, len(tar), step):
        scanner.feed(tar[start : start + step])
    index = LayerIndex(scanner.finish())
    found = FileDigests(index, hashes.in_order(index))
    for path, each in content.items():
        wanted = hashlib.sha256(each).digest() if each else None
        assert found.find(index.locate(path) or 0) == wanted


def test_other_members_have_another_fingerprint() -> None:
    parts = Parts.of(indexed(BLOB)[0])
    parts.records[2][MODE_AT] ^= 1
    assert fingerprint(parts.to_bytes()) != fingerprint(indexed(BLOB)[0])


@pytest.mark.parametrize(
    "refused",
    [file("../out", b"x"), link("docs/link", "../../out"), file("beside", b"x")],
    ids=["name", "link", "beside"],
)
def test_layer_that_is_refused_is_not_published(refused: Add) -> None:
    blob = packed(tar=tar_of(directory("docs"), file("docs/large", bytes(3_000_000)), refused))
    assert encode(*indexed(blob), described(blob), "docs") is None


def test_index_that_is_too_large_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishedindex, "MAX_BYTES", 1000)
    assert encode(*indexed(BLOB), LAYER, "docs") is None


def _name(name: bytes) -> Callable[[Parts], None]:
    """Give the last name of the last directory another one, which sorts behind the others."""
    return lambda parts: parts.rename(len(parts.entries) - 1, name)


def _duplicate(parts: Parts) -> None:
    parts.rename(len(parts.entries) - 1, parts.name(len(parts.entries) - 2))


def _set(name: bytes, at: int, value: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.records[parts.ordinal(name)][at] = value

    return change


def _target(target: bytes) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        record = parts.records[parts.ordinal(b"link")]
        record[PLACE_AT], record[SIZE_AT] = parts.text(target), len(target)

    return change


def _drop_entry(parts: Parts) -> None:
    parts.records[parts.ordinal(b"sub")][COUNT_AT] -= 1


def _two_parents(parts: Parts) -> None:
    """Let the entries of one directory be those of the one above it, too."""
    sub, docs = parts.ordinal(b"sub"), parts.ordinal(b"docs")
    parts.records[sub][FIRST_AT] = parts.records[docs][FIRST_AT] + 1
    parts.records[sub][COUNT_AT] = 1


def _cycle(parts: Parts) -> None:
    parts.entries[-1][1] = parts.ordinal(b"docs")


def _blob_digest(parts: Parts) -> None:
    parts.blobs[5] = 1


def _beside(parts: Parts) -> None:
    parts.rename(0, b"elsewhere")


def _deep(parts: Parts) -> None:
    parts.problems = struct.pack("<I", 3) + b"bad"


def _sparse(extents: list[list[int]]) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        record = parts.records[parts.ordinal(b"small")]
        record[FIRST_AT], record[COUNT_AT], record[FLAGS_AT] = 0, len(extents), 2
        parts.extents = extents

    return change


HOSTILE: dict[str, Callable[[Parts], None]] = {
    "name with a slash": _name(b"99/x"),
    "parent": _name(b".."),
    "absolute": _name(b"/etc"),
    "empty": _name(b""),
    "NUL": _name(b"99\0"),
    "long": _name(b"9" * 256),
    "twice": _duplicate,
    "not sorted": _name(b"000"),
    "link out": _target(b"../../etc/passwd"),
    "absolute link": _target(b"/etc/passwd"),
    "empty link": _target(b""),
    "link with NUL": _target(b"a\0b"),
    "long link": _target(b"a" * 5000),
    "behind the tar": _set(b"small", TAR_AT, 1 << 40),
    "at another file's bytes": _set(b"small", TAR_AT, 1536),
    "larger than the layer": _set(b"small", SIZE_AT, 1 << 40),
    "enormous": _set(b"small", SIZE_AT, 1 << 63),
    "elsewhere on disk": _set(b"small", PLACE_AT, 0),
    "another blob": _set(b"large", PLACE_AT, 7),
    "blob that is none": _set(b"small", FLAGS_AT, 4),
    "no kind": _set(b"small", KIND_AT, 9),
    "root of another kind": _set(b"docs", KIND_AT, 2),
    "odd mode": _set(b"small", MODE_AT, 0o10644),
    "odd flags": _set(b"small", FLAGS_AT, 64),
    "odd time": _set(b"small", MTIME_AT, -(2**63)),
    "links that are none": _set(b"small", LINKS_AT, 2),
    "hidden entry": _drop_entry,
    "two parents": _two_parents,
    "cycle": _cycle,
    "names blobs": _blob_digest,
    "beside the directory": _beside,
    "problems": _deep,
    "extents that overlap": _sparse([[0, 600, 3], [2, 700, 3]]),
    "extents behind the file": _sparse([[0, 600, 50]]),
    "extents missing": _sparse([]),
    "slab": lambda parts: parts.sizes.__setitem__(0, 1),
    "tar": lambda parts: parts.sizes.__setitem__(1, 1 << 50),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_index_that_no_tar_could_have_is_refused(how: str) -> None:
    wrong = changed(BLOB, HOSTILE[how])
    with pytest.raises(InvalidContent):
        decode(wrong, LAYER, "docs")


def test_what_is_put_together_unchanged_is_taken() -> None:
    assert decode(changed(BLOB), LAYER, "docs").index.locate("docs/small") is not None


def _number(at: int, value: int) -> Callable[[bytearray], None]:
    return lambda table: struct.pack_into("<Q", table, at, value)


_BEGINS = 24 + 8 * 11  # of a table of ten chunks


def _one_long(table: bytearray) -> None:
    """Let the first chunk be of all but the end of an enormous blob."""
    struct.pack_into("<Q", table, 16, 1 << 50)


def _same_place(table: bytearray) -> None:
    struct.pack_into("<QQ", table, _BEGINS + 8, 30, 30)


CHUNKS: dict[str, Callable[[bytearray], None]] = {
    "form": lambda table: struct.pack_into("<H", table, 10, 3),
    "count": lambda table: struct.pack_into("<I", table, 12, 1 << 30),
    "longer than a chunk may be": _number(24 + 8, 1 << 30),
    "backwards": _number(24 + 16, 5),
    "behind the blob": _one_long,
    "same place": _same_place,
    "truncated": lambda table: table.__delitem__(slice(-5, None)),
    "nothing": lambda table: table.clear(),
}


@pytest.mark.parametrize("how", CHUNKS)
def test_chunks_that_cannot_be_the_layers_are_refused(how: str) -> None:
    with pytest.raises(InvalidContent):
        decode(changed(BLOB, chunks=CHUNKS[how]), LAYER, "docs")


def test_table_of_more_chunks_than_there_can_be_is_refused_before_it_is_read() -> None:
    table = bytearray(indexed(BLOB)[1])

    def many(made: bytearray) -> None:
        made += bytes(48 * 200)
        struct.pack_into("<I", made, 12, struct.unpack_from("<I", table, 12)[0] + 200)

    with pytest.raises(InvalidContent, match="more chunks"):
        decode(changed(BLOB, chunks=many), LAYER, "docs")


@pytest.mark.parametrize("at", [0, 8, 12, 44, 52, 60, 68])
def test_header_of_another_layer_version_or_length_is_refused(at: int) -> None:
    def head(made: bytearray) -> None:
        made[at] ^= 1

    with pytest.raises(InvalidContent):
        decode(changed(BLOB, head=head), LAYER, "docs")


def test_index_of_another_layer_is_refused() -> None:
    other = packed(Compression.NONE)
    with pytest.raises(InvalidContent, match="of another layer"):
        decode(published(other), LAYER, "docs")
    with pytest.raises(InvalidContent, match="is outside of it"):
        decode(published(BLOB), LAYER, "other")


def test_bomb_is_refused() -> None:
    bomb = zstd.compress(bytes(publishedindex.MAX_BYTES + 1))
    with pytest.raises(InvalidContent, match="of over"):
        decode(bomb, LAYER, "docs")
    with pytest.raises(InvalidContent, match="not compressed"):
        decode(BLOB, LAYER, "docs")


def test_directories_that_share_entries_are_no_bomb_either() -> None:
    """Each of thirty levels has the next one twice: that is 2 to the 30 paths."""
    names = [f"{depth:02}" for depth in range(30)]
    levels = ["/".join(["docs", *names[: depth + 1]]) for depth in range(30)]
    tar = tar_of(directory("docs"), *map(directory, levels), file("docs/x", bytes(3_000_000)))
    blob = packed(tar=tar)

    def change(parts: Parts) -> None:
        for record in parts.records[2:-3]:
            record[COUNT_AT] = 2

    with pytest.raises(InvalidContent):
        decode(changed(blob, change), described(blob), "docs")


@given(st.data())
def test_any_change_of_a_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    """Whatever stands there, a walk ends, and reads stay within the tar."""
    index, _ = indexed(SMALL)
    at = data.draw(st.integers(0, len(index) - 1))
    value = data.draw(st.integers(0, 255))

    def change(parts: Parts) -> None:
        content = bytearray(parts.to_bytes())
        content[at] = value
        parts.to_bytes = lambda: bytes(content)  # type: ignore[method-assign]

    try:
        found = decode(changed(SMALL, change), described(SMALL), "docs").index
    except InvalidContent:
        return
    walked, stack = 0, [0]
    while stack:
        directory_number = stack.pop()
        for row in found.rows(directory_number):
            walked += 1
            if row[2] == 1:
                stack.append(row[1])
            elif row[2] == 2:
                assert all(
                    extent.tar_offset + extent.length <= found.tar_size
                    for extent in found.extents(row[1])
                )
    assert walked <= len(index) // RECORD.size


SMALL = packed(
    tar=tar_of(
        directory("docs"),
        file("docs/a", bytes(3_000_000)),
        link("docs/l", "a"),
        directory("docs/s"),
    )
)


def test_digests_other_than_sha256_are_not_published() -> None:
    layer = described(BLOB)
    other = type(layer)(layer.media_type, Digest.of(BLOB, "sha512"), layer.size)
    assert encode(*indexed(BLOB), other, "docs") is None
