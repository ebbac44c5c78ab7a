"""What texts name: paths in the mount before references, and nothing outside of either."""

import pytest

from orasfs.errors import InvalidName, NotPermitted, OrasfsError
from orasfs.oci.digest import Digest
from orasfs.vfs.links import Links, read_reference
from orasfs.vfs.namespace import Place
from orasfs.vfs.repositories import RegistryState
from orasfs.vfs.root import (
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
    RegistryRoot,
    RootSpecification,
)

HOST = "localhost:5000"
DIGEST = Digest.of(b"x")
HERE = Place(HOST, "team/site")


def nobody(host: str) -> RegistryState:
    raise AssertionError(f"{host} was asked")


def read(text: str, root: RootSpecification, place: Place = HERE) -> list[str]:
    links = Links(place, root, "/mnt/all", registry=nobody)
    return [f"{found} {wanted}" for found, wanted in links.meanings(text)]


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("v1", [f"{HOST}/team/site v1"]),
        (":v1", [f"{HOST}/team/site v1"]),
        (f"@{DIGEST}", [f"{HOST}/team/site {DIGEST}"]),
        (str(DIGEST), [f"{HOST}/team/site {DIGEST}"]),
        ("../hello/v1", [f"{HOST}/team/hello v1"]),
        ("../hello:v1", [f"{HOST}/team/hello v1"]),
        (f"../hello@{DIGEST}", [f"{HOST}/team/hello {DIGEST}"]),
        (f"../hello:v1@{DIGEST}", [f"{HOST}/team/hello {DIGEST}"]),
        ("../../other/v1", [f"{HOST}/other v1"]),
        ("../../../ghcr.io/org/app/v1", ["ghcr.io/org/app v1"]),
        ("/mnt/all/ghcr.io/org/app:v1", ["ghcr.io/org/app v1"]),
        (f"{HOST}/team/hello:v1", [f"{HOST}/team/hello v1"]),
        ("ghcr.io/org/app:v1", [f"{HOST}/team/site/ghcr.io/org/app v1", "ghcr.io/org/app v1"]),
        ("localhost/app/v1", [f"{HOST}/team/site/localhost/app v1", "localhost/app v1"]),
        ("oci:/srv/a b/layout:v1", ["oci:/srv/a b/layout v1"]),
        (f"oci:/srv/layout@{DIGEST}", [f"oci:/srv/layout {DIGEST}"]),
        (f"oci:/srv/layout:v1@{DIGEST}", [f"oci:/srv/layout {DIGEST}"]),
    ],
)
def test_a_text_names_an_artifact(text: str, meanings: list[str]) -> None:
    assert read(text, RegistriesRoot()) == meanings


@pytest.mark.parametrize(
    ("text", "root", "place", "meaning"),
    [
        ("/mnt/all/team/hello/v1", RegistryRoot(HOST), HERE, f"{HOST}/team/hello v1"),
        ("/mnt/all/hello/v1", NamespaceRoot(HOST, "team"), HERE, f"{HOST}/team/hello v1"),
        ("/mnt/all/v1", LayoutRoot("/srv/l"), Place("oci:/srv/l", ""), "oci:/srv/l v1"),
        ("../other/v1", LayoutsRoot(), Place("oci:mine", ""), "oci:other v1"),
        ("../other:v1", LayoutsRoot(), Place("oci:mine", ""), "oci:other v1"),
        ("/mnt/all/other:v1", LayoutsRoot(), Place("oci:mine", ""), "oci:other v1"),
        ("v1", LayoutsRoot(), Place("oci:mine", ""), "oci:mine v1"),
    ],
)
def test_a_path_is_one_of_the_mount(
    text: str, root: RootSpecification, place: Place, meaning: str
) -> None:
    assert read(text, root, place) == [meaning]


@pytest.mark.parametrize(
    ("text", "root", "error"),
    [
        ("/etc/passwd", RegistriesRoot(), NotPermitted),
        ("/mnt/allover/x/v1", RegistriesRoot(), NotPermitted),
        ("../../../../v1", RegistriesRoot(), NotPermitted),
        ("../../../etc/v1", RegistryRoot(HOST), NotPermitted),
        ("../../../-/x/v1", RegistriesRoot(), InvalidName),
    ],
)
def test_what_leads_out_of_the_mount_is_refused(
    text: str, root: RootSpecification, error: type[OrasfsError]
) -> None:
    with pytest.raises(error):
        read(text, root)


@pytest.mark.parametrize("text", ["-", "", "a b", "..", "../hello"])
def test_what_is_no_name_has_no_meaning(text: str) -> None:
    found = read(text, RegistriesRoot())
    assert found in ([], [f"{HOST}/team hello"])


@pytest.mark.parametrize(
    "text",
    ["app:v1", "app/x:v1", "ghcr.io", "oci:layout:v1", "oci:/layout", "oci:a/b:v1", "h:x/a"],
)
def test_what_is_no_reference_is_none(text: str) -> None:
    assert read_reference(text) is None
