"""The node at the root of a mount, for each kind of root."""

from orasfs.oci.reference import Target
from orasfs.vfs.keys import ROOT_KEY
from orasfs.vfs.namespace import LAYOUT_PREFIX, Place
from orasfs.vfs.nodes.artifact import ArtifactNode
from orasfs.vfs.nodes.base import Node
from orasfs.vfs.nodes.registries import LayoutsNode, RegistriesNode
from orasfs.vfs.nodes.world import World
from orasfs.vfs.root import (
    ArtifactRoot,
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
    RegistryRoot,
    RootSpecification,
)


def make_root(root: RootSpecification, world: World) -> Node:
    """Return the root's node; makes no request."""
    if isinstance(root, RegistriesRoot):
        return RegistriesNode(ROOT_KEY, world)
    if isinstance(root, LayoutsRoot):
        return LayoutsNode(ROOT_KEY, world)
    place, target = _place_and_target(root)
    if target is None:
        return world.place_node(ROOT_KEY, place)
    state = world.registry(place.host).repository(place)
    return ArtifactNode(ROOT_KEY, target, state, world.mount)


def _place_and_target(
    root: RegistryRoot | NamespaceRoot | ArtifactRoot | LayoutRoot,
) -> tuple[Place, Target | None]:
    match root:
        case RegistryRoot(host):
            return Place(host, ""), None
        case NamespaceRoot(host, path):
            return Place(host, path), None
        case ArtifactRoot(host, repository, target):
            return Place(host, repository), target
        case LayoutRoot(label, target):
            return Place(f"{LAYOUT_PREFIX}{label}", ""), target
