import json

from orasfs.oci.digest import Digest
from orasfs.oci.manifest import parse_document
from orasfs.tree.views import ViewOptions
from orasfs.vfs.documents import Document, DocumentCache


def document(number: int) -> tuple[Digest, Document]:
    raw = json.dumps({"schemaVersion": 2, "manifests": [], "annotations": {"n": str(number)}})
    return Digest.of(raw.encode()), Document(parse_document(raw.encode()))


def test_the_least_recently_used_falls_out() -> None:
    cache = DocumentCache(memory_bytes=10_000)
    documents = dict(document(number) for number in range(20))
    for digest, each in documents.items():
        cache.add(digest, each)
    kept = [digest for digest in documents if cache.get(digest) is not None]
    assert 1 <= len(kept) <= 5
    assert kept == list(documents)[-len(kept) :]


def test_a_view_is_built_once() -> None:
    _, each = document(1)
    assert each.view(ViewOptions()) is each.view(ViewOptions())
