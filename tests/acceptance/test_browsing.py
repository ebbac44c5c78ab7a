"""Browsing a real registry: namespaces, repositories and tags, whatever the registry will list."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

MANY = 3000
MANIFEST = r"/manifests/"


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    """A registry with nested repositories, a tag named like one of them, and many tags."""
    with DockerRegistry() as registry:
        publish_files(registry, "a", "v1", **{"in-a.txt": b"a"})
        publish_files(registry, "a", "b", **{"tag-b.txt": b"the tag b of a"})
        publish_files(registry, "a/b", "v1", **{"in-ab.txt": b"ab"})
        publish_files(registry, "a/b/c", "v1", **{"in-abc.txt": b"abc"})
        publish_files(registry, "deep/er/than/three/levels", "v1", **{"deep.txt": b"deep"})
        publish_files(registry, "many", "t0000", **{"f.txt": b"many"})
        registry.tag("many", "t0000", *(f"t{number:04}" for number in range(1, MANY)))
        yield registry


@pytest.fixture
def front(registry: DockerRegistry) -> Iterator[Front]:
    with Front(registry.port) as front:
        yield front


def names(path: Path) -> list[str]:
    return run(["ls", path], timeout=60).stdout.split()


def text(path: Path) -> str:
    return run(["cat", path], timeout=60).stdout


def exists(path: Path | str) -> bool:
    done = run(["stat", "-c", "%F", str(path)], timeout=60, check=False)
    if done.returncode:
        assert "No such file or directory" in done.stderr, done.stderr
    return done.returncode == 0


def refuse(front: Front, catalog: str) -> None:
    """Make the front answer the catalog as registries do that will not show it."""
    if catalog == "401":
        front.override(r"^/v2/_catalog", status=401, body=b'{"errors":[{"code":"UNAUTHORIZED"}]}')
    elif catalog == "404":
        front.override(r"^/v2/_catalog", status=404, body=b"page not found")
    elif catalog == "empty":
        front.override(r"^/v2/_catalog", body=b'{"repositories": []}')
    elif catalog == "no tags":
        front.override(r"/tags/list", body=json.dumps({"name": "x", "tags": []}).encode())


def test_a_registry_with_a_catalog_is_listed(front: Front, tmp_path: Path) -> None:
    with Mounted(front.host, tmp_path) as mounted:
        assert names(mounted.path) == ["a", "deep", "many"]
        assert names(mounted.path / "a") == [":b", "b", "v1"]
        assert names(mounted.path / "a/b") == ["c", "v1"]
        assert names(mounted.path / "deep") == ["er"]
        deep = run(["find", mounted.path / "deep", "-type", "f"], timeout=60).stdout.split()
        assert deep == [f"{mounted.path}/deep/er/than/three/levels/v1/deep.txt"]


@pytest.mark.parametrize("catalog", ["full", "401", "404", "empty", "no tags"])
def test_every_name_is_found_whatever_is_listed(
    front: Front, tmp_path: Path, catalog: str
) -> None:
    refuse(front, catalog)
    with Mounted(front.host, tmp_path) as mounted:
        root = mounted.path
        assert text(root / "a/v1/in-a.txt") == "a"
        assert text(root / "a/b/c/v1/in-abc.txt") == "abc"
        assert text(root / "a/b/v1/in-ab.txt") == "ab"
        assert text(root / "a/:b/tag-b.txt") == "the tag b of a"
        assert text(root / "a:b/tag-b.txt") == "the tag b of a"
        assert text(root / "a/b:v1/in-ab.txt") == "ab"
        assert text(root / "many/t2999/f.txt") == "many"
        digest = run(["getfattr", "--only-values", "-n", "user.oras.digest", root / "a:v1"])
        assert text(root / f"a@{digest.stdout}/in-a.txt") == "a"
        assert text(root / f"a:v1@{digest.stdout}/in-a.txt") == "a"
        assert text(root / f"a/.oras/digests/{digest.stdout.replace(':', '/')}/in-a.txt") == "a"


@pytest.mark.parametrize("catalog", ["full", "401", "404", "empty", "no tags"])
def test_names_that_no_registry_has_do_not_exist(
    front: Front, tmp_path: Path, catalog: str
) -> None:
    refuse(front, catalog)
    with Mounted(front.host, tmp_path) as mounted:
        root = mounted.path
        for name in (
            *("package.json", ".git", "a.typo", "Makefile", "a/package.json", "a/.git"),
            *("a:nope", "a:", "a@sha256:1", "a/v1/nope", "a/v1/.git", "a/Nope"),
            *("new/name/space/four", "new/na.me", "with space", "-"),
        ):
            assert not exists(root / name), name


@pytest.mark.parametrize("catalog", ["full", "401", "empty"])
def test_a_name_that_is_not_proven_is_an_empty_namespace(
    front: Front, tmp_path: Path, catalog: str
) -> None:
    refuse(front, catalog)
    with Mounted(front.host, tmp_path) as mounted:
        assert names(mounted.path / "new/name/space") == []
        assert exists(mounted.path / "new/name")


def test_below_a_repository_an_unknown_name_does_not_exist(front: Front, tmp_path: Path) -> None:
    with Mounted(front.host, tmp_path) as mounted:
        assert not exists(mounted.path / "a/nothing")
        assert not exists(mounted.path / "a/b/nothing")


def test_with_a_complete_catalog_only_what_it_names_exists(front: Front, tmp_path: Path) -> None:
    with Mounted(front.host, tmp_path, "catalog=complete") as mounted:
        assert names(mounted.path) == ["a", "deep", "many"]
        assert not exists(mounted.path / "new")
        assert text(mounted.path / "a/b/v1/in-ab.txt") == "ab"


@pytest.mark.parametrize("command", [["ls", "--color=always"], ["ls", "-l"], ["ls", "-la"]])
def test_listing_many_tags_resolves_none(front: Front, tmp_path: Path, command: list[str]) -> None:
    with Mounted(front.host, tmp_path) as mounted:
        shown = run([*command, mounted.path / "many"], timeout=120).stdout
        assert f"t{MANY - 1:04}" in shown
        assert shown.count("t0") >= 1000
        assert front.count(path=MANIFEST) == 0
        # Once more, from names the kernel may have dropped: still nothing is resolved.
        run([*command, mounted.path / "many"], timeout=120)
        assert front.count(path=MANIFEST) == 0


def test_a_listing_shows_its_first_names_after_the_first_page(
    registry: DockerRegistry, tmp_path: Path
) -> None:
    pages = {
        r"/v2/many/tags/list$": (["p1", "p2"], "/v2/many/tags/list?page=2"),
        r"/v2/many/tags/list\?page=2$": (["p3"], None),
    }
    with Front(registry.port) as front:
        for path, (tags, following) in pages.items():
            headers = {"Link": f'<{following}>; rel="next"'} if following else {}
            front.override(path, headers=headers, body=json.dumps({"tags": tags}).encode())
        with Mounted(front.host, tmp_path) as mounted:
            assert names(mounted.path / "many") == ["p1", "p2", "p3"]


def test_a_stat_of_a_tag_is_one_head(front: Front, tmp_path: Path) -> None:
    with Mounted(f"{front.host}/a", tmp_path) as mounted:
        front.forget_requests()
        run(["stat", mounted.path / "v1"], timeout=60)
        assert front.count("HEAD", MANIFEST) == 1
        assert front.count("GET", MANIFEST) == 0
        front.forget_requests()
        run(["stat", mounted.path / "v1"], timeout=60)
        assert front.count() == 0


def test_probes_for_attributes_ask_nothing(front: Front, tmp_path: Path) -> None:
    with Mounted(f"{front.host}/many", tmp_path) as mounted:
        run(["ls", mounted.path], timeout=60)
        front.forget_requests()
        for name in ("security.capability", "system.posix_acl_access", "user.other"):
            run(["getfattr", "-n", name, mounted.path / "t0001"], check=False)
        assert front.count() == 0


def test_the_registries_root_finds_a_registry_by_its_address(front: Front, tmp_path: Path) -> None:
    with Mounted("registries", tmp_path, f"registry={front.host}") as mounted:
        assert names(mounted.path) == [front.host]
        assert text(mounted.path / front.host / "a/v1/in-a.txt") == "a"
        assert text(mounted.path / f"localhost:{front.port}" / "a:v1/in-a.txt") == "a"
        for name in (".git", "package.json", "typo.invalid", "nodots"):
            assert not exists(mounted.path / name), name


def test_one_artifact_can_be_the_mounts_root(front: Front, tmp_path: Path) -> None:
    with Mounted(f"{front.host}/a:v1", tmp_path) as mounted:
        assert names(mounted.path) == ["in-a.txt"]
        reference = text(mounted.path / ".oras/reference")
        assert reference.startswith(f"{front.host}/a:v1@sha256:")
