from pathlib import Path

import pytest

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.store.references import References

ONE = Descriptor("a/b", Digest.of(b"one"), 3)
TWO = Descriptor("a/b", Digest.of(b"two"), 3)


def test_what_was_remembered_is_known_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "orasfs" / "references.sqlite"
    first = References(path)
    first.remember_tag("host", "team/a", "v1", ONE)
    first.remember_tag("host", "team/a", "v1", TWO)
    first.remember_tags("host", "team/a", ["v1", "v2"])
    first.close()
    second = References(path)
    assert second.tag("host", "team/a", "v1") == TWO
    assert second.tag("other", "team/a", "v1") is None
    assert second.tags("host", "team/a") == ("v1", "v2")
    assert second.tags("host", "team/b") is None
    second.close()


def test_what_was_forgotten_stays_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    first = References(path)
    first.remember_tag("host", "a", "v1", ONE)
    first.remember_tags("host", "a", [])
    first.forget_tag("host", "a", "v1")
    first.forget_tag("host", "a", "never")
    first.forget_tags("host", "a")
    first.forget_tags("host", "never")
    first.close()
    second = References(path)
    assert second.tag("host", "a", "v1") is None
    assert second.tags("host", "a") is None
    second.close()


def test_layers_of_a_title_are_known_after_reopening_the_latest_first(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    digests = [Digest.of(bytes([number])) for number in range(10)]
    first = References(path)
    for digest in (*digests, digests[4], digests[4]):
        first.remember_layer("host", "a", "docs", digest)
    first.remember_layer("host", "b", "docs", digests[0])
    wanted = tuple(digests[number] for number in (4, 9, 8, 7, 6, 5, 3, 2))
    assert first.layers("host", "a", "docs") == wanted
    first.close()
    assert first.layers("host", "a", "docs") == wanted
    second = References(path)
    assert second.layers("host", "a", "docs") == wanted
    assert second.layers("host", "b", "docs") == (digests[0],)
    for other in (("host", "a", "other"), ("else", "a", "docs"), ("host", "c", "docs")):
        assert second.layers(*other) == ()
    second.remember_layer("host", "a", "docs", digests[0])
    assert second.layers("host", "a", "docs") == (digests[0], *wanted[:7])
    second.close()


def test_layer_that_is_the_latest_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    first, second = References(path), References(path)
    first.remember_layer("host", "a", "docs", ONE.digest)
    changes = first._connection.total_changes if first._connection else 0
    first.remember_layer("host", "a", "docs", ONE.digest)
    assert changes
    assert first._connection
    assert first._connection.total_changes == changes
    assert second.layers("host", "a", "docs") == (ONE.digest,)
    first.close()
    second.close()


def test_repositories_are_those_with_a_tag_or_a_list_that_is_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    first = References(path)
    first.remember_tag("host", "team/b", "v1", ONE)
    first.remember_tags("host", "team/a", ["v1", "v2"])
    first.remember_tags("host", "team", [])
    first.remember_tag("other", "c", "v1", ONE)
    assert first.repositories("host") == ("team/a", "team/b")
    first.close()
    second = References(path)
    assert second.repositories("host") == ("team/a", "team/b")
    assert second.repositories("nowhere") == ()
    second.close()


def test_two_mounts_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    first, second = References(path), References(path)
    first.remember_tag("host", "a", "v1", ONE)
    assert second.tag("host", "a", "v1") == ONE
    first.close()
    second.close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, b"SQLite format 3\0x"])
def test_damaged_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "references.sqlite"
    path.write_bytes(content)
    references = References(path)
    assert references.tag("host", "a", "v1") is None
    references.remember_tag("host", "a", "v1", ONE)
    references.close()
    again = References(path)
    assert again.tag("host", "a", "v1") == ONE
    again.close()


def test_file_damaged_while_open_costs_only_what_was_in_it(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    references = References(path)
    for number in range(500):
        references.remember_tag("host", "a", f"v{number}", ONE)
    references.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    damaged = References(path)
    for _ in range(2):
        damaged.tag("host", "a", "v7")
    damaged.remember_tag("host", "a", "v7", TWO)
    assert damaged.tag("host", "a", "v7") == TWO
    damaged.close()


def test_without_a_usable_file_this_mount_remembers(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    references = References(tmp_path / "file" / "references.sqlite")
    references.remember_tag("host", "a", "v1", ONE)
    references.remember_tags("host", "a", ["v1"])
    assert references.tag("host", "a", "v1") == ONE
    assert references.tags("host", "a") == ("v1",)
    references.forget_tag("host", "a", "v1")
    assert references.tag("host", "a", "v1") is None
    references.close()
    references.close()


def test_rows_that_make_no_sense_are_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "references.sqlite"
    references = References(path)
    references._execute("INSERT INTO tags VALUES ('host', 'a', 'v1', 'a/b', 'nonsense', 3)", ())
    references._execute("INSERT INTO tag_lists VALUES ('host', 'a', 'nonsense')", ())
    assert references.tag("host", "a", "v1") is None
    assert references.tags("host", "a") is None
    references.close()
