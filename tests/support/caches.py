"""Caches on the disk of a test, what is read through them, and what they have there."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import trio

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import Source
from orasfs.store.cache import Cache
from orasfs.store.options import CacheOptions
from orasfs.store.repository import CachedRepository
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.layers import Layer, PassingLayer
from orasfs.tree.partialindex import NotKnownYet

BRIEF = CacheOptions(failure_seconds=0.05)  # what failed may be tried again at once
LAZY = replace(BRIEF, lazy_bytes=1000)  # and nearly all is served before it is verified
_SECONDS = 60.0


@asynccontextmanager
async def cache_at(
    root: Path,
    options: CacheOptions | None = None,
    on_mismatch: Callable[[Digest], None] = lambda _: None,
) -> AsyncIterator[Cache]:
    """Have a cache in a directory, for a minute at most."""
    async with trio.open_nursery() as nursery:
        cache = Cache(root, nursery, options=options, on_mismatch=on_mismatch)
        with trio.fail_after(_SECONDS):
            yield cache
            await cache.aclose()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def repository_at(
    root: Path,
    source: Source,
    options: CacheOptions = BRIEF,
    on_mismatch: Callable[[Digest], None] = lambda _: None,
) -> AsyncIterator[CachedRepository]:
    """Have a repository behind a cache in a directory."""
    async with cache_at(root, options, on_mismatch) as cache:
        yield cache.repository(source, "host", "a")


@asynccontextmanager
async def lazy_at(
    root: Path, source: Source, **changes: object
) -> AsyncIterator[tuple[CachedRepository, list[Digest]]]:
    """Have a repository that shows what passes, and the digests of what it had to take back."""
    told: list[Digest] = []
    options = replace(LAZY, **changes)  # type: ignore[arg-type]  # what a test asks for
    async with repository_at(root, source, options, told.append) as repository:
        yield repository, told


async def content(layer: PassingLayer | Layer, path: str) -> bytes:
    """Read a file of a layer, as soon as it is known: at once if it is at hand, and by waiting."""
    is_whole = isinstance(layer.index, LayerIndex)
    # That of a layer that passes becomes a whole one; no other one can wait.
    ordinal = (
        layer.index.locate(path) if is_whole else await locate(cast("PassingLayer", layer), path)
    )
    assert ordinal is not None, path
    reader = layer.open_member(ordinal)
    try:
        at_hand = reader.read_now(0, reader.size)
        read = await reader.read(0, reader.size)
    finally:
        reader.close()
    assert at_hand in (None, read)
    return read


async def contents(layer: PassingLayer | Layer, paths: Iterable[str]) -> dict[str, bytes]:
    """Read files of a layer."""
    return {path: await content(layer, path) for path in paths}


async def locate(layer: PassingLayer, path: str) -> int | None:
    """Return the number of a member, as soon as it is known."""
    while True:
        try:
            return layer.index.locate(path)
        except NotKnownYet:
            await layer.wait_for_more()


def place_of(root: Path, layer: Descriptor) -> Path:
    """Return where the cache has what it made of a layer."""
    return root / "orasfs" / "layers" / layer.digest.algorithm / layer.digest.hex


def forget_bytes(root: Path, *kept: Digest) -> None:
    """Take blobs and slabs out of a cache, as eviction does; indexes stay, and blobs `kept`."""
    names = {digest.hex for digest in kept}
    for found in (*root.glob("orasfs/layers/*/*/slab"), *root.glob("blobs/*/*")):
        if found.name not in names:
            found.unlink()
