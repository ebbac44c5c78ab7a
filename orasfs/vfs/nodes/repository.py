"""`.oras` of a repository: any manifest by its digest, and the repository's last error."""

from functools import partial

from orasfs.errors import Forbidden, InvalidName, NotFound
from orasfs.oci.digest import Digest
from orasfs.vfs.artifact import Artifact
from orasfs.vfs.keys import Key, derive
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import NEVER_VALID_SECONDS
from orasfs.vfs.nodes.artifact import make_artifact
from orasfs.vfs.nodes.base import Answer, Found, IteratorListing, Missing, Node
from orasfs.vfs.nodes.files import LiveNode
from orasfs.vfs.nodes.tables import TableNode
from orasfs.vfs.repositories import RepositoryState

ALGORITHMS = ("sha256", "sha512")


def repository_metadata(key: Key, state: RepositoryState, mount: Mount) -> Node:
    """Return the directory `.oras` of a repository."""

    def digests(key: Key) -> Node:
        algorithms = {
            name: partial(DigestsNode, algorithm=name, state=state, mount=mount)
            for name in ALGORITHMS
        }
        return TableNode(key, state.errors, algorithms)

    def error(key: Key) -> Node:
        return LiveNode(key, state.errors, lambda: state.errors.text.encode("utf-8", "replace"))

    return TableNode(key, state.errors, {"digests": digests, "error": error})


class DigestsNode(Node):
    """`.oras/digests/ALGORITHM`: manifests by hexadecimal digest; lists nothing."""

    __slots__ = ("_algorithm", "_mount", "_state")

    def __init__(self, key: Key, algorithm: str, state: RepositoryState, mount: Mount) -> None:
        super().__init__(key, state.errors)
        self._algorithm = algorithm
        self._state = state
        self._mount = mount

    async def lookup(self, name: str) -> Answer:
        """Find a manifest of the repository."""
        try:
            digest = Digest.parse(f"{self._algorithm}:{name}")
        except InvalidName:
            return Missing(NEVER_VALID_SECONDS)
        try:
            descriptor = await self._state.repository.resolve(str(digest))
        except (NotFound, Forbidden):
            return Missing(self._mount.options.tag_ttl_seconds)
        artifact = Artifact(self._state, descriptor, self._mount)
        return Found(make_artifact(derive(self.key, name), artifact))

    def listing_now(self) -> IteratorListing:
        """List nothing: a registry does not list manifests."""
        return IteratorListing(iter(()))
