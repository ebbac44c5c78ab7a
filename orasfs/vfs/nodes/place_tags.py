"""What `ln -s`, `mv` and `orasfs tag` do to the tags of a place.

Owns the reading of a link's text as the name of a tag (docs/SEMANTICS.md, "Tags").
INVARIANT: a tag is moved in one request, which sends the very bytes of the manifest it is to name.
"""

import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orasfs.errors import AlreadyExists, CrossDevice, InvalidName, NotFound, NotPermitted
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import Target, is_tag
from orasfs.oci.storage import ANY, Expectation
from orasfs.staging.localdisk import RENAME_EXCHANGE, RENAME_NOREPLACE
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Place, Plain, Targeted, interpret
from orasfs.vfs.nodes import tag_orders
from orasfs.vfs.nodes.base import Found, Node, Stat
from orasfs.vfs.repositories import RegistryState, RepositoryState
from orasfs.vfs.tagging import Tagging

MakeArtifact = Callable[[Key, Artifact], Node]


class TagLinkNode(Node):
    """The symlink that symlink(2) has to be answered with; a lookup finds the artifact."""

    __slots__ = ("_text",)

    def __init__(self, errors: ErrorLog, text: str) -> None:
        super().__init__(Key(secrets.token_bytes(16)), errors)
        self._text = text

    def stat(self) -> Stat:
        """Return a symlink's attributes."""
        return Stat(stat.S_IFLNK | 0o777, len(self._text.encode("utf-8", "surrogateescape")))

    def readlink(self) -> str:
        """Return the text."""
        return self._text


@dataclass(frozen=True, slots=True)
class PlaceTags:
    """The tags of a place, for changing.

    Attributes:
        place: where the names are.
        registry: what is known of its registry.
        mount: what the nodes of the mount share.
        key: of the place's node.
        make_artifact: makes the node of an artifact.
    """

    place: Place
    registry: RegistryState = field(repr=False)
    mount: Mount = field(repr=False)
    key: Key = field(repr=False)
    make_artifact: MakeArtifact = field(repr=False)

    def find(self, name: str) -> Found | None:
        """Return what an alias stands for."""
        tagging = self.mount.drafts.tagging if self.mount.drafts else None
        descriptor = tagging.alias(self.place, name) if tagging else None
        if descriptor is None:
            return None
        artifact = Artifact(self._state(self.place), descriptor, self.mount)
        return Found(self.make_artifact(derive(self.key, name, "alias"), artifact), 0.0)

    def repository_of(self, name: str) -> Place:
        """Return the repository in which a name here is a tag, or would be an alias.

        Raises:
            InvalidName: it cannot be a name of either.
        """
        return self.read(name)[0] if is_tag(name) or ":" in name or "@" in name else self.place

    async def make_symlink(self, name: str, text: str, descriptor: Descriptor) -> Found:
        """Let the tag `name` be what the link's text names in its repository, or begin an alias.

        Raises:
            AlreadyExists: the tag exists.
            CrossDevice: the name is that of a digest.
        """
        tagging = self._tagging()
        if not is_tag(name) and ":" not in name and "@" not in name:
            tagging.set_alias(self.place, name, descriptor)
        else:
            place, tag = self.read(name)
            if not isinstance(tag, str):
                raise CrossDevice(f"{name}: a digest names one manifest for ever")
            await self._refuse_existing(place, tag)
            await self.tag(place, descriptor, tag, expected=None)
        return self.link(text)

    def link(self, text: str) -> Found:
        """Return the symlink that the kernel wants to see, once."""
        return Found(TagLinkNode(self._state(self.place).errors, text), 0.0)

    async def rename(self, name: str, target: "PlaceTags", new_name: str, flags: int) -> bool:
        """Move an alias or a tag to the name of a tag; False if it is neither.

        Raises:
            NotPermitted: it is a tag, which would have to be removed, and nothing may be; or it
                is moved to another repository.
            AlreadyExists: the new name exists, and is not to be replaced.
        """
        tagging = self.mount.drafts.tagging if self.mount.drafts else None
        if tagging is None:
            return False
        alias = tagging.alias(self.place, name)
        meaning = interpret(self.place, name)
        is_tag_here = isinstance(meaning, Targeted) or (
            isinstance(meaning, Plain) and meaning.may_be_tag
        )
        if alias is None and not is_tag_here:
            return False
        place, tag = target.read(new_name)
        if flags & RENAME_EXCHANGE or not isinstance(tag, str):
            raise NotPermitted(f"{new_name}: not the name of a tag")
        if alias is not None:
            if place != self.place:
                raise NotPermitted(f"{name}: stays in its repository")
            if flags & RENAME_NOREPLACE:
                await self._refuse_existing(place, tag)
            await self.tag(place, alias, tag)
            tagging.remove_alias(self.place, name)
            return True
        await self._move(self.read(name), (place, tag), flags)
        return True

    def remove_alias(self, name: str) -> bool:
        """Forget an alias; False if the name is none."""
        tagging = self.mount.drafts.tagging if self.mount.drafts else None
        if tagging is None or tagging.alias(self.place, name) is None:
            return False
        tagging.remove_alias(self.place, name)
        return True

    async def tag(
        self, place: Place, descriptor: Descriptor, tag: str, *, expected: Expectation = ANY
    ) -> None:
        """Let a tag of a repository name a manifest that is in it."""
        await tag_orders.put(self._state(place), self.mount, descriptor, tag, expected=expected)
        self.registry.prove(place)

    async def _move(
        self, old: tuple[Place, str | Digest], new: tuple[Place, str], flags: int
    ) -> None:
        """Rename a tag: another request puts it, a second one removes the old name."""
        (place, source), (new_place, tag) = old, new
        if place != new_place or not isinstance(source, str):
            raise NotPermitted("what is committed stays in its repository: copy it")
        self._tagging().check_deletion()
        descriptor = await self._resolve(place, source)
        if flags & RENAME_NOREPLACE:
            await self._refuse_existing(place, tag)
        await self.tag(place, descriptor, tag)
        await tag_orders.remove(self._state(place), self.mount, source)

    def read(self, text: str) -> tuple[Place, str | Digest]:
        """Return repository and tag (or digest) that a name in this place means.

        Raises:
            InvalidName: it means nothing.
            NotPermitted: it leads elsewhere.
        """
        above, _, name = text.rstrip("/").rpartition("/")
        if above:
            return replace(self, place=self._walk(above)).read(name)
        meaning = interpret(self.place, name)
        if isinstance(meaning, Targeted):
            return meaning.place, _wanted(meaning.target, name)
        if isinstance(meaning, Plain) and meaning.may_be_tag:
            return self.place, name
        raise InvalidName(f"{text}: not the name of a tag")

    def _walk(self, text: str) -> Place:
        """Return the place that a relative path leads to.

        Raises:
            NotPermitted: it leads out of the registry, or is absolute.
        """
        path = [name for name in self.place.path.split("/") if name]
        for name in text.split("/"):
            if name == ".." and path:
                path.pop()
            elif name in ("", "..") or self.place.is_layout:
                raise NotPermitted(f"{text}: leads out of the registry: copy it instead")
            elif name != ".":
                path.append(name)
        return Place(self.place.host, "/".join(path))

    async def _resolve(self, place: Place, wanted: str | Digest) -> Descriptor:
        state = self._state(place)
        if isinstance(wanted, Digest):
            return await state.repository.resolve(str(wanted))
        resolution = await state.tags.resolve(wanted)
        if resolution is None:
            raise NotFound(f"{place.reference(Target(wanted))}: no such tag")
        return resolution.descriptor

    async def _refuse_existing(self, place: Place, tag: str) -> None:
        if await self._state(place).tags.resolve(tag) is not None:
            raise AlreadyExists(f"{tag}: exists; `orasfs tag` moves it")

    def _state(self, place: Place) -> RepositoryState:
        return self.registry.repository(place)

    def _tagging(self) -> Tagging:
        return tag_orders.required(self.mount)


def _wanted(target: Target, name: str) -> str | Digest:
    wanted = target.digest or target.tag
    if wanted is None:
        raise InvalidName(f"{name}: names neither a tag nor a digest")
    return wanted
