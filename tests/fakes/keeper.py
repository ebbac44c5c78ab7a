"""A cache that takes over what was pushed, in memory: `orasfs.staging.committer.Keeper`."""

from orasfs.errors import StorageFull
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.contents import LocalBlob


class MemoryKeeper:
    """Keeps digests, or fails."""

    def __init__(self) -> None:
        self.kept: set[Digest] = set()
        self.tags: dict[str, Digest] = {}
        self.is_full = False

    def keep(self, registry: str, blob: LocalBlob) -> None:
        if self.is_full:
            raise StorageFull("the cache is full")
        with blob.content.open() as content:
            assert Digest.of(content.read()) == blob.descriptor.digest
        self.kept.add(blob.descriptor.digest)

    def note_tag(self, registry: str, repository: str, tag: str, descriptor: Descriptor) -> None:
        self.tags[f"{registry}/{repository}:{tag}"] = descriptor.digest
