"""What drafts have from the artifacts that they began from, and copies as they are.

Owns the step from the base that a draft's record names to nodes. Knows no places and no names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from orasfs.errors import NotEmpty, NotFound, OrasfsError, Unsupported
from orasfs.oci.manifest import Manifest
from orasfs.staging.draft import Draft
from orasfs.staging.draftrecord import BaseReference
from orasfs.staging.workspace import PENDING
from orasfs.tree import merge
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.keys import ROOT_KEY, derive
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Place
from orasfs.vfs.nodes.artifact import make_artifact
from orasfs.vfs.nodes.base import Node
from orasfs.vfs.nodes.copytop import CopyTopNode
from orasfs.vfs.nodes.drafttop import BASE, DraftPlace, DraftTopNode
from orasfs.vfs.nodes.files import BrokenNode
from orasfs.vfs.nodes.lower import Lower
from orasfs.vfs.repositories import RegistryState

States = Callable[[str], RegistryState]


@dataclass(frozen=True, slots=True)
class Bases:
    """The bases of drafts.

    Attributes:
        states: returns what is known of a registry; makes no request.
        mount: what the nodes of the mount share.
    """

    states: States = field(repr=False)
    mount: Mount = field(repr=False)

    def node(self, draft: Draft, drafts: Drafts, place: DraftPlace) -> Node:
        """Return the top of a draft, with its base if it has one."""
        try:
            self._attach(draft, drafts)
            if draft.base is None or not draft.is_copy:
                return DraftTopNode(draft, drafts, place)
            shown, reference = self._shown(draft, draft.base), self._artifact(draft.base).reference
            return CopyTopNode(draft, drafts, place, shown, reference)
        except NotFound as error:  # the layout of its base has gone
            key = derive(ROOT_KEY, "draft", draft.id, "broken")
            return BrokenNode(key, drafts.errors(draft), str(error))

    async def rebase(self, draft: Draft, base: BaseReference, drafts: Drafts) -> None:
        """Give an empty draft the content of another artifact.

        Raises:
            NotEmpty: something is in it.
            NotFound: there is no such artifact.
            Unsupported: it is an index, or a container image's merged filesystem.
        """
        draft.check_writable()
        if draft.base is not None or draft.tree.names(draft.tree.top):
            raise NotEmpty(f"{draft.key}: only an empty draft can get a base")
        await self.check_editable(base)
        draft.tree.set_attribute(draft.tree.top, PENDING, b"")
        draft.rebase(base, draft.expected)
        self._attach(draft, drafts)
        await drafts.lowers[draft.id].fill(draft.tree.top)

    async def fill(self, draft: Draft, drafts: Drafts) -> None:
        """Give a new draft the names of its base; drop the draft if that fails."""
        self._attach(draft, drafts)
        failure: OrasfsError | None = None
        try:
            await drafts.lowers[draft.id].fill(draft.tree.top)
        except OrasfsError as error:
            failure = error
        if failure is not None:
            await drafts.drop(draft)
            raise failure

    async def check_editable(self, base: BaseReference) -> None:
        """Refuse what can be no base of a draft.

        Raises:
            Unsupported: it is an index, or a container image's merged filesystem.
        """
        artifact = self._artifact(base)
        if not isinstance((await artifact.document()).parsed, Manifest):
            raise Unsupported(
                f"{artifact.reference}: an index cannot be edited; begin a draft on one of its "
                f"children by mkdir REPOSITORY:NEW; setfattr -n {BASE} -v @DIGEST REPOSITORY:NEW"
            )
        if merge.required_layers(await artifact.root()):
            raise Unsupported(
                f"{artifact.reference}: a container image's merged filesystem cannot be edited; "
                "with -o images=blobs its layers are files"
            )

    def _attach(self, draft: Draft, drafts: Drafts) -> None:
        if draft.base is None or draft.is_copy or draft.id in drafts.lowers:
            return
        root = self._shown(draft, draft.base)
        drafts.lowers[draft.id] = Lower(draft, self._artifact(draft.base), root)

    def _shown(self, draft: Draft, base: BaseReference) -> Node:
        return make_artifact(derive(ROOT_KEY, "lower", draft.id), self._artifact(base))

    def _artifact(self, base: BaseReference) -> Artifact:
        state = self.states(base.registry).repository(Place(base.registry, base.repository))
        return Artifact(state, base.descriptor, self.mount)
