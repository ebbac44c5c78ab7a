"""What can be ordered of a committed artifact: another tag for it, and its removal.

Owns the attributes that order it, and what this mount learns of a tag by doing so.
"""

from orasfs.errors import InvalidInput, InvalidName, ReadOnly
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import Target, is_tag
from orasfs.oci.storage import ANY, Expectation
from orasfs.vfs.mount import Mount
from orasfs.vfs.repositories import RepositoryState
from orasfs.vfs.tagging import Tagging
from orasfs.vfs.xattrs import PREFIX

TAG = f"{PREFIX}tag"
REMOVE = f"{PREFIX}remove"
ORDERS = frozenset({TAG, REMOVE})


def required(mount: Mount) -> Tagging:
    """Return who puts and removes tags.

    Raises:
        ReadOnly: nobody, in this mount.
    """
    if mount.drafts is None or mount.drafts.tagging is None:
        raise ReadOnly("mounted read-only")
    return mount.drafts.tagging


async def order(
    state: RepositoryState,
    mount: Mount,
    descriptor: Descriptor,
    target: Target,
    name: str,
    value: bytes,
) -> None:
    """Do what an attribute of an artifact orders.

    Args:
        state: the repository.
        mount: what the nodes of the mount share.
        descriptor: of the artifact's manifest.
        target: by what it was reached: a digest, or else a tag.
        name: one of `ORDERS`.
        value: of the attribute.

    Raises:
        InvalidName: the tag is not valid.
        InvalidInput: the value of a removal is another than 1.
        OrasfsError: the registry refused.
    """
    text = value.decode("utf-8", "replace")
    if name == TAG:
        if not is_tag(text):
            raise InvalidName(f"{text[:150]!r} is no valid tag")
        await put(state, mount, descriptor, text)
    else:
        if text != "1":
            raise InvalidInput(f"{REMOVE}: {text[:80]!r}, expected 1")
        wanted = target.tag if target.digest is None and target.tag else descriptor.digest
        await remove(state, mount, wanted)


async def put(
    state: RepositoryState,
    mount: Mount,
    descriptor: Descriptor,
    tag: str,
    *,
    expected: Expectation = ANY,
) -> None:
    """Let a tag of a repository name a manifest that is in it."""
    tagging = required(mount)
    await tagging.tag(state.place, state.repository, descriptor, tag, expected=expected)
    state.tags.learn(tag, descriptor)
    tagging.tell(state.place, tag)


async def remove(state: RepositoryState, mount: Mount, wanted: str | Digest) -> None:
    """Remove a tag, or a manifest by its digest."""
    tagging = required(mount)
    await tagging.remove(state.place, wanted)
    tags = [wanted] if isinstance(wanted, str) else state.tags.naming(wanted)
    for tag in tags:
        state.tags.forget(tag)
        tagging.tell(state.place, tag)
