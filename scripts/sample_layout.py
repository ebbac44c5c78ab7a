"""Make a small OCI image layout to look at: a file, and a packed directory, under two tags.

Usage: sample_layout.py DIRECTORY

Owns the sample of the quick start. Needs the standard library only. The layout appears under its
name when it is whole; one that is there already is left alone. The same bytes come out each time.
"""

import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
CREATED_SECONDS = 1_709_251_200  # 2024-03-01T00:00:00Z
GREETING = b"Hello. This file is a layer of an OCI artifact, read through the mount.\n"
DOCS = {
    "guide.txt": b"A packed directory: one layer, a tar, shown as files.\n",
    "more/notes.txt": b"The tar keeps modes, times and symbolic links.\n",
}


def add_blob(
    layout: Path, media_type: str, content: bytes, **annotations: str
) -> dict[str, object]:
    """Store `content` and return its descriptor (image-spec v1.1 descriptor.md)."""
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(content)
    descriptor: dict[str, object] = {
        "mediaType": media_type,
        "digest": f"sha256:{digest}",
        "size": len(content),
    }
    if annotations:
        descriptor["annotations"] = annotations
    return descriptor


def pack(root: str) -> bytes:
    """Return the tar of the sample's directory, every member below `root`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in (root, f"{root}/more"):
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, CREATED_SECONDS
            tar.addfile(member)
        for path, content in DOCS.items():
            member = tarfile.TarInfo(f"{root}/{path}")
            member.size, member.mtime = len(content), CREATED_SECONDS
            tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo(f"{root}/latest.txt")
        member.type, member.linkname, member.mtime = tarfile.SYMTYPE, "guide.txt", CREATED_SECONDS
        tar.addfile(member)
    return buffer.getvalue()


def build(layout: Path) -> None:
    """Write the layout into an empty directory (image-spec v1.1 image-layout.md)."""
    (layout / "blobs" / "sha256").mkdir(parents=True)
    tar = pack("docs")
    layers = [
        add_blob(layout, "text/plain", GREETING, **{TITLE: "greeting.txt"}),
        add_blob(
            layout,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            gzip.compress(tar, mtime=0),
            **{
                TITLE: "docs",
                "io.deis.oras.content.unpack": "true",
                "io.deis.oras.content.digest": f"sha256:{hashlib.sha256(tar).hexdigest()}",
            },
        ),
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.orasfs.sample",
        "config": add_blob(layout, EMPTY, b"{}"),
        "layers": layers,
        "annotations": {"org.opencontainers.image.created": "2024-03-01T00:00:00Z"},
    }
    raw = json.dumps(document, separators=(",", ":")).encode()
    tags = [
        add_blob(layout, MANIFEST, raw, **{"org.opencontainers.image.ref.name": tag})
        for tag in ("v1", "latest")
    ]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": tags}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def main() -> int:
    """Make the layout unless it is there."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[1])
    if (target / "oci-layout").exists():
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(workplace / "layout")
        (workplace / "layout").rename(target)
    finally:
        shutil.rmtree(workplace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
