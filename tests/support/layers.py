"""Builds layer indexes by hand, for tests that need no tar."""

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.tree.indexbuilder import IndexBuilder
from orasfs.tree.layerindex import Extent, LayerIndex, MemberKind
from orasfs.tree.node import PackedLayer


def packed_layer(label: str, *, root: str = "", has_whiteouts: bool = False) -> PackedLayer:
    """Return a layer whose digest is that of its label."""
    descriptor = Descriptor(
        "application/vnd.oci.image.layer.v1.tar", Digest.of(label.encode()), len(label)
    )
    return PackedLayer(descriptor, root, has_whiteouts=has_whiteouts)


def index_of(*paths: str) -> LayerIndex:
    """Return an index: `a/` is a directory, `a->b` a symlink, `a=b` a hard link, else a file."""
    builder = IndexBuilder()
    for number, path in enumerate(paths):
        add(builder, path, number)
    return LayerIndex(builder.finish(1 << 20))


def add(builder: IndexBuilder, path: str, number: int = 0) -> None:
    """Add one member written as `index_of` reads it; its mtime is `number` seconds."""
    mtime_ns = number * 1_000_000_000
    if path.endswith("/"):
        builder.add_directory(path.encode(), mode=0o750, mtime_ns=mtime_ns)
    elif "->" in path:
        name, _, target = path.partition("->")
        builder.add_symlink(name.encode(), mode=0o777, mtime_ns=mtime_ns, target=target.encode())
    elif "=" in path:
        name, _, target = path.partition("=")
        builder.add_hard_link(name.encode(), target.encode())
    else:
        extents = (Extent(0, 512 * number, 5),)
        builder.add_file(path.encode(), mode=0o640, mtime_ns=mtime_ns, size=5, extents=extents)


def paths_of(index: LayerIndex) -> dict[str, str]:
    """Return all paths of an index with their kinds: `d`, `f` or `l`."""
    found: dict[str, str] = {}
    stack = [(0, "")]
    while stack:
        directory, prefix = stack.pop()
        for entry in index.children(directory):
            path = prefix + index.name_of(entry)
            ordinal = index.resolve(entry)
            kind = index.kind_of(ordinal)
            found[path] = {
                MemberKind.DIRECTORY: "d",
                MemberKind.FILE: "f",
                MemberKind.SYMLINK: "l",
            }[kind]
            if kind == MemberKind.DIRECTORY:
                stack.append((ordinal, path + "/"))
    return found
