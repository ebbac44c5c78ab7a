"""A slab is compared with the tar of its layer, file by file."""

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orasfs.errors import InvalidContent, StorageFailure
from orasfs.store.packed.slabs import differing, paths_of, stored
from orasfs.tree.layerindex import OWN_BLOB_BYTES, LayerIndex
from orasfs.tree.tar import TarScanner
from tests.support.archives import Add, directory, file, files, link, tar_of
from tests.support.published import Parts

FILES = {f"docs/{number:02}": bytes([number + 1]) * 1000 * number for number in range(8)}


def indexed(tar: bytes) -> LayerIndex:
    scanner = TarScanner()
    scanner.feed(tar)
    return LayerIndex(scanner.finish())


def slab_of(index: LayerIndex, tar: bytes) -> bytearray:
    """Return what a pass writes, by the places alone."""
    slab = bytearray(index.slab_size)
    for ordinal in range(len(index)):
        for extent in index.extents(ordinal):
            place = index.place(ordinal)
            if place.blob is None:
                at = place.offset + extent.tar_offset - place.tar_offset
                part = tar[extent.tar_offset : extent.tar_offset + extent.length]
                slab[at : at + extent.length] = part
    return slab


def in_steps(tar: bytes, step: int) -> Iterator[memoryview]:
    for start in range(0, len(tar), step):
        yield memoryview(tar)[start : start + step]


def wrong_in(root: Path, slab: bytes | bytearray, tar: bytes, step: int = 4096) -> list[str]:
    index = indexed(tar)
    path = root / "slab"
    path.write_bytes(slab)
    fd = os.open(path, os.O_RDONLY)
    try:
        ordinals = list(differing(index, fd, in_steps(tar, step)))
    finally:
        os.close(fd)
    assert len(set(ordinals)) == len(ordinals)
    return sorted(paths_of(index, ordinals))


def sparse(name: str, segments: Mapping[int, bytes], size: int) -> Add:
    """Add a sparse file, as GNU tar does in the pax form 1.0."""

    def add(archive: tarfile.TarFile) -> None:
        words = [len(segments)]
        for offset, part in segments.items():
            words += [offset, len(part)]
        table = "".join(f"{word}\n" for word in words).encode().ljust(512, b"\0")
        stored = table + b"".join(segments.values())
        member = tarfile.TarInfo(name)
        member.size = len(stored)
        member.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(size),
        }
        archive.addfile(member, io.BytesIO(stored))

    return add


MIXED = tar_of(
    directory("docs"),
    *files(FILES),
    file("docs/large", os.urandom(OWN_BLOB_BYTES)),
    sparse("docs/holes", {0: b"a" * 700, 90_000: b"b" * 800}, 200_000),
    link("docs/near", "01"),
    link("docs/hard", "docs/02", tarfile.LNKTYPE),
    file("docs/replaced", b"before"),
    file("docs/replaced", b"behind"),
    file("docs/last", b"end"),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), step=st.integers(300, 50_000))
def test_a_wrong_byte_is_found_and_told_by_the_name_of_its_file(
    tmp_path: Path, data: st.DataObject, step: int
) -> None:
    index = indexed(MIXED)
    slab = slab_of(index, MIXED)
    assert wrong_in(tmp_path, slab, MIXED, step) == []
    place = data.draw(st.integers(0, len(slab) - 1))
    slab[place] ^= 1 << data.draw(st.integers(0, 7))
    at = 0
    for each in stored(index):
        at += each.stop - each.start
        if place < at:
            assert wrong_in(tmp_path, slab, MIXED, step) == list(paths_of(index, [each.ordinal]))
            break


def test_all_that_is_small_is_compared_and_nothing_that_is_not(tmp_path: Path) -> None:
    index = indexed(MIXED)
    wrong = bytes(byte ^ 0xFF for byte in slab_of(index, MIXED))
    small = {name for name, content in FILES.items() if content} - {"docs/02"}
    found = set(wrong_in(tmp_path, wrong, MIXED))
    linked = found & {"docs/02", "docs/hard"}
    assert len(linked) == 1, "of two names of one file, one"
    assert found - linked == {*small, "docs/holes", "docs/replaced", "docs/last"}


def test_names_are_told_as_their_bytes_are(tmp_path: Path) -> None:
    tar = tar_of(file("docs/\udcff\n", b"odd"))
    assert wrong_in(tmp_path, b"0dd", tar) == ["docs/\udcff\n"]


def test_index_that_is_of_another_tar_is_not_compared(tmp_path: Path) -> None:
    tar = tar_of(*files(FILES))
    index = indexed(tar)
    path = tmp_path / "slab"
    path.write_bytes(slab_of(index, tar))
    with path.open("rb") as slab, pytest.raises(InvalidContent, match="behind the end"):
        list(differing(index, slab.fileno(), [tar[:3000]]))


def test_slab_that_ends_early_is_said_so(tmp_path: Path) -> None:
    tar = tar_of(*files(FILES))
    with pytest.raises(StorageFailure):
        wrong_in(tmp_path, slab_of(indexed(tar), tar)[:-1], tar)


def test_index_whose_files_do_not_lie_one_behind_the_other_is_refused() -> None:
    parts = Parts.of(bytes(indexed(tar_of(*files(FILES))).buffer))
    moved = max(parts.records, key=lambda record: record[1])  # the last one in the slab
    moved[1] += 1
    with pytest.raises(InvalidContent, match="behind the one before"):
        list(stored(LayerIndex(parts.to_bytes())))
    moved[1] -= 1
    parts.sizes[0] += 1
    with pytest.raises(InvalidContent, match="files of 28000 bytes in 28001"):
        list(stored(LayerIndex(parts.to_bytes())))
