"""Packs the benchmark's tree so that parts of it can be read: as orasfs does, and as eStargz.

The layer with a table of contents is written here from its specification, one chunk for each file,
and not by the program that is measured.
"""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from orasfs.staging.layerblob import Compression, write_layer
from scripts.benchmarks.data import Blob, HashingWriter, Packed
from scripts.benchmarks.publish import Published, publish_blob
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import OCI_MANIFEST, digest_of

_TOC = "stargz.index.json"
_TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
_PIECE = 1 << 20
_KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.REGTYPE: "reg"}


def publish_repacked(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed, path: Path
) -> Published:
    """Publish the tree as orasfs packs it: the tar is the same, its compression another."""
    with gzip.open(packed.blob.path) as tar, path.open("wb") as output:
        pieces = iter(lambda: tar.read(_PIECE), b"")
        made = write_layer(pieces, Compression.GZIP, output, lambda _: io.BytesIO())
    blob = Blob(path, str(made.digest), made.size)
    title = packed.directory.name
    return publish_blob(registry, repository, tag, title, blob, packed.tar_digest)


def publish_estargz(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed, path: Path
) -> Published:
    """Publish the tree as a container image of one eStargz layer."""
    blob, toc_digest = _write_estargz(packed, path)
    registry.put_blob(repository, path)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [packed.tar_digest]},
        }
    ).encode()
    registry.put_blob(repository, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": blob.digest,
                "size": blob.size,
                "annotations": {_TOC_DIGEST: toc_digest},
            }
        ],
    }
    registry.put_manifest(repository, tag, json.dumps(manifest).encode())
    return Published(registry.host, repository, tag)


class _Members:
    """Writes gzip members, one after the other."""

    def __init__(self, output: HashingWriter) -> None:
        self._output = output
        self._zip: BinaryIO | gzip.GzipFile | None = None

    def write(self, content: bytes) -> None:
        """Write into the member, beginning one if there is none."""
        if self._zip is None:
            self._zip = gzip.GzipFile(fileobj=self._output, mode="wb", compresslevel=6, mtime=0)
        self._zip.write(content)

    def cut(self) -> int:
        """End the member; return where the next one begins."""
        if self._zip is not None:
            self._zip.close()
            self._zip = None
        return self._output.size


def _write_estargz(packed: Packed, path: Path) -> tuple[Blob, str]:
    """Write the layer; return it, and the digest of its table."""
    entries: list[Mapping[str, object]] = []
    with tarfile.open(packed.blob.path) as archive, path.open("wb") as file:
        output = HashingWriter(file)
        members = _Members(output)
        for member in archive:
            members.write(member.tobuf(tarfile.GNU_FORMAT))
            entry = _entry(member)
            source = archive.extractfile(member) if member.isreg() else None
            if source is not None and member.size:
                content = source.read()
                entry |= _chunk(content, members.cut())
                members.write(content + bytes(-member.size % tarfile.BLOCKSIZE))
            entries.append(entry)
        table = json.dumps({"version": 1, "entries": entries}).encode()
        start = members.cut()
        header = tarfile.TarInfo(_TOC)
        header.size = len(table)
        members.write(header.tobuf(tarfile.GNU_FORMAT) + table)
        members.write(bytes(-len(table) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
        members.cut()
        output.write(_footer(start))
    return Blob(path, output.digest, output.size), digest_of(table)


def _entry(member: tarfile.TarInfo) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": member.name,
        "type": _KINDS[member.type],
        "mode": member.mode,
        "modtime": "2024-01-01T00:00:00Z",
    }
    if member.issym():
        entry["linkName"] = member.linkname
    return entry


def _chunk(content: bytes, offset: int) -> Mapping[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {
        "size": len(content),
        "offset": offset,
        "digest": digest,
        "chunkDigest": digest,
    }


def _footer(start: int) -> bytes:
    """Return an empty gzip member whose extra field tells where the table is."""
    place = b"%016xSTARGZ" % start
    head = base64.b16decode("1F8B08040000000000FF1A00") + b"SG\x16\0"
    return head + place + b"\x01\0\0\xff\xff" + zlib.crc32(b"").to_bytes(8, "little")
