"""The nodes of a view: what an artifact looks like as files, before any blob is fetched.

A view is a tree of frozen values made from a manifest or an index alone. Where the inside of a
packed directory begins, a `Directory` names the layers whose members appear in it (`packed`);
`orasfs.tree.merge` looks names up in a directory together with those layers' indexes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A tar layer whose members appear in a directory.

    Attributes:
        descriptor: the layer blob.
        root: the path inside the tar that is this directory: the title for a packed directory,
            "" for a layer of a container image.
        content_digest: of the uncompressed tar, where the annotation gives a valid one.
        has_whiteouts: whether `.wh.` names delete what lower layers have (image-spec layer.md).
        manifest: the digest of a manifest that names it: an index may be published beside that.
    """

    descriptor: Descriptor
    root: str
    content_digest: Digest | None = None
    has_whiteouts: bool = False
    manifest: Digest | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RawFile:
    """A layer shown as a file: its bytes are the blob's."""

    descriptor: Descriptor
    mode: int = FILE_MODE
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Broken:
    """A name that exists and cannot be shown: every use of it fails with `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Child:
    """A child manifest of an index, shown as an artifact's directory of its own."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a view.

    Attributes:
        entries: what the manifest itself puts here, by name.
        packed: layers whose members appear here too, the topmost first; `entries` go before them.
        layer: the layer that the directory stands for (a packed directory's root), for attributes.
        problems: of a view's root: what was refused and has no place in the view, in sentences.
    """

    entries: Mapping[str, "Node"] = field(default_factory=lambda: MappingProxyType({}))
    packed: tuple[PackedLayer, ...] = ()
    mode: int = DIRECTORY_MODE
    mtime_ns: int = 0
    layer: Descriptor | None = None
    problems: tuple[str, ...] = ()


Node = Directory | RawFile | Child | Broken
