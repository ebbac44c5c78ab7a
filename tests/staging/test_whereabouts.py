"""What one mount remembers of where blobs are."""

from orasfs.oci.digest import Digest
from orasfs.staging.whereabouts import Remembered

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


def test_repositories_are_remembered_by_registry_and_digest() -> None:
    seen = Remembered()
    seen.note("a:5000", "team/x", [ONE, TWO])
    seen.note("a:5000", "team/y", [ONE])
    seen.note("b:5000", "team/z", [ONE])
    assert seen.repositories("a:5000", ONE) == ["team/x", "team/y"]
    assert seen.repositories("a:5000", TWO) == ["team/x"]
    assert seen.repositories("c:5000", ONE) == []
