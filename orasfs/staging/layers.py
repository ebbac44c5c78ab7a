"""Planned layers: what a commit makes of the entries of a draft, before any byte is read.

Owns their titles, media types and annotations. Pure.
Source: oras-go's content/file/file.go (Add, descriptorFromFile, descriptorFromDir).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import (
    ANNOTATION_CONTENT_DIGEST,
    ANNOTATION_INDEX,
    ANNOTATION_MODE,
    ANNOTATION_TITLE,
    ANNOTATION_UNPACK,
    Descriptor,
)
from orasfs.oci.digest import Digest
from orasfs.staging.layerblob import Compression, LayerBlob
from orasfs.staging.manifestedit import KeptLayer
from orasfs.staging.tarwriter import Piece, tar_pieces
from orasfs.staging.tree import ContentKey, StagedDirectory, StagedFile

FILE_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar"  # although it is the file as it is
DIRECTORY_MEDIA_TYPES = {
    Compression.GZIP: "application/vnd.oci.image.layer.v1.tar+gzip",
    Compression.ZSTD: "application/vnd.oci.image.layer.v1.tar+zstd",
    Compression.NONE: "application/vnd.oci.image.layer.v1.tar",
}
_DEFAULT_MODE = 0o644
_NO_DIGEST = Digest("sha256", "0" * 64)
# Those of directories that nobody but packing sets.
OF_PACKING = frozenset(
    {ANNOTATION_TITLE, ANNOTATION_UNPACK, ANNOTATION_CONTENT_DIGEST, ANNOTATION_INDEX}
)


@dataclass(frozen=True, slots=True)
class FileLayer:
    """A file that becomes a blob as it is; `annotations` are all but the title's default."""

    title: str
    content: ContentKey
    size: int
    media_type: str
    annotations: Mapping[str, str] = field(hash=False)

    def descriptor(self, digest: Digest) -> Descriptor:
        """Return the layer's descriptor, once the digest of the content is known."""
        annotations = {ANNOTATION_TITLE: self.title, **self.annotations}
        return Descriptor(self.media_type, digest, self.size, annotations)


@dataclass(frozen=True, slots=True)
class DirectoryLayer:
    """A directory that becomes a tar; later mtimes than `latest_mtime_ns` are clamped."""

    title: str
    directory: StagedDirectory = field(repr=False)
    media_type: str
    compression: Compression
    annotations: Mapping[str, str] = field(hash=False)
    latest_mtime_ns: int | None = None

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces of the tar, for `layerblob.write_layer`."""
        return tar_pieces(self.title, self.directory, latest_mtime_ns=self.latest_mtime_ns)

    def descriptor(self, blob: LayerBlob) -> Descriptor:
        """Return the layer's descriptor, once the blob is written."""
        annotations = {
            **self.annotations,
            ANNOTATION_TITLE: self.title,
            ANNOTATION_UNPACK: "true",
            ANNOTATION_CONTENT_DIGEST: str(blob.content_digest),
        }
        return Descriptor(self.media_type, blob.digest, blob.size, annotations)


PlannedLayer = KeptLayer | FileLayer | DirectoryLayer


def vouching(layer: Descriptor, index: Digest) -> Descriptor:
    """Return a packed layer's descriptor, with the digest of the index that is published of it."""
    return replace(layer, annotations={**layer.annotations, ANNOTATION_INDEX: str(index)})


def made_of_nothing(layer: PlannedLayer) -> KeptLayer | Descriptor:
    """Return what a manifest would have of the layer, with digests as long as those to come."""
    match layer:
        case FileLayer():
            return layer.descriptor(_NO_DIGEST)
        case DirectoryLayer():
            return layer.descriptor(LayerBlob(_NO_DIGEST, 0, _NO_DIGEST, 0))
        case KeptLayer():
            return layer


def file_layer(
    title: str, file: StagedFile, media_type: str, annotations: Mapping[str, str]
) -> FileLayer:
    """Plan a file's layer; a mode other than 0644 goes into an annotation.

    Raises:
        InvalidInput: the title is not Unicode.
    """
    check_title(title)
    kept = {key: value for key, value in annotations.items() if key != ANNOTATION_MODE}
    mode = file.mode & 0o7777
    if mode != _DEFAULT_MODE:
        kept[ANNOTATION_MODE] = f"{mode:04o}"
    return FileLayer(title, file.content, file.size, media_type or FILE_MEDIA_TYPE, kept)


def directory_layer(
    title: str,
    directory: StagedDirectory,
    media_type: str,
    compression: Compression,
    annotations: Mapping[str, str],
    latest_mtime_ns: int | None,
) -> DirectoryLayer:
    """Plan a directory's layer.

    Raises:
        InvalidInput: the title is not Unicode, or an annotation is one that packing decides.
    """
    check_title(title)
    taken = OF_PACKING & annotations.keys()
    if taken:
        raise InvalidInput(f"directory {title!r}: annotation {min(taken)} is set by packing")
    media_type = media_type or DIRECTORY_MEDIA_TYPES[compression]
    return DirectoryLayer(title, directory, media_type, compression, annotations, latest_mtime_ns)


def check_title(title: str) -> None:
    """Check that JSON can hold the title.

    Raises:
        InvalidInput: the name is not UTF-8.
    """
    if any("\ud800" <= character <= "\udfff" for character in title):
        raise InvalidInput(
            f"name {ascii(title)[:300]} is not UTF-8, which a title must be: rename it"
        )
