"""Parsed manifests and their views, kept in memory within a bound.

Owns the bound: what falls out is fetched again through the cache on disk. Pure.
"""

from dataclasses import dataclass, field

from cachetools import LRUCache

from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest
from orasfs.tree.node import Directory
from orasfs.tree.views import ViewOptions, build_view

MEMORY_BYTES = 32 * 1024 * 1024
_GROWTH = 4  # parsed values and a view take about so many times the bytes of a manifest
_LEAST_BYTES = 2048


@dataclass(slots=True)
class Document:
    """A manifest or an index, and its view once it was asked for."""

    parsed: Manifest | Index
    _view: Directory | None = field(default=None, repr=False)

    def view(self, options: ViewOptions) -> Directory:
        """Return the directory it is shown as; a mount has one set of options."""
        if self._view is None:
            self._view = build_view(self.parsed, options)
        return self._view


class DocumentCache:
    """Documents by digest, the least recently used dropped."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._cache: LRUCache[Digest, Document] = LRUCache(memory_bytes, getsizeof=_weight)

    def get(self, digest: Digest) -> Document | None:
        """Return a document if it is at hand."""
        return self._cache.get(digest)

    def add(self, digest: Digest, document: Document) -> None:
        """Keep a document."""
        self._cache[digest] = document


def _weight(document: Document) -> int:
    return len(document.parsed.raw) * _GROWTH + _LEAST_BYTES
