"""What the text of a link, or of `user.oras.base`, names: an artifact, wherever it is.

Owns the reading of such texts (docs/SEMANTICS.md, "Copies"): a path from the place, a path below
the mountpoint, or a reference. Knows no nodes.
INVARIANT: a path that leads out of the mount names nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from orasfs.errors import InvalidName, NotFound, NotPermitted, OrasfsError, RegistryError
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import Target, parse_registry
from orasfs.staging.draftrecord import BaseReference
from orasfs.vfs.namespace import LAYOUT_PREFIX, Place, Plain, Targeted, interpret
from orasfs.vfs.repositories import RegistryState, RepositoryState
from orasfs.vfs.root import (
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
    RegistryRoot,
    RootSpecification,
)

LOCALHOST = "localhost"
Wanted = tuple[Place, str | Digest]


@dataclass(frozen=True, slots=True)
class Links:
    """Reads texts in one place.

    Attributes:
        place: where a relative path begins.
        root: what the mount's root is.
        mountpoint: an absolute path, "" if there is none.
        registry: returns what is known of a registry; makes no request.
    """

    place: Place
    root: RootSpecification
    mountpoint: str = ""
    registry: Callable[[str], RegistryState] = field(kw_only=True, repr=False)

    async def find(self, text: str) -> BaseReference:
        """Return what a text names.

        A path goes before a reference, as in every other link. If there is nothing at the path,
        or the registry denies it, the reference is what was meant.

        Raises:
            NotFound: there is no such artifact.
            NotPermitted: the text leads out of the mount.
            InvalidName: it names nothing.
        """
        meanings = list(self.meanings(text))
        if not meanings:
            raise InvalidName(f"{text}: neither the path nor the reference of an artifact")
        for place, wanted in meanings[:-1]:
            try:
                return await self._resolve(place, wanted)
            except (NotFound, RegistryError):
                continue
        return await self._resolve(*meanings[-1])

    def meanings(self, text: str) -> Iterator[Wanted]:
        """Yield repository and tag (or digest) for each way to read a text, the likely one first.

        Raises:
            NotPermitted: it leads out of the mount, and is nothing else.
        """
        if _is_digest(text):
            text = f"@{text}"
        reference = read_reference(text)
        try:
            path = self._path(text)
        except OrasfsError:
            if reference is None:
                raise
        else:
            yield from filter(None, [path])
        yield from filter(None, [reference])

    def _path(self, text: str) -> Wanted | None:
        if text.startswith("/"):
            mountpoint = f"{self.mountpoint.rstrip('/')}/"
            if not self.mountpoint or not text.startswith(mountpoint):
                raise NotPermitted(f"{text}: not in this mount: name it by its reference")
            return self._walk(_root_parts(self.root), text.removeprefix(mountpoint))
        parts = [self.place.host, *(part for part in self.place.path.split("/") if part)]
        return self._walk(parts, text)

    def _walk(self, start: Sequence[str], text: str) -> Wanted | None:
        """Follow a path; `start` has the registry before the names below it."""
        parts = list(start)
        above, _, last = text.rstrip("/").rpartition("/")
        has_hosts = isinstance(self.root, RegistriesRoot | LayoutsRoot)
        for name in [part for part in above.split("/") if part not in ("", ".")]:
            if name != "..":
                parts.append(name if parts else _host(self.root, name))
            elif len(parts) > 1 or (parts and has_hosts):
                parts.pop()
            else:
                raise NotPermitted(f"{text}: leads out of the mount: name it by its reference")
        if not parts:  # an artifact of a layout, named beside it
            host, mark, rest = _split_layout(last)
            return _read(Place(_host(self.root, host), ""), f"{mark}{rest}") if mark else None
        return _read(Place(parts[0], "/".join(parts[1:])), last)

    async def _resolve(self, place: Place, wanted: str | Digest) -> BaseReference:
        state = self.registry(place.host).repository(place)
        return BaseReference(place.host, place.path, await _descriptor(state, wanted))


async def _descriptor(state: RepositoryState, wanted: str | Digest) -> Descriptor:
    if isinstance(wanted, Digest):
        return await state.repository.resolve(str(wanted))
    resolution = await state.tags.resolve(wanted)
    if resolution is None:
        raise NotFound(f"{state.place.reference(Target(wanted))}: no such tag")
    return resolution.descriptor


def read_reference(text: str) -> Wanted | None:
    """Read `HOST[:PORT]/REPOSITORY:TAG` (or /TAG, or @DIGEST), or `oci:PATH:TAG`; None if neither.

    A host has a dot or a port, or is `localhost`, as for the reference client.
    """
    if text.startswith(LAYOUT_PREFIX):
        above, slash, last = text.removeprefix(LAYOUT_PREFIX).rpartition("/")
        name, mark, rest = _split_layout(last)
        if not mark or not slash or (above and not above.startswith("/")):
            return None
        return _read(Place(f"{LAYOUT_PREFIX}{above}/{name}", ""), f"{mark}{rest}")
    host, slash, rest = text.partition("/")
    if not slash or not ("." in host or ":" in host or host.lower() == LOCALHOST):
        return None
    try:
        registry = parse_registry(host)
    except InvalidName:
        return None
    above, _, last = rest.rstrip("/").rpartition("/")
    return _read(Place(registry, above), last)


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except InvalidName:
        return False
    return True


def _read(place: Place, name: str) -> Wanted | None:
    """Return what the last name of a path means in its place."""
    meaning = interpret(place, name)
    if isinstance(meaning, Targeted):
        wanted = meaning.target.digest or meaning.target.tag
        return (meaning.place, wanted) if wanted is not None else None
    if isinstance(meaning, Plain) and meaning.may_be_tag:
        return place, name
    return None


def _split_layout(name: str) -> tuple[str, str, str]:
    """Split `NAME:TAG`, `NAME@DIGEST` or `NAME:TAG@DIGEST` behind NAME, with the mark apart."""
    ends = [at for at in (name.find(":"), name.find("@")) if at >= 0]
    if not ends:
        return name, "", ""
    at = min(ends)
    return name[:at], name[at], name[at + 1 :]


def _host(root: RootSpecification, name: str) -> str:
    """Return the registry that a name in the mount's root is."""
    return f"{LAYOUT_PREFIX}{name}" if isinstance(root, LayoutsRoot) else parse_registry(name)


def _root_parts(root: RootSpecification) -> list[str]:
    match root:
        case RegistryRoot(host):
            return [host]
        case NamespaceRoot(host, path):
            return [host, *path.split("/")]
        case LayoutRoot(label):
            return [f"{LAYOUT_PREFIX}{label}"]
        case _:
            return []
