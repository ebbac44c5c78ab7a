"""`.oras/referrers` of an artifact: what refers to it, and drafts that are to.

Owns the names in there: an algorithm, a referrer's hexadecimal digest, a draft's own name.
INVARIANT: a draft here has the artifact's digest in its key, so that it is found again under
whatever tag the artifact is reached.
"""

from collections.abc import Iterator, Sequence

import trio

from orasfs.errors import AlreadyExists, InvalidName, NotEmpty, NotPermitted, ReadOnly
from orasfs.oci.descriptor import ANNOTATION_REF_NAME, Descriptor
from orasfs.oci.digest import ALGORITHMS, Digest
from orasfs.oci.manifest import Index
from orasfs.staging.changes import AttrChanges
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.nodes.base import Answer, Found, IteratorListing, Listed, Missing, Node
from orasfs.vfs.nodes.drafttop import DraftTopNode
from orasfs.vfs.nodes.view import MakeArtifact


class ReferrersNode(Node):
    """`.oras/referrers`, or one algorithm of it: the artifacts that name this one as subject."""

    __slots__ = ("_algorithm", "_artifact", "_make_artifact")

    def __init__(
        self, key: Key, artifact: Artifact, make_artifact: MakeArtifact, algorithm: str = ""
    ) -> None:
        super().__init__(key, artifact.errors)
        self._artifact = artifact
        self._make_artifact = make_artifact
        self._algorithm = algorithm

    @property
    def subject(self) -> Digest:
        """To what they refer."""
        return self._artifact.descriptor.digest

    def lookup_now(self, name: str) -> Answer | None:
        """Find a draft, or what one became in this mount."""
        drafts = self._artifact.mount.drafts
        if drafts is None or self._algorithm:
            return None
        key = self._key_of(name)
        draft = drafts.store.find(key)
        if draft is not None:
            return self._draft(draft, drafts)
        attached = drafts.attached.get(key)
        return Found(self.committed(key, attached), self._ttl_seconds) if attached else None

    async def lookup(self, name: str) -> Answer:
        """Find an algorithm, or a referrer by its hexadecimal digest.

        Raises:
            OrasfsError: the registry could not say.
        """
        for listed in await self._entries():
            if listed.name == name:
                return listed.found
        return Missing(self._ttl_seconds)

    async def listing(self) -> IteratorListing:
        """List the algorithms that occur, or the referrers of this one; and drafts."""
        return IteratorListing(iter([*self._drafts(), *await self._entries()]))

    async def make_directory(self, name: str, mode: int) -> Found:
        """Begin a draft that is attached to the artifact when it is committed.

        Raises:
            AlreadyExists: there is one of that name.
            InvalidName: the name is one that referrers have.
            ReadOnly: nothing can be written in this mount.
        """
        drafts = self._artifact.mount.drafts
        if drafts is None:
            raise ReadOnly("mounted read-only")
        if self._algorithm:
            raise NotPermitted(f"{name}: attach by mkdir .oras/referrers/NAME")
        if name in ALGORITHMS or name.startswith(".") or ":" in name:
            raise InvalidName(f"{name}: not the name of a draft: no dot first, and no colon")
        key = self._key_of(name)
        if key in drafts.attached:
            raise AlreadyExists(f"{name} is attached already")
        draft = drafts.store.create(key, subject=await self._described())
        draft.tree.change(draft.tree.top, AttrChanges(mode=mode))
        return self._draft(draft, drafts)

    async def remove_directory(self, name: str) -> None:
        """Drop an empty draft.

        Raises:
            NotEmpty: something is in it; always of what is attached.
        """
        await trio.lowlevel.checkpoint()
        drafts = self._artifact.mount.drafts
        draft = drafts.store.find(self._key_of(name)) if drafts and not self._algorithm else None
        if drafts is None or draft is None:
            raise NotEmpty(f"{name}: what is committed is removed by `orasfs rm` only")
        draft.check_writable()
        if draft.tree.names(draft.tree.top):
            raise NotEmpty(f"{name}: the draft is not empty")
        await drafts.drop(draft)

    def committed(self, key: DraftKey, descriptor: Descriptor) -> Node:
        """Learn what a draft has become, and return its node."""
        drafts = self._artifact.mount.drafts
        if drafts is not None:
            drafts.attached[key] = descriptor
        return self._make_artifact(
            derive(self.key, key.name, "attached"), self._artifact.related(descriptor)
        )

    async def rebase(self, draft: Draft, text: str) -> None:
        """Refuse.

        Raises:
            NotPermitted: what is attached has no base.
        """
        await trio.lowlevel.checkpoint()
        raise NotPermitted(f"{draft.key}: what is attached begins empty, not as {text}")

    async def give_way(self, draft: Draft, name: str) -> Node | None:  # noqa: ARG002 - the port's
        """Let it be: no repository is begun here."""
        await trio.lowlevel.checkpoint()
        return None

    async def _described(self) -> Descriptor:
        """Return the subject's descriptor, as the reference client has it from the same source.

        A registry tells no more than media type, digest and size; the index of a layout has what
        was copied from the manifest, and the tag.
        """
        plain = self._artifact.descriptor
        if not self._artifact.state.place.is_layout:
            await trio.lowlevel.checkpoint()
            return Descriptor(plain.media_type, plain.digest, plain.size)
        document = (await self._artifact.document()).parsed
        is_index = isinstance(document, Index)
        annotations = {} if is_index else dict(document.annotations)
        if self._artifact.tag:
            annotations[ANNOTATION_REF_NAME] = self._artifact.tag
        artifact_type = "" if is_index else document.artifact_type
        return Descriptor(
            plain.media_type, plain.digest, plain.size, annotations, artifact_type=artifact_type
        )

    @property
    def _ttl_seconds(self) -> float:
        return self._artifact.mount.options.tag_ttl_seconds

    def _key_of(self, name: str) -> DraftKey:
        place = self._artifact.state.place
        return DraftKey(place.host, place.path, name, subject=str(self.subject))

    def _draft(self, draft: Draft, drafts: Drafts) -> Found:
        return Found(DraftTopNode(draft, drafts, self), self._ttl_seconds)

    def _drafts(self) -> Iterator[Listed]:
        drafts = self._artifact.mount.drafts
        if drafts is None or self._algorithm:
            return
        for draft in drafts.store.drafts():
            if draft.key == self._key_of(draft.key.name):
                yield Listed(draft.key.name, self._draft(draft, drafts))

    async def _entries(self) -> Sequence[Listed]:
        referrers = await self._artifact.repository.list_referrers(self.subject)
        found: dict[str, Node] = {}
        for each in referrers:
            if not self._algorithm:
                name = each.digest.algorithm
                key = derive(self.key, name)
                found[name] = ReferrersNode(key, self._artifact, self._make_artifact, name)
            elif each.digest.algorithm == self._algorithm:
                key = derive(self.key, each.digest.hex)
                found[each.digest.hex] = self._make_artifact(key, self._artifact.related(each))
        return [Listed(name, Found(found[name], self._ttl_seconds)) for name in sorted(found)]
