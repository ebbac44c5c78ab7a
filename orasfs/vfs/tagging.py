"""Tags that are put, moved and removed without any content being sent.

Owns the requests to the targets, and the aliases: names that are no valid tags (`.t`) and stand
for an artifact in this mount only, until they are renamed to one. Knows no nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from orasfs.errors import NotPermitted
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import ANY, Expectation, ManifestFetcher, Target
from orasfs.vfs.namespace import Place

Listener = Callable[[Place, str], None]


@dataclass(slots=True)
class Tagging:
    """Puts and removes the tags of one mount.

    Attributes:
        target: returns the target of a registry and a repository; makes no request.
        may_delete: whether anything may be removed.
        listener: told of a tag that has become, or may become, another.
    """

    target: Callable[[str, str], Target] = field(repr=False)
    may_delete: bool = False
    listener: Listener | None = field(default=None, repr=False)
    _aliases: dict[tuple[Place, str], Descriptor] = field(default_factory=dict, repr=False)

    async def tag(
        self,
        place: Place,
        fetcher: ManifestFetcher,
        descriptor: Descriptor,
        tag: str,
        *,
        expected: Expectation = ANY,
    ) -> None:
        """Let a tag name a manifest that its repository has.

        Raises:
            TagMoved: it names another than expected.
            OrasfsError: the registry refused; the tag is what it was.
        """
        raw = await fetcher.fetch_manifest(descriptor)
        target = self.target(place.host, place.repository)
        await target.push_manifest(raw, descriptor.media_type, tag, expected=expected)

    async def remove(self, place: Place, name: str | Digest) -> None:
        """Remove a tag, or a manifest with all tags on it.

        Raises:
            NotPermitted: the mount was not told that it may.
            OrasfsError: the registry refused.
        """
        self.check_deletion()
        target = self.target(place.host, place.repository)
        if isinstance(name, Digest):
            await target.delete_manifest(name)
        else:
            await target.delete_tag(name)

    def check_deletion(self) -> None:
        """Refuse unless the mount may remove.

        Raises:
            NotPermitted: it may not.
        """
        if not self.may_delete:
            raise NotPermitted("removing needs the mount option delete: -o delete")

    def tell(self, place: Place, tag: str) -> None:
        """Tell the listener of a tag that is not what it was."""
        if self.listener is not None:
            self.listener(place, tag)

    def alias(self, place: Place, name: str) -> Descriptor | None:
        """Return what a name that is no tag stands for."""
        return self._aliases.get((place, name))

    def set_alias(self, place: Place, name: str, descriptor: Descriptor) -> None:
        """Let a name that is no tag stand for an artifact."""
        self._aliases[place, name] = descriptor

    def remove_alias(self, place: Place, name: str) -> None:
        """Forget a name; harmless for one that is none."""
        self._aliases.pop((place, name), None)
