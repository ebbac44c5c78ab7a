"""From a manifest or an index to the directory that it looks like. Pure.

Owns which layers are shown, under which names, and what happens when titles collide. Judging a
single title is `orasfs.tree.names`. Hostile manifests never raise: a title that has no place
inside the artifact is left out and told by `problems_of`, names that contradict one another become
`Broken`. Layers are files by their titles alone, whatever their media types, as for the reference
client (cmd/oras/root/pull.go); foreign layers (`urls`) with a title are shown like any other.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType

from orasfs.errors import ContentRefused, InvalidName
from orasfs.oci.descriptor import (
    ANNOTATION_CONTENT_DIGEST,
    ANNOTATION_MODE,
    Descriptor,
    Platform,
)
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest
from orasfs.oci.mediatype import IMAGE_CONFIG_TYPES, is_image_layer
from orasfs.tree.names import clean_title
from orasfs.tree.node import FILE_MODE, Broken, Child, Directory, Node, PackedLayer, RawFile

MAX_DIRECTORIES = (
    100_000  # that the titles of one manifest may make; 4 MiB could ask for 2 million
)
MAX_PROBLEMS = 100

_MODE = re.compile(r"(?:0o?)?[0-7]{1,4}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
_DIGEST_NAME = re.compile(r"sha(?:256|512)-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """How artifacts are shown.

    Attributes:
        media_type: show only layers whose media type matches this glob; "" shows all.
        images: show the merged root filesystem of container images; otherwise their layers, which
            have no titles.
        platform: look through indexes to this platform, `os/architecture[/variant]`; "" does not.
    """

    media_type: str = ""
    images: bool = True
    platform: str = ""


def build_view(document: Manifest | Index, options: ViewOptions) -> Directory:
    """Return the directory that a manifest or an index looks like; never raises."""
    if isinstance(document, Index):
        return _view_of_index(document)
    if options.images and _is_image(document):
        return _view_of_image(document)
    return _view_of_artifact(document, options)


def problems_of(view: Directory) -> tuple[str, ...]:
    """Return what was refused in a view, one sentence each, the broken names last.

    The first hundred; a last one says how many more there are.
    """
    broken: list[str] = []
    stack: list[tuple[str, Mapping[str, Node]]] = [("", view.entries)]
    while stack:
        prefix, entries = stack.pop()
        for name, node in entries.items():
            if isinstance(node, Broken):
                broken.append(node.reason)
            elif isinstance(node, Directory):
                stack.append((f"{prefix}{name}/", node.entries))
    problems = (*view.problems, *sorted(broken))
    if len(problems) > MAX_PROBLEMS:
        return (*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more")
    return problems


def select_platform(index: Index, platform: str) -> Descriptor | None:
    """Return the first child for `os/architecture[/variant][:os.version]`, None if none matches.

    As the reference client's `--platform`: variant and version count only if asked for.
    """
    wanted, _, version = platform.partition(":")
    parts = tuple(wanted.split("/"))
    for child in index.manifests:
        offered = child.platform
        if offered is None or (version and offered.os_version != version):
            continue
        if parts == (offered.os, offered.architecture, offered.variant)[: len(parts)]:
            return child
    return None


def _view_of_index(index: Index) -> Directory:
    children = {child.digest: child for child in reversed(index.manifests)}
    names: dict[str, list[Descriptor]] = {}
    for child in index.manifests:
        if children.get(child.digest) is child:
            names.setdefault(_platform_name(child.platform), []).append(child)
    entries: dict[str, Node] = {}
    for name, named in names.items():
        is_unique = name and len(named) == 1
        for child in named:
            own = name if is_unique else f"{child.digest.algorithm}-{child.digest.hex}"
            entries[own] = Child(child)
    return Directory(MappingProxyType(entries), mtime_ns=index.created_ns)


def _platform_name(platform: Platform | None) -> str:
    """Return `os-architecture[-variant]`; "" where that is no name, or could be a digest's."""
    if platform is None or not platform.is_known:
        return ""
    name = str(platform).replace("/", "-")
    parts = (platform.os, platform.architecture, platform.variant)
    if any("/" in part for part in parts) or _DIGEST_NAME.match(name):
        return ""
    return name if _SAFE_NAME.fullmatch(name) else ""


def _is_image(manifest: Manifest) -> bool:
    """Tell whether it is a container image: attestations and artifacts are not."""
    return (
        manifest.config is not None
        and manifest.config.media_type in IMAGE_CONFIG_TYPES
        and bool(manifest.layers)
        and all(is_image_layer(layer.media_type) and not layer.title for layer in manifest.layers)
    )


def _view_of_image(manifest: Manifest) -> Directory:
    packed = tuple(
        PackedLayer(layer, root="", has_whiteouts=True) for layer in reversed(manifest.layers)
    )
    return Directory(packed=packed, mtime_ns=manifest.created_ns)


@dataclass(slots=True)
class _Folder:
    """A directory being made: what the titles put into it so far."""

    entries: dict[str, "_Folder | RawFile | Broken"] = field(default_factory=dict)
    layer: Descriptor | None = None
    root: str = ""


class _Artifact:
    """Puts the layers of an artifact under their titles."""

    def __init__(self, manifest: Manifest) -> None:
        self._mtime_ns = manifest.created_ns
        self._manifest = Digest.of(manifest.raw)
        self._top = _Folder()
        self._directories = 0
        self.problems: list[str] = []

    def place(self, path: str, layers: list[Descriptor]) -> None:
        """Put what has one title at its path. Shorter paths come first."""
        folder = self._folder_for(path)
        if folder is None:
            return
        name = path.rpartition("/")[2]
        first = layers[0]
        if any(
            (other.digest, other.is_packed_directory) != (first.digest, first.is_packed_directory)
            for other in layers
        ):
            folder.entries[name] = Broken(f"{path}: duplicate name")
        elif first.is_packed_directory:
            folder.entries[name] = _Folder(layer=first, root=path)
        else:
            mode = self._mode(path, first)
            folder.entries[name] = RawFile(first, mode, self._mtime_ns)

    def finish(self) -> Directory:
        """Return the frozen view."""
        frozen = self._freeze(self._top)
        return replace(frozen, problems=tuple(self.problems))

    def _folder_for(self, path: str) -> _Folder | None:
        """Return the directory that `path` is in; None where something else is in its place."""
        folder = self._top
        walked: list[str] = []
        for part in path.split("/")[:-1]:
            walked.append(part)
            node = folder.entries.get(part)
            if node is None:
                self._directories += 1
                if self._directories > MAX_DIRECTORIES:
                    self._directories -= 1
                    self.problems.append(
                        f"title {path[:200]!r}: the titles make over {MAX_DIRECTORIES} directories"
                    )
                    return None
                node = folder.entries[part] = _Folder()
            if isinstance(node, RawFile):
                folder.entries[part] = Broken(f"{'/'.join(walked)}: both a file and a directory")
            if not isinstance(node, _Folder):
                return None
            folder = node
        return folder

    def _mode(self, path: str, layer: Descriptor) -> int:
        text = layer.annotations.get(ANNOTATION_MODE)
        if text is None:
            return FILE_MODE
        if not _MODE.fullmatch(text):
            self.problems.append(f"{path}: {ANNOTATION_MODE} is no octal mode: {text[:40]!r}")
            return FILE_MODE
        return int(text.removeprefix("0o"), 8) & 0o777

    def _freeze(self, folder: _Folder) -> Directory:
        # Titles are at most MAX_TITLE_DEPTH components deep: recursion is bounded.
        entries: dict[str, Node] = {
            name: self._freeze(node) if isinstance(node, _Folder) else node
            for name, node in folder.entries.items()
        }
        packed: tuple[PackedLayer, ...] = ()
        if folder.layer is not None:
            content = _content_digest(folder.layer)
            packed = (PackedLayer(folder.layer, folder.root, content, manifest=self._manifest),)
        return Directory(
            MappingProxyType(entries), packed, mtime_ns=self._mtime_ns, layer=folder.layer
        )


def _view_of_artifact(manifest: Manifest, options: ViewOptions) -> Directory:
    artifact = _Artifact(manifest)
    titled: dict[str, list[Descriptor]] = {}
    for layer in _shown_layers(manifest, options):
        try:
            path = clean_title(layer.title)
        except ContentRefused as error:
            artifact.problems.append(str(error))
            continue
        if path:
            titled.setdefault(path, []).append(layer)
    # A path is placed after all that could be its parents, whatever the order of the layers.
    for path in sorted(titled, key=lambda path: path.count("/")):
        artifact.place(path, titled[path])
    return artifact.finish()


def _shown_layers(manifest: Manifest, options: ViewOptions) -> Iterator[Descriptor]:
    for layer in manifest.layers:
        if not options.media_type or fnmatchcase(layer.media_type, options.media_type):
            yield layer


def _content_digest(layer: Descriptor) -> Digest | None:
    """Return the digest of the uncompressed tar; one that does not parse is none, as for oras."""
    try:
        return Digest.parse(layer.annotations.get(ANNOTATION_CONTENT_DIGEST, ""))
    except InvalidName:
        return None
