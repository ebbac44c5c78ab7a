"""References: the grammar of registries, repositories, tags and what follows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import InvalidName
from orasfs.oci.digest import Digest
from orasfs.oci.reference import (
    Reference,
    Target,
    is_component,
    is_referrers_tag,
    is_repository,
    is_tag,
    parse_registry,
    qualify,
    split_target,
)
from tests.support.fuzz import thousands

DIGEST = Digest.of(b"{}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:5000/team/hello", Reference("localhost:5000", "team/hello", Target())),
        ("localhost/hello:v1", Reference("localhost", "hello", Target("v1"))),
        (f"[::1]:5000/a@{DIGEST}", Reference("[::1]:5000", "a", Target(None, DIGEST))),
        (f"Example.COM/a/b:v1@{DIGEST}", Reference("example.com", "a/b", Target("v1", DIGEST))),
        ("docker.io/alpine:3", Reference("docker.io", "library/alpine", Target("3"))),
        ("docker.io/grafana/loki", Reference("docker.io", "grafana/loki", Target())),
    ],
)
def test_references_parse(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:5000",
        "localhost:5000/",
        "/hello",
        "localhost/Hello",
        "localhost/a//b",
        "localhost/a/",
        "localhost/.hidden",
        "localhost/a/../b",
        "localhost/hello:",
        "localhost/hello@",
        "localhost/hello:v1:v2",
        "localhost/hello@v1",
        "localhost/hello:-v1",
        f"localhost/hello@{DIGEST}:v1",
        "localhost/hello\n",
        "local host/hello",
        "localhost:0/hello",
        "localhost:65536/hello",
        "localhost:http/hello",
        "-host/hello",
        "host-/hello",
        "user@host/hello",
        "[::1/hello",
        "[:::]:5000/hello",
        "[1.2.3.4]/hello",
        f"{'a' * 64}.com/hello",
        f"localhost/{'a/' * 200}a",
    ],
)
def test_what_is_malformed_is_an_invalid_name(text: str) -> None:
    with pytest.raises(InvalidName):
        Reference.parse(text)


@pytest.mark.parametrize("name", ["a", "a1", "a.b", "a_b", "a__b", "a-b", "a---b", "0", "a/b/c-d"])
def test_valid_repositories(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize(
    "name", ["", "A", "a..b", "a___b", ".a", "a.", "-a", "a-", "a/", "/a", "a//b", "é", "a b"]
)
def test_invalid_repositories(name: str) -> None:
    assert not is_repository(name)


def test_a_component_has_no_slash() -> None:
    assert is_component("a-b")
    assert not is_component("a/b")


@pytest.mark.parametrize(
    ("tag", "is_valid"),
    [
        ("v1", True),
        ("_", True),
        ("V1.0-rc_2", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        (".v1", False),
        ("-v1", False),
        ("v1+build", False),
        ("ü", False),
        ("v1\n", False),
    ],
)
def test_tags(tag: str, *, is_valid: bool) -> None:
    assert is_tag(tag) is is_valid


@pytest.mark.parametrize(
    ("tag", "is_fallback"),
    [
        (f"sha256-{'0' * 64}", True),
        (f"sha512-{'a' * 64}", True),
        (f"sha256-{'0' * 63}", False),
        (f"sha256-{'0' * 64}.sig", False),
        ("v1", False),
    ],
)
def test_tags_of_the_referrers_schema(tag: str, *, is_fallback: bool) -> None:
    assert is_referrers_tag(tag) is is_fallback


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", ("hello", Target())),
        ("hello:v1", ("hello", Target("v1"))),
        (":v1", ("", Target("v1"))),
        (f"@{DIGEST}", ("", Target(None, DIGEST))),
        (f"hello:v1@{DIGEST}", ("hello", Target("v1", DIGEST))),
    ],
)
def test_a_target_is_split_from_any_name(text: str, expected: tuple[str, Target]) -> None:
    assert split_target(text) == expected


def test_host_names_are_lower_cased() -> None:
    assert parse_registry("GHCR.io:443") == "ghcr.io:443"


def test_only_docker_hub_has_a_library() -> None:
    assert qualify("docker.io", "alpine") == "library/alpine"
    assert qualify("docker.io", "a/b") == "a/b"
    assert qualify("quay.io", "alpine") == "alpine"


@thousands
@given(
    st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,4}){0,2}", fullmatch=True),
    st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)),
    st.one_of(st.none(), st.binary(max_size=8).map(Digest.of)),
)
def test_a_valid_reference_prints_as_it_was_parsed(
    name: str, tag: str | None, digest: Digest | None
) -> None:
    text = f"localhost:5000/{name}/x{Target(tag, digest)}"
    assert str(Reference.parse(text)) == text


@thousands
@given(
    st.text(st.one_of(st.sampled_from("abA0./:@-_[]"), st.characters(codec="utf-8")), max_size=80),
)
def test_any_text_parses_to_what_parses_the_same_or_is_an_invalid_name(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidName:
        return
    assert Reference.parse(str(reference)) == reference
    assert is_repository(reference.repository)
    assert ".." not in reference.repository.split("/")
