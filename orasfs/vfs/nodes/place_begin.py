"""What a path is to be in which there is nothing yet: a repository, or a namespace.

Owns two guesses at what is meant (docs/SEMANTICS.md, "Drafts"): that a mount of a path that is
nothing is of a new repository, and that an empty draft in which `NAME:TAG` is made is none.
INVARIANT: neither guess loses anything that was written.
"""

from orasfs.staging.draft import Draft
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.keys import ROOT_KEY, Key
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Place, Plain, Targeted, interpret
from orasfs.vfs.repositories import CATALOG_WAIT_SECONDS, RegistryState


async def is_new_repository(place: Place, key: Key, registry: RegistryState, mount: Mount) -> bool:
    """Tell whether the mount was made of a path at and below which there is nothing yet.

    Then the path is taken for the name of a repository that is to be.

    Args:
        place: the path.
        key: of the place's node.
        registry: what is known of its registry.
        mount: what the nodes of the mount share.

    Raises:
        OrasfsError: the registry could not say.
    """
    if key != ROOT_KEY or place.is_layout or not place.path or mount.drafts is None:
        return False
    if await registry.repository(place).probe():
        return False
    await registry.catalog.finish(CATALOG_WAIT_SECONDS)
    return not registry.children(place) and not _is_anything_below(place, mount.drafts)


def _is_anything_below(place: Place, drafts: Drafts) -> bool:
    """Tell whether there are local namespaces, or drafts of other repositories."""
    if drafts.namespaces.children(place.host, place.path):
        return True
    keys = [draft.key for draft in drafts.store.drafts()]
    above = f"{place.path}/"
    return any(key.registry == place.host and key.repository.startswith(above) for key in keys)


async def give_way(place: Place, draft: Draft, name: str, mount: Mount) -> bool:
    """Let an empty draft be a local namespace if a draft NAME:TAG is to be begun in it.

    So `mkdir -p REPOSITORY/NEW/NAME:TAG` begins what it says: its first step alone begins a draft
    of the tag NEW. Not if more was done to that one, if it was begun with a colon, or if its name
    has a dot: then it is no namespace.

    Raises:
        OrasfsError: the local disk failed.
    """
    above, meaning = interpret(place, draft.key.name), interpret(place.child(draft.key.name), name)
    is_way = isinstance(above, Plain) and above.may_be_repository and "." not in above.name
    is_name = isinstance(meaning, Targeted) and meaning.target.digest is None and name[0] != ":"
    if mount.drafts is None or not is_way or not is_name or not _is_untouched(draft):
        return False
    mount.drafts.namespaces.add(place.host, place.child(draft.key.name).path)
    await mount.drafts.drop(draft)
    return True


def _is_untouched(draft: Draft) -> bool:
    """Tell whether nothing but mkdir was done to a draft."""
    key = draft.key
    is_bare = not key.colon and not key.subject and draft.base is None
    trees = (draft.tree, draft.metadata)
    return (
        is_bare
        and not draft.is_committing
        and not any(tree.names(tree.top) or tree.attributes(tree.top) for tree in trees)
    )
