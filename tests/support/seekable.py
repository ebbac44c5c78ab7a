"""The golden seekable layers, in memory, and what their directory is to be."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.tree.layerindex import LayerIndex, MemberKind
from orasfs.tree.layers import Layer
from orasfs.tree.node import PackedLayer
from tests.fakes.source import MemorySource
from tests.support.golden import GOLDEN

SEEKABLE = GOLDEN / "seekable"
LAYOUT = SEEKABLE / "layout"
FIRST_FILE = "bin/run"
LARGE_FILE = "data/model.bin"


def expected() -> list[dict[str, Any]]:
    """Return what every form of the image shows."""
    found: list[dict[str, Any]] = json.loads((SEEKABLE / "expected.json").read_text())
    return found


def layer_of(tag: str) -> tuple[Descriptor, bytes]:
    """Return the only layer of an image, and its blob."""
    for entry in json.loads((LAYOUT / "index.json").read_bytes())["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag:
            manifest = parse_document(path_of(Digest.parse(entry["digest"])).read_bytes())
            assert isinstance(manifest, Manifest)
            (layer,) = manifest.layers
            return layer, path_of(layer.digest).read_bytes()
    raise AssertionError(f"no image {tag}")


def image_layer(source: MemorySource, tag: str) -> PackedLayer:
    """Put the only layer of an image into a source."""
    descriptor, blob = layer_of(tag)
    source.blobs[descriptor.digest] = blob
    return PackedLayer(descriptor, "", has_whiteouts=True)


def path_of(digest: Digest) -> Path:
    """Return where a blob of the layout is."""
    return LAYOUT / "blobs" / digest.algorithm / digest.hex


async def described(layer: Layer) -> list[dict[str, Any]]:
    """Describe all members of a layer, of which it reads all bytes, as expected.json does."""
    index, found = layer.index, []
    names: dict[int, str] = {}
    for path, ordinal in sorted(walk(index).items()):
        member = index.member(ordinal)
        line: dict[str, Any] = {
            "path": path,
            "mode": oct(member.mode),
            "mtime": member.mtime_ns // 10**9,
        }
        if member.kind is MemberKind.DIRECTORY:
            line["type"] = "directory"
        elif member.kind is MemberKind.SYMLINK:
            line |= {"type": "symlink", "target": member.target}
        else:
            content = await read_member(layer, ordinal)
            digest = hashlib.sha256(content).hexdigest()
            line |= {"type": "file", "size": member.size, "sha256": digest}
            if ordinal in names:
                line["hardlink_to"] = names[ordinal]
            names.setdefault(ordinal, path)
        found.append(line)
    return found


def walk(index: LayerIndex) -> Mapping[str, int]:
    """Return all paths of a layer, without what the format adds."""
    found: dict[str, int] = {}
    stack = [(0, "")]
    while stack:
        directory, prefix = stack.pop()
        for entry in index.children(directory):
            path, ordinal = prefix + index.name_of(entry), index.resolve(entry)
            if path not in (".prefetch.landmark", "stargz.index.json"):
                found[path] = ordinal
            if index.kind_of(ordinal) is MemberKind.DIRECTORY:
                stack.append((ordinal, f"{path}/"))
    return found


async def read_member(layer: Layer, ordinal: int) -> bytes:
    """Read a file in the steps of the kernel."""
    reader = layer.open_member(ordinal)
    content = bytearray()
    try:
        while len(content) < reader.size:
            offset, size = len(content), 128 * 1024
            content += reader.read_now(offset, size) or await reader.read(offset, size)
    finally:
        reader.close()
    return bytes(content)
