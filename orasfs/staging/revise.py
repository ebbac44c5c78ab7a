"""Plans a commit on a base: the layers whose files changed, and all others as they are.

Owns the correspondence between a base's layers and the staged tree. Pure.
INVARIANT: a layer that was not changed is never repacked, so its descriptor stays what it was; the
base's order and its split into layers stay, and what is new comes after.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from orasfs.errors import ContentRefused
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.manifest import Manifest
from orasfs.staging.layerblob import Compression
from orasfs.staging.layers import (
    DIRECTORY_MEDIA_TYPES,
    OF_PACKING,
    PlannedLayer,
    file_layer,
)
from orasfs.staging.manifestedit import KeptLayer
from orasfs.staging.pack import (
    PackSettings,
    Plan,
    check_order,
    file_at,
    order_place,
    packed_layer,
    plan_entry,
    warnings_of,
)
from orasfs.staging.tree import (
    StagedDirectory,
    StagedFile,
    StagedNode,
    StagedSymlink,
    find,
    name_bytes,
)
from orasfs.tree.names import clean_title

_COMPRESSIONS = {media_type: kind for kind, media_type in DIRECTORY_MEDIA_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Base:
    """What a modified draft began from.

    Attributes:
        manifest: the base's.
        unchanged: ordinals of the layers below which the draft changed nothing: no byte, mode,
            time, name or link. They are kept, whatever the tree says.
    """

    manifest: Manifest
    unchanged: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Place:
    """A layer of the base and where it is in the draft; "" if it has no (usable) title."""

    ordinal: int
    layer: Descriptor
    path: str


def plan_revision(tree: StagedDirectory, settings: PackSettings, base: Base) -> Plan:
    """Plan the layers of an edited artifact.

    Raises:
        InvalidInput: as `pack.plan`.
    """
    places = [
        _Place(ordinal, layer, _path_of(layer))
        for ordinal, layer in enumerate(base.manifest.layers)
    ]
    standing = [place for place in places if _stands(tree, base, place)]
    planned = [(place.path, _planned(tree, settings, base, place, standing)) for place in standing]
    covered = {place.path for place in standing if place.path}
    new = {
        title: layer
        for path, node in _uncovered(tree, covered, _ancestors(places))
        for title, layer in plan_entry(tree, path, node, settings)
    }
    planned += [(title, new[title]) for title in sorted(new, key=name_bytes)]
    check_order(settings.order, [path for path, _ in planned])
    planned.sort(key=lambda pair: order_place(pair[0], settings.order))  # stable
    packed = {place.path for place in standing if place.layer.is_packed_directory}
    return Plan(
        layers=tuple(layer for _, layer in planned),
        warnings=warnings_of(tree, packed, [layer for _, layer in planned]),
        fields=settings.fields,
        base=base.manifest,
        changes=settings.changes,
    )


def _path_of(layer: Descriptor) -> str:
    """Return where the layer is in the tree; nowhere if a view refuses its title."""
    try:
        return clean_title(layer.title)
    except ContentRefused:
        return ""


def _ancestors(places: Sequence[_Place]) -> set[str]:
    """Return the directories that exist because of a title below them."""
    ancestors = set()
    for place in places:
        path = place.path
        while "/" in path:
            path = path.rpartition("/")[0]
            ancestors.add(path)
    return ancestors


def _uncovered(
    tree: StagedDirectory, covered: AbstractSet[str], ancestors: AbstractSet[str]
) -> Iterator[tuple[str, StagedNode]]:
    """Yield what is in no layer: entries, but of directories made by titles the entries below."""
    pending: list[tuple[str, StagedDirectory]] = [("", tree)]
    while pending:
        prefix, directory = pending.pop()
        for name, node in directory.entries.items():
            path = f"{prefix}{name}"
            if path in covered:
                continue
            if path in ancestors and isinstance(node, StagedDirectory):
                pending.append((f"{path}/", node))
            else:
                yield path, node


def _stands(tree: StagedDirectory, base: Base, place: _Place) -> bool:
    """Tell whether the layer is still one: its name is there, as what it was."""
    if not place.path or place.ordinal in base.unchanged:
        return True
    node = find(tree, place.path)
    kinds = StagedDirectory if place.layer.is_packed_directory else StagedFile | StagedSymlink
    return isinstance(node, kinds)


def _planned(
    tree: StagedDirectory,
    settings: PackSettings,
    base: Base,
    place: _Place,
    standing: Sequence[_Place],
) -> PlannedLayer:
    """Return what becomes of a layer of the base that still stands."""
    if not place.path:
        return KeptLayer(place.ordinal)
    node = find(tree, place.path)
    if node is None or place.ordinal in base.unchanged:
        return _kept(place, settings)
    if isinstance(node, StagedDirectory):
        return _repacked(place, node, settings, standing)
    return file_layer(
        place.path,
        file_at(tree, place.path, node),
        settings.media_types.get(place.path, place.layer.media_type),
        {**place.layer.annotations, **settings.layer_annotations.get(place.path, {})},
    )


def _kept(place: _Place, settings: PackSettings) -> KeptLayer:
    """Keep the blob; the descriptor changes only where the settings say another thing."""
    media_type = settings.media_types.get(place.path, "")
    wanted = settings.layer_annotations.get(place.path, {})
    return KeptLayer(
        place.ordinal,
        "" if media_type == place.layer.media_type else media_type,
        {key: value for key, value in wanted.items() if place.layer.annotations.get(key) != value},
    )


def _repacked(
    place: _Place, directory: StagedDirectory, settings: PackSettings, standing: Sequence[_Place]
) -> PlannedLayer:
    """Plan a packed directory again, as it was packed, without what other layers hold."""
    prefix = f"{place.path}/"
    others = {
        other.path.removeprefix(prefix) for other in standing if other.path.startswith(prefix)
    }
    media_type = settings.media_types.get(place.path, place.layer.media_type)
    annotations = {
        key: value for key, value in place.layer.annotations.items() if key not in OF_PACKING
    }
    annotations.update(settings.layer_annotations.get(place.path, {}))
    return packed_layer(
        place.path,
        _without(directory, others),
        replace(
            settings,
            compression=_compression(media_type),
            media_types={place.path: media_type},
            layer_annotations={place.path: annotations},
        ),
    )


def _compression(media_type: str) -> Compression:
    """Judge a media type of someone's own by its suffix; what has none, `oras` packs as gzip."""
    suffixed = Compression.ZSTD if media_type.endswith("+zstd") else Compression.GZIP
    return _COMPRESSIONS.get(media_type, suffixed)


def _without(directory: StagedDirectory, paths: AbstractSet[str]) -> StagedDirectory:
    """Return the directory without what is at these relative paths."""
    below: dict[str, set[str]] = {}
    for path in paths:
        name, slash, rest = path.partition("/")
        below.setdefault(name, set()).add(rest if slash else "")
    entries: dict[str, StagedNode] = {}
    for name, node in directory.entries.items():
        gone = below.get(name, set())
        if "" in gone:
            continue
        if gone and isinstance(node, StagedDirectory):
            entries[name] = _without(node, gone)
        else:
            entries[name] = node
    return replace(directory, entries=entries)
