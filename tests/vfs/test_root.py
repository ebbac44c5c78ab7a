"""Which repositories have a place in a mount."""

import pytest

from orasfs.oci.reference import Target
from orasfs.vfs.root import (
    ArtifactRoot,
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
    RegistryRoot,
    RootSpecification,
    reaches,
)

SITE = ("localhost:5000", "team/site")
LAYOUT = ("oci:/srv/layout", "")
EMBEDDED = ("oci:local", "")


@pytest.mark.parametrize(
    ("root", "reached"),
    [
        (RegistriesRoot(), {SITE}),
        (RegistryRoot("localhost:5000"), {SITE}),
        (RegistryRoot("localhost:5001"), set()),
        (NamespaceRoot("localhost:5000", "team"), {SITE}),
        (NamespaceRoot("localhost:5000", "team/site"), {SITE}),
        (NamespaceRoot("localhost:5000", "team/si"), set()),
        (NamespaceRoot("localhost:5000", "team/site/deep"), set()),
        (ArtifactRoot("localhost:5000", "team/site", Target("v1")), set()),
        (LayoutRoot("/srv/layout"), {LAYOUT}),
        (LayoutRoot("/srv/other"), set()),
        (LayoutRoot("/srv/layout", Target("v1")), set()),
        (LayoutsRoot(), {EMBEDDED}),
    ],
    ids=repr,
)
def test_a_repository_has_a_place_at_or_below_the_root(
    root: RootSpecification, reached: set[tuple[str, str]]
) -> None:
    found = {each for each in (SITE, LAYOUT, EMBEDDED) if reaches(root, *each)}
    assert found == reached
