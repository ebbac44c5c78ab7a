"""SOURCE: each form of the interface, and what is refused with which words."""

from pathlib import Path

import pytest

from orasfs.daemon.source import MountSource, default_local, find_layouts, parse_source
from orasfs.errors import InvalidName
from orasfs.oci.digest import Digest
from orasfs.oci.reference import Target
from orasfs.vfs.root import (
    ArtifactRoot,
    LayoutRoot,
    LayoutsRoot,
    NamespaceRoot,
    RegistriesRoot,
    RegistryRoot,
)

DIGEST = Digest.of(b"x")
NOWHERE = Path("/nowhere")


def parse(text: str | None) -> MountSource:
    return parse_source(text, local=NOWHERE)


def make_layout(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return path


@pytest.mark.parametrize(
    ("text", "root", "canonical"),
    [
        ("registries", RegistriesRoot(), "registries"),
        ("LocalHost:5000", RegistryRoot("localhost:5000"), "localhost:5000"),
        ("ghcr.io/", RegistryRoot("ghcr.io"), "ghcr.io"),
        ("[::1]:5000/a", NamespaceRoot("[::1]:5000", "a"), "[::1]:5000/a"),
        ("ghcr.io/a/b/", NamespaceRoot("ghcr.io", "a/b"), "ghcr.io/a/b"),
        ("h:1/a/b:v1", ArtifactRoot("h:1", "a/b", Target("v1")), "h:1/a/b:v1"),
        (f"h/a@{DIGEST}", ArtifactRoot("h", "a", Target(None, DIGEST)), f"h/a@{DIGEST}"),
        (f"h/a:t@{DIGEST}", ArtifactRoot("h", "a", Target("t", DIGEST)), f"h/a:t@{DIGEST}"),
        (
            "docker.io/alpine:3",
            ArtifactRoot("docker.io", "library/alpine", Target("3")),
            "docker.io/library/alpine:3",
        ),
    ],
)
def test_a_registry_or_what_is_in_it(text: str, root: object, canonical: str) -> None:
    source = parse(text)
    assert source.root == root
    assert source.text == canonical
    assert parse(canonical).root == root


@pytest.mark.parametrize("text", [None, "", "none"])
def test_without_a_source_the_embedded_repositories_are_meant(text: str | None) -> None:
    assert parse(text) == MountSource("none", LayoutsRoot(), local=NOWHERE)


def test_the_embedded_repositories_are_below_the_data_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_local() == Path("/data/orasfs/local")


def test_a_layout_by_its_path_with_and_without_a_target(tmp_path: Path) -> None:
    path = make_layout(tmp_path / "layout")
    assert parse(f"oci:{path}").root == LayoutRoot(str(path), None)
    assert parse(f"oci:{path}:v1").root == LayoutRoot(str(path), Target("v1"))
    assert parse(f"oci:{path}@{DIGEST}").root == LayoutRoot(str(path), Target(None, DIGEST))
    both = parse(f"oci:{path}:v1@{DIGEST}")
    assert both.root == LayoutRoot(str(path), Target("v1", DIGEST))
    assert both.text == f"oci:{path}:v1@{DIGEST}"
    assert both.layouts == {str(path): path}


def test_the_longest_path_that_exists_wins_over_a_tag(tmp_path: Path) -> None:
    plain = make_layout(tmp_path / "a")
    assert parse(f"oci:{plain}:b").root == LayoutRoot(str(plain), Target("b"))
    colon = make_layout(tmp_path / "a:b")
    assert parse(f"oci:{colon}").root == LayoutRoot(str(colon), None)
    assert parse(f"oci:{colon}:c").root == LayoutRoot(str(colon), Target("c"))


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_layout(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert parse("oci:here:v1").text == f"oci:{path}:v1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oci:/no/such/place", "no such directory"),
        ("https://ghcr.io/a", "without https://"),
        ("./layout", r"written oci:\./layout"),
        ("/srv/layout", "written oci:/srv/layout"),
        ("ghcr.io/UPPER", "expected lower-case"),
        ("ghcr.io/a:b:c", "tag"),
        ("ghcr.io/a@sha256:1", "digest"),
        ("host_name", "expected HOST"),
        ("host:99999", "expected HOST"),
    ],
)
def test_what_is_no_source_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidName, match=words):
        parse(text)


def test_a_directory_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidName, match="not an OCI image layout"):
        parse(f"oci:{tmp_path}")


def test_layouts_are_the_directories_that_are_marked(tmp_path: Path) -> None:
    make_layout(tmp_path / "one")
    make_layout(tmp_path / "two")
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    assert find_layouts(tmp_path) == {"one": tmp_path / "one", "two": tmp_path / "two"}
    assert find_layouts(tmp_path / "missing") == {}
