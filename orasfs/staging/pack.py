"""From a staged tree to a plan: which layers in which order, and then which manifest.

Owns the rules of the interface's "From draft to manifest". Pure: decides everything that can be
decided without reading content; hashing, uploading and the clock are the caller's.
INVARIANT: nothing of the tree is left out silently: what becomes no layer is refused, or named in
the plan's warnings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import ANNOTATION_CREATED, Descriptor
from orasfs.oci.manifest import Manifest
from orasfs.staging.layerblob import Compression
from orasfs.staging.layers import (
    DirectoryLayer,
    PlannedLayer,
    directory_layer,
    file_layer,
    made_of_nothing,
)
from orasfs.staging.links import check_links, resolve_file, unrestorable_link
from orasfs.staging.manifest import ManifestFields, build_manifest, format_created
from orasfs.staging.manifestedit import KeptLayer, ManifestChanges, edit_manifest
from orasfs.staging.tree import (
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSymlink,
    name_bytes,
    sorted_entries,
    walk,
)

_NANOSECONDS = 1_000_000_000


class Packing(Enum):
    """What a directory becomes: one tar, or a layer for every file in it."""

    TAR = "tar"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class PackSettings:
    """How a draft is packed, from its extended attributes and the mount's options.

    Attributes:
        order: titles that go first, in this order; a directory's stands for all below it.
        packing: of directories that `packing_of` does not name.
        packing_of: by the path of a top-level directory.
        compression: of packed directories.
        allow_links: pack links that no pull would restore (links=any).
        epoch_seconds: `created`, where no annotation gives it, and the latest mtime in a tar.
        media_types: by title.
        layer_annotations: by title; a file's may give it another title.
        fields: what goes into the manifest besides layers (not used when a base is edited).
        changes: what changes in the base's manifest (used only then).
    """

    order: tuple[str, ...] = ()
    packing: Packing = Packing.TAR
    packing_of: Mapping[str, Packing] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    compression: Compression = Compression.GZIP
    allow_links: bool = False
    epoch_seconds: int | None = None
    media_types: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    layer_annotations: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    fields: ManifestFields = field(default_factory=ManifestFields)
    changes: ManifestChanges = field(default_factory=ManifestChanges)

    @property
    def latest_mtime_ns(self) -> int | None:
        """The latest mtime that goes into a tar; None for any."""
        return None if self.epoch_seconds is None else self.epoch_seconds * _NANOSECONDS


@dataclass(frozen=True, slots=True)
class Plan:
    """The layers of a commit in their order, and what a person should know about it.

    Attributes:
        layers: of which `KeptLayer`s need no upload.
        warnings: sentences; the commit goes on.
        fields: for the manifest, where there is no base.
        base: the manifest that is edited.
        changes: in the base.
    """

    layers: tuple[PlannedLayer, ...]
    warnings: tuple[str, ...]
    fields: ManifestFields
    base: Manifest | None = None
    changes: ManifestChanges = field(default_factory=ManifestChanges)

    def manifest(
        self, descriptors: Sequence[KeptLayer | Descriptor], created_seconds: int
    ) -> bytes:
        """Return the manifest's bytes, once every layer is a blob.

        Args:
            descriptors: one for each of `layers`, or the `KeptLayer` itself.
            created_seconds: since the epoch; used only where nothing else gives `created`.

        Raises:
            InvalidInput: a media type or `created` is malformed, or it would be over 4 MiB.
        """
        if self.base is not None:
            return edit_manifest(self.base, descriptors, self.changes)
        layers = [layer for layer in descriptors if isinstance(layer, Descriptor)]
        return build_manifest(self.fields, layers, created_seconds)

    def check_manifest(self) -> None:
        """Refuse what would be no manifest whatever the layers' bytes are, before any is made.

        Raises:
            InvalidInput: as `manifest`; of packed directories the sizes are not counted yet.
        """
        self.manifest([made_of_nothing(layer) for layer in self.layers], created_seconds=0)


def plan(tree: StagedDirectory, settings: PackSettings) -> Plan:
    """Plan the layers of a new artifact.

    Raises:
        InvalidInput: something in the tree cannot be part of an artifact, or a setting names
            nothing; the message says what, where and how to mend it.
    """
    layers = {
        title: layer
        for name, node in tree.entries.items()
        for title, layer in plan_entry(tree, name, node, settings)
    }
    check_order(settings.order, layers)
    titles = sorted(
        layers, key=lambda title: (order_place(title, settings.order), name_bytes(title))
    )
    planned = tuple(layers[title] for title in titles)
    packed = {layer.title for layer in planned if isinstance(layer, DirectoryLayer)}
    return Plan(planned, warnings_of(tree, packed, planned), _with_epoch(settings))


def plan_entry(
    tree: StagedDirectory, path: str, node: StagedNode, settings: PackSettings
) -> Iterator[tuple[str, PlannedLayer]]:
    """Yield the layers, by title, that the entry at `path` becomes.

    Raises:
        InvalidInput: it cannot be part of an artifact.
    """
    is_split = settings.packing_of.get(path, settings.packing) is Packing.FILES
    if isinstance(node, StagedDirectory) and not is_split:
        yield path, packed_layer(path, node, settings)
        return
    for title, entry in walk(path, node):
        if not isinstance(entry, StagedDirectory):
            file = file_at(tree, title, entry)
            yield (
                title,
                file_layer(
                    title,
                    file,
                    settings.media_types.get(title, ""),
                    settings.layer_annotations.get(title, {}),
                ),
            )


def packed_layer(title: str, directory: StagedDirectory, settings: PackSettings) -> DirectoryLayer:
    """Plan a packed directory.

    Raises:
        InvalidInput: a special file is in it, or a link that no pull would restore.
    """
    for path, node in walk(title, directory):
        if not isinstance(node, StagedDirectory | StagedFile | StagedSymlink):
            raise InvalidInput(f"{path!r} is a {node.kind}, which cannot be packed: remove it")
    if not settings.allow_links:
        check_links(title, directory)
    return directory_layer(
        title,
        directory,
        settings.media_types.get(title, ""),
        settings.compression,
        settings.layer_annotations.get(title, {}),
        settings.latest_mtime_ns,
    )


def file_at(tree: StagedDirectory, path: str, node: StagedNode) -> StagedFile:
    """Return the file whose bytes are pushed for the entry at `path`, through a link if it is one.

    Raises:
        InvalidInput: it is or leads to something else.
    """
    match node:
        case StagedFile():
            return node
        case StagedSymlink():
            return resolve_file(tree, path)
        case StagedDirectory():
            raise InvalidInput(f"{path!r} is a directory, where a file is needed")
        case _:
            raise InvalidInput(f"{path!r} is a {node.kind}, which cannot be a layer: remove it")


def check_order(order: Sequence[str], titles: Iterable[str]) -> None:
    """Check that what the order names is there.

    Raises:
        InvalidInput: a name is no title, and no directory of titles.
    """
    known = set(titles)
    for wanted in order:
        if not any(_is_within(title, wanted) for title in known):
            raise InvalidInput(f"the order names {wanted!r}, which is not in the draft")


def order_place(title: str, order: Sequence[str]) -> int:
    """Return the place of a title in the order; those it does not name come last."""
    places = [number for number, wanted in enumerate(order) if _is_within(title, wanted)]
    return min(places, default=len(order))


def _is_within(title: str, wanted: str) -> bool:
    return title == wanted or title.startswith(f"{wanted}/")


def _with_epoch(settings: PackSettings) -> ManifestFields:
    """Return the fields with `created` from the epoch setting, where no annotation gives it."""
    fields = settings.fields
    if settings.epoch_seconds is None or ANNOTATION_CREATED in fields.annotations:
        return fields
    created = format_created(settings.epoch_seconds)
    return replace(fields, annotations={**fields.annotations, ANNOTATION_CREATED: created})


def warnings_of(
    tree: StagedDirectory, packed: AbstractSet[str], layers: Sequence[PlannedLayer]
) -> tuple[str, ...]:
    """Return what a person should know: what is left out, and what `oras` will not restore.

    Args:
        tree: the draft.
        packed: paths of the directories that are in a packed layer, planned or kept.
        layers: those planned.
    """
    sentences = [
        f"directory {path!r} is empty and no layer holds it, so it is left out"
        for path, node in _outside(tree, packed)
        if path and isinstance(node, StagedDirectory) and not node.entries
    ]
    sentences += [
        f"{layer.title!r}: compression={layer.compression.value}, but `oras` unpacks gzip only"
        for layer in layers
        if isinstance(layer, DirectoryLayer) and layer.compression is not Compression.GZIP
    ]
    sentences += [
        f"{found}: no `oras pull` restores {layer.title!r}, and no mount shows what is in it"
        for layer in layers
        if isinstance(layer, DirectoryLayer)
        and (found := unrestorable_link(layer.title, layer.directory))
    ]
    return tuple(sentences)


def _outside(tree: StagedDirectory, packed: AbstractSet[str]) -> Iterator[tuple[str, StagedNode]]:
    """Yield the nodes that are in no packed directory."""
    pending: list[tuple[str, StagedNode]] = [("", tree)]
    while pending:
        path, node = pending.pop()
        yield path, node
        if isinstance(node, StagedDirectory):
            prefix = f"{path}/" if path else ""
            below = [(prefix + name, entry) for name, entry in sorted_entries(node)[::-1]]
            pending += [
                (below_path, entry) for below_path, entry in below if below_path not in packed
            ]
