"""The ports of the filesystem in memory: registries, repositories and layers, with knobs.

Everything that is asked is counted in `FakeRegistries.calls`, as (method, repository, argument).
"""

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from orasfs.errors import NotFound, OrasfsError, Unsupported
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import BlobReader, Page
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import Extent, LayerIndex, Member
from orasfs.tree.layers import LayerMembers
from orasfs.tree.node import PackedLayer
from orasfs.tree.partialindex import PartialIndex
from orasfs.tree.tar import TarScanner
from orasfs.vfs.ports import Registry, Repository

TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
EMPTY = {"mediaType": mediatype.EMPTY, "digest": str(Digest.of(b"{}")), "size": 2}

Call = tuple[str, str, str]
Json = dict[str, object]


class FakeReader:
    """An open blob; with `is_slow` its bytes are never there without waiting."""

    def __init__(self, content: bytes, *, is_slow: bool = False) -> None:
        self._content = content
        self._is_slow = is_slow
        self.is_verified = True
        self.is_closed = False

    @property
    def size(self) -> int:
        return len(self._content)

    def read_now(self, offset: int, size: int) -> bytes | None:
        return None if self._is_slow else self._content[offset : offset + size]

    async def read(self, offset: int, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._content[offset : offset + size]

    def close(self) -> None:
        self.is_closed = True


def index_of(tar: bytes) -> LayerIndex:
    """Index a plain tar by the standard library's reader."""
    builder = IndexBuilder()
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for info in archive:
            path = info.name.encode()
            mtime_ns = int(info.mtime) * 10**9
            if info.isdir():
                builder.add_directory(path, mode=info.mode, mtime_ns=mtime_ns)
            elif info.issym():
                target = info.linkname.encode()
                builder.add_symlink(path, mode=info.mode, mtime_ns=mtime_ns, target=target)
            elif info.islnk():
                builder.add_hard_link(path, target=info.linkname.encode())
            else:
                extents = [Extent(0, info.offset_data, info.size)] if info.size else []
                builder.add_file(
                    path, mode=info.mode, mtime_ns=mtime_ns, size=info.size, extents=extents
                )
    return LayerIndex(builder.finish(len(tar)))


class FakeLayer:
    """An unpacked layer."""

    def __init__(self, tar: bytes) -> None:
        self.index = index_of(tar)
        self.is_verified = True
        self._slab = tar

    async def wait_for_more(self) -> None:
        await trio.lowlevel.checkpoint()

    def open_member(self, ordinal: int) -> BlobReader:
        extents = self.index.extents(ordinal)
        return FakeReader(
            b"".join(self._slab[e.tar_offset : e.tar_offset + e.length] for e in extents)
        )


class FakePassingLayer:
    """A layer of which a part has passed; all of it has when somebody waits for more."""

    def __init__(self, repository: "FakeRepository", layer: PackedLayer, passed: bytes) -> None:
        self._repository = repository
        self._layer = layer
        self._passed = passed
        scanner = TarScanner()
        scanner.feed(passed)
        self.index: LayerMembers = PartialIndex(scanner.builder, layer)

    async def wait_for_more(self) -> None:
        self._repository.passed.pop(self._layer.descriptor.digest, None)
        self.index = (await self._repository.open_layer(self._layer)).index

    def open_member(self, ordinal: int) -> BlobReader:
        assert isinstance(self.index, PartialIndex)
        extents = self.index.extents(ordinal)
        parts = [self._passed[e.tar_offset : e.tar_offset + e.length] for e in extents]
        return FakeReader(b"".join(parts))


def tar_of(
    members: Mapping[str, bytes | None], *, links: Mapping[str, str] | None = None
) -> bytes:
    """Make a tar: None is a directory; `links` are hard links, or symlinks as `->TARGET`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.mtime = 1_600_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o750
                archive.addfile(info)
            else:
                info.size, info.mode = len(content), 0o640
                archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            is_symlink = target.startswith("->")
            info.type = tarfile.SYMTYPE if is_symlink else tarfile.LNKTYPE
            info.linkname = target.removeprefix("->")
            archive.addfile(info)
    return buffer.getvalue()


@dataclass
class FakeRepository:
    """One repository.

    Knobs: `failure` is raised by every request; `tag_list_failure` by tag lists only; `page_size`
    tags a page; `hides_tags` answers an empty list; `broken_layers` what opening a layer raises;
    `gate`: requests wait for it; `passed`: how much of a layer has passed, until somebody waits
    for more; `peeked`: what the head of a layer tells.
    """

    registry: "FakeRegistry"
    name: str
    tags: dict[str, Descriptor] = field(default_factory=dict)
    content: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    failure: OrasfsError | None = None
    tag_list_failure: OrasfsError | None = None
    hides_tags: bool = False
    page_size: int = 1000
    broken_layers: dict[Digest, OrasfsError] = field(default_factory=dict)
    layers: dict[PackedLayer, FakeLayer] = field(default_factory=dict)
    peeked: dict[Digest, Member] = field(default_factory=dict)
    passed: dict[Digest, int] = field(default_factory=dict)
    gate: trio.Event | None = None
    readers: list[FakeReader] = field(default_factory=list)

    def blob(self, content: bytes) -> Digest:
        digest = Digest.of(content)
        self.content[digest] = content
        return digest

    def layer(self, content: bytes, title: str = "", **annotations: str) -> Json:
        """Add a blob and return its descriptor; keyword names have __ for a dot."""
        found = {key.replace("__", "."): value for key, value in annotations.items()}
        if title:
            found[TITLE] = title
        return {
            "mediaType": "application/vnd.test",
            "digest": str(self.blob(content)),
            "size": len(content),
            "annotations": found,
        }

    def packed(self, tar: bytes, title: str) -> Json:
        return self.layer(tar, title, **{UNPACK: "true"})

    def push(
        self,
        *layers: Json,
        tag: str | None = None,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
        config: Json | None = None,
        artifact_type: str = "application/vnd.test.artifact",
    ) -> Descriptor:
        """Add a manifest and return its descriptor."""
        document: Json = {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config or EMPTY,
            "layers": list(layers),
            "annotations": dict(annotations or {}),
        }
        if subject is not None:
            document["subject"] = descriptor_json(subject)
        return self.push_raw(json.dumps(document).encode(), mediatype.OCI_MANIFEST, tag)

    def push_index(
        self, *children: Descriptor, tag: str, platforms: Sequence[str] = ()
    ) -> Descriptor:
        manifests = [descriptor_json(child) for child in children]
        for manifest, platform in zip(manifests, platforms, strict=False):
            system, architecture = platform.split("/")
            manifest["platform"] = {"os": system, "architecture": architecture}
        document = {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_INDEX,
            "manifests": manifests,
        }
        return self.push_raw(json.dumps(document).encode(), mediatype.OCI_INDEX, tag)

    def push_raw(self, raw: bytes, media_type: str, tag: str | None) -> Descriptor:
        digest = self.blob(raw)
        descriptor = Descriptor(media_type, digest, len(raw))
        self.manifests[digest] = descriptor
        if tag is not None:
            self.tags[tag] = descriptor
        return descriptor

    async def _asked(self, method: str, argument: str = "") -> None:
        self.registry.calls.append((method, self.name, argument))
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        failure = self.failure or self.registry.failure
        if failure is not None:
            raise failure

    async def resolve(self, reference: str) -> Descriptor:
        await self._asked("resolve", reference)
        if ":" in reference:
            found = self.manifests.get(Digest.parse(reference))
        else:
            found = self.tags.get(reference)
        if found is None:
            raise NotFound(f"{self.name}:{reference}: manifest unknown")
        return found

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        await self._asked("fetch_manifest", str(descriptor.digest))
        return self._content(descriptor.digest)

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        await self._asked("list_tags", token or "")
        if self.tag_list_failure is not None:
            raise self.tag_list_failure
        if self.hides_tags or self.registry.hides_tags:
            return Page(())
        if not self.tags:
            raise NotFound(f"{self.name}: name unknown")
        names = sorted(self.tags)
        start = int(token or 0)
        stop = start + (limit or self.page_size)
        return Page(names[start:stop], str(stop) if stop < len(names) else None)

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        await self._asked("list_referrers", str(subject))
        found = []
        for digest, descriptor in self.manifests.items():
            document = parse_document(self.content[digest])
            if (
                isinstance(document, Manifest)
                and document.subject
                and document.subject.digest == subject
            ):
                found.append(descriptor)
        return tuple(found)

    async def open_blob(self, descriptor: Descriptor) -> BlobReader:
        await self._asked("open_blob", str(descriptor.digest))
        reader = FakeReader(self._content(descriptor.digest))
        self.readers.append(reader)
        return reader

    def layer_now(self, layer: PackedLayer) -> FakeLayer | None:
        return self.layers.get(layer)

    async def begin_layer(self, layer: PackedLayer) -> FakeLayer | FakePassingLayer:
        passed = self.passed.get(layer.descriptor.digest)
        if passed is None:
            return await self.open_layer(layer)
        await self._asked("begin_layer", str(layer.descriptor.digest))
        return FakePassingLayer(self, layer, self._content(layer.descriptor.digest)[:passed])

    async def peek_layer(self, layer: PackedLayer) -> Member | None:
        await self._asked("peek_layer", str(layer.descriptor.digest))
        return self.peeked.get(layer.descriptor.digest)

    async def open_layer(self, layer: PackedLayer) -> FakeLayer:
        await self._asked("open_layer", str(layer.descriptor.digest))
        if layer.descriptor.digest in self.broken_layers:
            raise self.broken_layers[layer.descriptor.digest]
        if layer not in self.layers:
            self.layers[layer] = FakeLayer(self._content(layer.descriptor.digest))
        return self.layers[layer]

    def _content(self, digest: Digest) -> bytes:
        if digest not in self.content:
            raise NotFound(f"{self.name}@{digest}: blob unknown")
        return self.content[digest]


def descriptor_json(descriptor: Descriptor) -> Json:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


@dataclass
class FakeRegistry:
    """One registry.

    Knobs: `catalog` is None for a registry that lists what it has, else the names it claims;
    `catalog_failure` is raised instead; `failure` by every request; `hides_tags`: tag lists are
    empty and never fail; `seen_before`: what the cache remembers.
    """

    host: str
    calls: list[Call]
    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    catalog: Sequence[str] | None = None
    catalog_failure: OrasfsError | None = None
    catalog_page_size: int = 1000
    failure: OrasfsError | None = None
    hides_tags: bool = False
    seen_before: Sequence[str] = ()

    def remembered(self) -> Sequence[str]:
        return self.seen_before

    def repository(self, name: str) -> Repository:
        return self.add(name)

    def add(self, name: str) -> FakeRepository:
        return self.repositories.setdefault(name, FakeRepository(self, name))

    async def list_repositories(self, token: str | None = None) -> Page:
        self.calls.append(("list_repositories", "", token or ""))
        await trio.lowlevel.checkpoint()
        failure = self.failure or self.catalog_failure
        if failure is not None:
            raise failure
        names = self.catalog
        if names is None:
            names = sorted(name for name, each in self.repositories.items() if each.tags)
        start = int(token or 0)
        stop = start + self.catalog_page_size
        return Page(names[start:stop], str(stop) if stop < len(names) else None)


@dataclass
class FakeRegistries:
    """All registries; `hosts` are the known ones, `resolvable` those that a look-up finds."""

    hosts: list[str] = field(default_factory=list)
    resolvable: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    registries: dict[str, FakeRegistry] = field(default_factory=dict)

    def registry(self, host: str) -> Registry:
        return self.add(host)

    def add(self, host: str) -> FakeRegistry:
        return self.registries.setdefault(host, FakeRegistry(host, self.calls))

    def known(self) -> Sequence[str]:
        return self.hosts

    async def exists(self, host: str) -> bool:
        self.calls.append(("exists", host, ""))
        await trio.lowlevel.checkpoint()
        return host in self.resolvable

    async def begin_layout(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.hosts.append(name)

    async def drop_layout(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.hosts.remove(name)

    def take_calls(self) -> list[Call]:
        """Return what was asked since the last time."""
        found, self.calls[:] = list(self.calls), []
        return found


NO_CATALOG = Unsupported("the registry has no catalog")
Factory = Callable[[], FakeRegistries]
