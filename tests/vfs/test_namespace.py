import pytest

from orasfs.oci.digest import Digest
from orasfs.oci.reference import Target
from orasfs.vfs.namespace import (
    Metadata,
    Place,
    Plain,
    Targeted,
    interpret,
    is_listed_tag,
    shadowed,
)

REGISTRY = Place("localhost:5000", "")
TEAM = Place("localhost:5000", "team")
LAYOUT = Place("oci:/srv/layout", "")
DIGEST = Digest.of(b"x")


@pytest.mark.parametrize("name", [".git", "a b", "Upper", "", "-x", "a:b:c", "a@sha256:12", "a:"])
def test_a_name_that_can_never_be_means_nothing_below_a_registry(name: str) -> None:
    assert interpret(REGISTRY, name) is None


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("hello:v1", Targeted(TEAM.child("hello"), Target("v1"))),
        (f"hello@{DIGEST}", Targeted(TEAM.child("hello"), Target(None, DIGEST))),
        (f"hello:v1@{DIGEST}", Targeted(TEAM.child("hello"), Target("v1", DIGEST))),
        (":v1", Targeted(TEAM, Target("v1"))),
        (f"@{DIGEST}", Targeted(TEAM, Target(None, DIGEST))),
        (".oras", Metadata()),
    ],
)
def test_references_are_names(name: str, meaning: object) -> None:
    assert interpret(TEAM, name) == meaning


def test_the_registry_itself_has_no_tags_but_errors() -> None:
    assert interpret(REGISTRY, ":v1") is None
    assert interpret(REGISTRY, ".oras") == Metadata()
    assert interpret(REGISTRY, "v1") == Plain("v1", False, True, True)


def test_an_upper_case_name_can_be_a_tag_only() -> None:
    assert interpret(TEAM, "V1") == Plain("V1", True, False, False)


def test_a_namespace_has_no_dot_and_at_most_three_levels() -> None:
    assert interpret(TEAM, "package.json") == Plain("package.json", True, True, False)
    third = TEAM.child("a").child("b")
    assert interpret(TEAM.child("a"), "b") == Plain("b", True, True, True)
    assert interpret(third, "c") == Plain("c", True, True, False)


def test_a_layout_is_one_repository() -> None:
    assert interpret(LAYOUT, "v1") == Plain("v1", True, False, False)
    assert interpret(LAYOUT, ":v1") == Targeted(LAYOUT, Target("v1"))
    assert interpret(LAYOUT, "other:v1") is None
    assert interpret(LAYOUT, ".oras") == Metadata()


def test_one_component_on_docker_hub_means_library() -> None:
    assert Place("docker.io", "alpine").repository == "library/alpine"
    assert Place("docker.io", "alpine/git").repository == "alpine/git"


def test_host_and_name_together_have_the_limit() -> None:
    place = Place("localhost:5000", "a" * 200)
    assert interpret(place, "b" * 60) == Plain("b" * 60, True, False, False)


def test_references_are_printed_with_the_full_name() -> None:
    assert Place("docker.io", "alpine").reference(Target("3", DIGEST)) == (
        f"docker.io/library/alpine:3@{DIGEST}"
    )
    assert LAYOUT.reference(Target("v1")) == "oci:/srv/layout:v1"


def test_fallback_tags_and_invalid_tags_are_not_listed() -> None:
    assert is_listed_tag("v1")
    assert not is_listed_tag("sha256-" + "0" * 64)
    assert not is_listed_tag("no tag")
    assert shadowed("b") == ":b"
