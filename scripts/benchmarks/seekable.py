"""Packs the benchmark's tree so that parts of it can be read: as orasfs does, and as others do.

The layers with a table of contents, of eStargz and of zstd:chunked, are written here from their
specifications, one chunk for each file, and not by the program that is measured.
"""

import base64
import gzip
import hashlib
import io
import json
import shutil
import struct
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from orasfs.staging.layerblob import Compression, write_layer
from scripts.benchmarks.data import Blob, HashingWriter, Packed
from scripts.benchmarks.publish import Published, publish_blob
from tests.support.archives import pieces_of
from tests.support.docker_registry import DockerRegistry
from tests.support.publish import OCI_MANIFEST, digest_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_TOC = "stargz.index.json"
_TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
_CHUNKED = "io.github.containers.zstd-chunked.manifest-"
_PIECE = 1 << 20
_KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.REGTYPE: "reg"}
_SKIPPABLE = struct.Struct("<II")  # magic and length of a frame that readers of zstd skip
_SKIPPABLE_MAGIC = 0x184D2A50
_CHUNKED_FOOTER = struct.Struct("<QQQQ8s")  # where the table is; its length; unpacked; its form


def publish_repacked(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed, path: Path
) -> Published:
    """Publish the tree as orasfs packs it: the tar is the same, its compression another."""
    with tempfile.TemporaryFile(dir=path.parent) as tar, path.open("wb") as output:
        with gzip.open(packed.blob.path) as packed_tar:
            shutil.copyfileobj(packed_tar, tar, _PIECE)
        tar.seek(0)
        made = write_layer(pieces_of(tar), Compression.GZIP, output, lambda _: io.BytesIO())
    blob = Blob(path, str(made.digest), made.size)
    title = packed.directory.name
    return publish_blob(registry, repository, tag, title, blob, packed.tar_digest)


def publish_estargz(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed, path: Path
) -> Published:
    """Publish the tree as a container image of one eStargz layer."""
    blob, toc_digest = _write_estargz(packed, path)
    place = Published(registry.host, repository, tag)
    return _publish_image(registry, place, packed, blob, "gzip", {_TOC_DIGEST: toc_digest})


def publish_chunked(
    registry: DockerRegistry, repository: str, tag: str, packed: Packed, path: Path
) -> Published:
    """Publish the tree as a container image of one zstd:chunked layer."""
    blob, annotations = _write_chunked(packed, path)
    place = Published(registry.host, repository, tag)
    return _publish_image(registry, place, packed, blob, "zstd", annotations)


def _publish_image(
    registry: DockerRegistry,
    place: Published,
    packed: Packed,
    blob: Blob,
    compression: str,
    annotations: Mapping[str, str],
) -> Published:
    registry.put_blob(place.repository, blob.path)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [packed.tar_digest]},
        }
    ).encode()
    registry.put_blob(place.repository, config)
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
                "mediaType": f"application/vnd.oci.image.layer.v1.tar+{compression}",
                "digest": blob.digest,
                "size": blob.size,
                "annotations": dict(annotations),
            }
        ],
    }
    registry.put_manifest(place.repository, place.tag, json.dumps(manifest).encode())
    return place


class _Streams:
    """Writes what is compressed in streams, one after the other.

    Args:
        output: takes them.
        compress: makes a whole stream.
    """

    def __init__(self, output: HashingWriter, compress: Callable[[bytes], bytes]) -> None:
        self._output = output
        self._compress = compress
        self._waiting = bytearray()

    def write(self, content: bytes) -> None:
        """Write into the stream, beginning one if there is none."""
        self._waiting += content

    def cut(self) -> int:
        """End the stream; return where the next one begins."""
        if self._waiting:
            self._output.write(self._compress(bytes(self._waiting)))
            self._waiting.clear()
        return self._output.size


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=6, mtime=0)


def _write_estargz(packed: Packed, path: Path) -> tuple[Blob, str]:
    """Write the layer; return it, and the digest of its table."""
    with path.open("wb") as file:
        output = HashingWriter(file)
        streams = _Streams(output, _gzip)
        entries = [
            entry | ({"chunkDigest": entry["digest"]} if "digest" in entry else {})
            for entry in _write_members(packed, streams, has_ends=False)
        ]
        table = json.dumps({"version": 1, "entries": entries}).encode()
        start = streams.cut()
        header = tarfile.TarInfo(_TOC)
        header.size = len(table)
        streams.write(header.tobuf(tarfile.GNU_FORMAT) + table)
        streams.write(bytes(-len(table) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
        streams.cut()
        output.write(_footer(start))
    return Blob(path, output.digest, output.size), digest_of(table)


def _write_chunked(packed: Packed, path: Path) -> tuple[Blob, Mapping[str, str]]:
    """Write the layer; return it, and the annotations that tell where its table is."""
    with path.open("wb") as file:
        output = HashingWriter(file)
        streams = _Streams(output, zstd.compress)
        entries = list(_write_members(packed, streams, has_ends=True))
        streams.write(bytes(2 * tarfile.BLOCKSIZE))
        table = json.dumps({"version": 1, "entries": entries}).encode()
        kept = zstd.compress(table)
        start = streams.cut() + _SKIPPABLE.size
        output.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(kept)) + kept)
        footer = _CHUNKED_FOOTER.pack(start, len(kept), len(table), 1, b"GNUlInUx")
        output.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(footer)) + footer)
    annotations = {
        f"{_CHUNKED}position": f"{start}:{len(kept)}:{len(table)}:1",
        f"{_CHUNKED}checksum": digest_of(kept),
    }
    return Blob(path, output.digest, output.size), annotations


def _write_members(
    packed: Packed, streams: _Streams, *, has_ends: bool
) -> Iterator[dict[str, object]]:
    """Write the tar but for its end, a stream for each file; yield the entries of a table.

    Args:
        packed: the tree.
        streams: where to.
        has_ends: whether a stream ends where the file does, which its entry then tells.
    """
    with tarfile.open(packed.blob.path) as archive:
        for member in archive:
            streams.write(member.tobuf(tarfile.GNU_FORMAT))
            entry = _entry(member)
            source = archive.extractfile(member) if member.isreg() else None
            if source is not None and member.size:
                content = source.read()
                entry |= _placed(content, streams.cut())
                streams.write(content)
                if has_ends:
                    entry["endOffset"] = streams.cut()
                streams.write(bytes(-member.size % tarfile.BLOCKSIZE))
            yield entry


def _entry(member: tarfile.TarInfo) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": member.name,
        "type": _KINDS[member.type],
        "mode": member.mode,
        "modtime": f"{datetime.fromtimestamp(member.mtime, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    if member.issym():
        entry["linkName"] = member.linkname
    return entry


def _placed(content: bytes, offset: int) -> Mapping[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"size": len(content), "offset": offset, "digest": digest}


def _footer(start: int) -> bytes:
    """Return an empty gzip member whose extra field tells where the table is."""
    place = b"%016xSTARGZ" % start
    head = base64.b16decode("1F8B08040000000000FF1A00") + b"SG\x16\0"
    return head + place + b"\x01\0\0\xff\xff" + zlib.crc32(b"").to_bytes(8, "little")
